// Lines over steps, tokens or time, on a canvas: one below with the lines, one above with the crosshair, which moves on all charts together.
// By pointer: hover reads, dragging zooms, a double click shows all. By keys: arrows read, + and − zoom, 0 shows all. For those who see neither
// there is a summary as the chart's name, values as they are read, and a table.
import { h, icon } from '../dom.js';
import { nearest, smooth } from './data.js';
import { color, dashes, prepare, variable } from './palette.js';
import { logTicks, scale, ticks, timeTicks } from './scale.js';
import * as format from './format.js';

const margin = { right: 14, top: 8, bottom: 26 };
const narrowest = 30; // of the room for numbers at the left
const height = 208;
const rowsOfTable = 60;

/** How the axes are called and written. */
export const axes = {
  steps: { label: 'Steps', write: format.compact, one: (value) => `step ${format.count(value)}` },
  tokens: { label: 'Tokens', write: format.compact, one: (value) => `${format.compact(value)} tokens` },
  seconds: { label: 'Time', write: format.duration, one: (value) => `after ${format.duration(value)}` },
};

/** A chart. actions: {cursor(x or null), zoom([low, high] or null), say(text)}. */
export class LineChart {
  #about;
  #actions;
  #lines = [];
  #view = { axis: 'steps', domain: null, smoothing: 0, cursor: null };
  #log = false;
  #drag = null;
  #place = null; // {x, y}: the scales that were drawn with
  #width = 0;
  #left = narrowest;
  #shownTable = false;
  #isHere = false; // the crosshair is this chart's own, which then writes the values

  /** about: {name, title, note, write}. */
  constructor(about, actions) {
    this.#about = about;
    this.#actions = actions;
    this.base = h('canvas', { 'aria-hidden': 'true' });
    this.over = h('canvas', { 'aria-hidden': 'true' });
    this.tip = h('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' });
    this.plot = h('div', { class: 'plot', tabindex: '0', role: 'application', 'aria-roledescription': 'chart' }, this.base, this.over, this.tip);
    this.logButton = h('button', { type: 'button', class: 'toggle', 'aria-pressed': 'false', title: 'Powers of ten on the vertical axis', onclick: () => this.#toggleLog() }, 'Log');
    this.tableButton = h('button', { type: 'button', class: 'toggle', 'aria-expanded': 'false', 'aria-label': `${about.title} as a table`, title: 'The values as a table', onclick: () => this.#toggleTable() }, icon('table'));
    this.logButton.setAttribute('aria-label', `${about.title} with powers of ten`);
    this.empty = h('p', { class: 'nothing', hidden: true });
    this.table = h('div', { class: 'table-scroll values', hidden: true, tabindex: '0', role: 'region', 'aria-label': `${about.title}, table` });
    this.element = h('section', { class: 'card', 'data-chart': about.name },
      h('div', { class: 'card-head' }, h('h3', {}, about.title), h('span', { class: 'note' }, about.note ?? ''), this.logButton, this.tableButton),
      this.plot, this.empty, this.table);
    this.#listen();
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - this.#width) < 0.5) return;
      this.#width = entry.contentRect.width;
      this.draw();
    }).observe(this.plot);
  }

  /** Shows lines [{id, name, slot, x, mean, least, largest}] in a view {axis, domain, smoothing, cursor}; why says what to write where there are none. */
  show(lines, view, why) {
    this.#lines = lines.filter((line) => line.mean.some((value) => value !== null));
    this.#view = view;
    const none = this.#lines.length === 0;
    this.plot.hidden = none;
    this.empty.hidden = !none;
    this.logButton.hidden = none;
    this.tableButton.hidden = none;
    if (none) {
      this.empty.textContent = why;
      this.table.hidden = true;
      return;
    }
    for (const line of this.#lines) line.drawn = smooth(line.mean, view.smoothing);
    this.plot.setAttribute('aria-label', this.#summary());
    this.draw();
    if (this.#shownTable) this.#fillTable();
    this.table.hidden = !this.#shownTable;
  }

  /** Moves the crosshair. */
  cursor(x, isHere = false) {
    this.#view = { ...this.#view, cursor: x };
    this.#isHere = isHere;
    this.#drawOver();
  }

  draw() {
    if (this.plot.hidden || this.#width < 40) return;
    const width = this.#width;
    const context = prepare(this.base, width, height);
    const [low, high] = this.#domain();
    const log = this.#log && this.#lines.some((line) => line.drawn.some((value) => value > 0));
    const [bottom, top] = this.#values(low, high, log);
    const y = scale(bottom, top, height - margin.bottom, margin.top, log);
    const values = log ? logTicks(bottom, top, 5) : ticks(bottom, top, 5);
    context.font = `12px ${getComputedStyle(this.plot).fontFamily}`;
    this.#left = Math.max(narrowest, ...values.map((value) => context.measureText(this.#about.write(value)).width + 10));
    this.#place = { x: scale(low, high, this.#left, width - margin.right), y, low, high, log };
    this.#drawAxes(context, width, values);
    context.save();
    context.beginPath();
    context.rect(this.#left, margin.top - 4, width - this.#left - margin.right + 4, height - margin.top - margin.bottom + 8);
    context.clip();
    for (const line of this.#lines) this.#drawLine(context, line);
    context.restore();
    this.#drawOver();
  }

  #domain() {
    if (this.#view.domain) return this.#view.domain;
    const first = Math.min(...this.#lines.map((line) => line.x[0]));
    const last = Math.max(...this.#lines.map((line) => line.x.at(-1)));
    return last > first ? [first, last] : [first - 0.5, first + 0.5];
  }

  #values(low, high, log) {
    let bottom = Infinity;
    let top = -Infinity;
    for (const line of this.#lines) {
      for (let i = 0; i < line.x.length; i++) {
        if (line.mean[i] === null || line.x[i] < low || line.x[i] > high) continue;
        const [least, largest] = [line.least?.[i] ?? line.mean[i], line.largest?.[i] ?? line.mean[i]];
        if (!log || least > 0) bottom = Math.min(bottom, least, line.drawn[i]);
        if (!log || largest > 0) top = Math.max(top, largest, line.drawn[i]);
      }
    }
    if (!(top >= bottom)) return log ? [0.1, 1] : [0, 1];
    if (log) return top > bottom * 1.02 ? [bottom / 1.05, top * 1.05] : [bottom / 1.5, top * 1.5];
    // What barely moves should not look as if it did, and what starts near zero should start at zero.
    const spread = Math.max(top - bottom, Math.abs(top) * 0.02, 1e-12);
    const room = Math.max(spread * 0.06, (spread - (top - bottom)) / 2);
    return [bottom >= 0 && bottom - room < spread * 0.15 ? 0 : bottom - room, top + room];
  }

  #drawAxes(context, width, values) {
    const { x, y } = this.#place;
    const axis = axes[this.#view.axis];
    context.lineWidth = 1;
    const [ink, line] = [color('--muted'), color('--line')];
    const across = this.#view.axis === 'seconds' ? timeTicks : ticks;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const value of values) {
      const place = Math.round(y(value)) + 0.5;
      if (place < margin.top - 1 || place > height - margin.bottom + 1) continue;
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(this.#left, place);
      context.lineTo(width - margin.right, place);
      context.stroke();
      context.fillStyle = ink;
      context.fillText(this.#about.write(value), this.#left - 8, place);
    }
    context.textBaseline = 'top';
    let free = -Infinity;
    for (const value of across(this.#place.low, this.#place.high, Math.max(2, (width - this.#left) / 95))) {
      if (this.#view.axis !== 'seconds' && !Number.isInteger(value)) continue;
      const place = Math.round(x(value)) + 0.5;
      const text = axis.write(value);
      const half = context.measureText(text).width / 2;
      const middle = Math.min(Math.max(place, this.#left + half - 8), width - half - 2);
      if (middle - half < free) continue;
      free = middle + half + 14;
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(place, height - margin.bottom);
      context.lineTo(place, height - margin.bottom + 4);
      context.stroke();
      context.fillStyle = ink;
      context.textAlign = 'center';
      context.fillText(text, middle, height - margin.bottom + 8);
    }
  }

  #drawLine(context, line) {
    const { x, y, log } = this.#place;
    const paint = color(variable(line.slot));
    const can = (value) => value !== null && value !== undefined && (!log || value > 0);
    const path = (values, onward = 1, begun = false) => {
      let pen = begun;
      const order = onward > 0 ? values.keys() : [...values.keys()].reverse();
      for (const i of order) {
        if (!can(values[i])) continue;
        if (pen) context.lineTo(x(line.x[i]), y(values[i]));
        else context.moveTo(x(line.x[i]), y(values[i]));
        pen = true;
      }
    };
    context.strokeStyle = paint;
    context.fillStyle = paint;
    context.lineJoin = 'round';
    if (line.least) {
      context.globalAlpha = this.#lines.length > 3 ? 0.1 : 0.18;
      context.beginPath();
      path(line.largest);
      path(line.least, -1, true);
      context.fill();
    }
    context.setLineDash([]);
    if (this.#view.smoothing > 0) {
      context.globalAlpha = 0.28;
      context.lineWidth = 1;
      context.beginPath();
      path(line.mean);
      context.stroke();
    }
    context.globalAlpha = 1;
    context.lineWidth = 1.8;
    context.setLineDash(dashes[line.slot]);
    context.beginPath();
    path(line.drawn);
    context.stroke();
    context.setLineDash([]);
    const places = [...line.drawn.keys()].filter((i) => can(line.drawn[i]));
    if (places.length <= 40) {
      for (const i of places) {
        context.beginPath();
        context.arc(x(line.x[i]), y(line.drawn[i]), places.length === 1 ? 3.5 : 2.4, 0, 2 * Math.PI);
        context.fill();
      }
    }
  }

  #drawOver() {
    if (this.plot.hidden || !this.#place) return;
    const context = prepare(this.over, this.#width, height);
    const { x, y, low, high, log } = this.#place;
    if (this.#drag && Math.abs(this.#drag.to - this.#drag.from) > 3) {
      context.fillStyle = color('--accent');
      context.globalAlpha = 0.16;
      context.fillRect(Math.min(this.#drag.from, this.#drag.to), margin.top, Math.abs(this.#drag.to - this.#drag.from), height - margin.top - margin.bottom);
      context.globalAlpha = 1;
    }
    const cursor = this.#view.cursor;
    if (cursor === null || cursor < low || cursor > high) {
      this.tip.hidden = true;
      return;
    }
    const found = this.#at(cursor);
    const place = x(cursor);
    context.strokeStyle = color('--line-strong');
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(place) + 0.5, margin.top);
    context.lineTo(Math.round(place) + 0.5, height - margin.bottom);
    context.stroke();
    for (const { line, i } of found) {
      if (log && line.drawn[i] <= 0) continue;
      context.fillStyle = color(variable(line.slot));
      context.strokeStyle = color('--surface');
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x(line.x[i]), y(line.drawn[i]), 4.5, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
    this.#drawTip(found, place);
  }

  #drawTip(found, place) {
    this.tip.hidden = !this.#isHere || found.length === 0;
    if (this.tip.hidden) return;
    const axis = axes[this.#view.axis];
    this.tip.replaceChildren(
      h('div', { class: 'tip-head' }, axis.one(found[0].line.x[found[0].i])),
      ...found.map(({ line, i }) => h('div', { class: 'tip-row' }, swatch(line.slot), h('span', { class: 'tip-name', dir: 'auto' }, line.name), h('b', {}, this.#about.write(line.drawn[i])), this.#extent(line, i))));
    const half = this.tip.offsetWidth / 2;
    const left = place + 14 + half * 2 > this.#width ? place - 14 - half * 2 : place + 14;
    this.tip.style.translate = `${Math.max(2, Math.min(left, this.#width - half * 2 - 2))}px 6px`;
  }

  #extent(line, i) {
    const spread = line.least && line.least[i] !== line.largest[i];
    if (!spread && this.#view.smoothing === 0) return null;
    return h('span', { class: 'tip-extent' }, spread ? `${this.#about.write(line.least[i])} to ${this.#about.write(line.largest[i])}` : this.#about.write(line.mean[i]));
  }

  /** The point of each line that is nearest to a place and has a value. */
  #at(cursor) {
    const found = [];
    const reach = (this.#place.high - this.#place.low) * 0.06;
    for (const line of this.#lines) {
      const middle = nearest(line.x, cursor);
      let best = -1;
      for (let away = 0; away < line.x.length && best < 0; away++) {
        const near = [middle - away, middle + away].filter((i) => i >= 0 && i < line.x.length);
        if (near.length === 0) break;
        best = near.find((i) => line.drawn[i] !== null) ?? -1;
      }
      if (best >= 0 && Math.abs(line.x[best] - cursor) <= reach) found.push({ line, i: best });
    }
    return found;
  }

  #listen() {
    const place = (event) => event.clientX - this.plot.getBoundingClientRect().left;
    const clamp = (at) => Math.min(Math.max(at, this.#left), this.#width - margin.right);
    const read = (event) => {
      if (!this.#place) return;
      this.#actions.cursor(this.#place.x.invert(clamp(place(event))));
      this.cursor(this.#place.x.invert(clamp(place(event))), true);
    };
    this.plot.addEventListener('pointermove', (event) => {
      if (this.#drag) this.#drag.to = clamp(place(event));
      read(event);
    });
    this.plot.addEventListener('pointerdown', (event) => {
      // A finger reads; it could not scroll the page otherwise.
      if (event.pointerType !== 'touch' && event.button === 0 && place(event) >= this.#left - 6) {
        this.#drag = { from: clamp(place(event)), to: clamp(place(event)) };
        this.plot.setPointerCapture(event.pointerId);
      }
      read(event);
    });
    this.plot.addEventListener('pointerup', () => {
      const drag = this.#drag;
      this.#drag = null;
      if (drag && Math.abs(drag.to - drag.from) > 6) {
        const ends = [drag.from, drag.to].map((at) => this.#place.x.invert(at)).sort((a, b) => a - b);
        this.#actions.zoom(ends);
      }
    });
    for (const name of ['pointerleave', 'pointercancel']) {
      this.plot.addEventListener(name, () => {
        if (name === 'pointercancel') this.#drag = null;
        if (!this.#drag) this.#leave();
      });
    }
    this.plot.addEventListener('dblclick', () => this.#actions.zoom(null));
    this.plot.addEventListener('blur', () => this.#leave());
    this.plot.addEventListener('keydown', (event) => this.#key(event));
  }

  #leave() {
    this.#actions.cursor(null);
    this.tip.hidden = true;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#place) return;
    const { low, high } = this.#place;
    const middle = this.#view.cursor ?? (low + high) / 2;
    const zoom = (factor) => this.#actions.zoom([middle - (middle - low) * factor, middle + (high - middle) * factor]);
    switch (event.key) {
      case 'ArrowLeft': this.#step(event.shiftKey ? -10 : -1); break;
      case 'ArrowRight': this.#step(event.shiftKey ? 10 : 1); break;
      case 'Home': this.#step(-Infinity); break;
      case 'End': this.#step(Infinity); break;
      case '+': case '=': zoom(0.5); break;
      case '-': case '_': zoom(2); break;
      case '0': this.#actions.zoom(null); break;
      case 'Escape': this.#leave(); break;
      default: return;
    }
    event.preventDefault();
  }

  /** Goes along the longest line, over points that have a value. */
  #step(by) {
    const { low, high } = this.#place;
    const longest = this.#lines.toSorted((a, b) => b.x.length - a.x.length)[0];
    const points = longest.x.filter((value, i) => longest.mean[i] !== null && value >= low && value <= high);
    if (points.length === 0) return;
    const now = this.#view.cursor === null ? (by > 0 ? -1 : points.length) : nearest(points, this.#view.cursor);
    const x = points[Math.min(Math.max(now + by, 0), points.length - 1)];
    this.#actions.cursor(x);
    this.cursor(x, true);
    this.#actions.say(`${axes[this.#view.axis].one(x)}: ${this.#at(x).map(({ line, i }) => `${this.#lines.length > 1 ? `${line.name} ` : ''}${this.#about.write(line.drawn[i])}`).join(', ')}`);
  }

  #summary() {
    const parts = this.#lines.map((line) => {
      const values = line.mean.filter((value) => value !== null);
      const least = values.reduce((a, b) => Math.min(a, b));
      const largest = values.reduce((a, b) => Math.max(a, b));
      return `${line.name}: ${this.#about.write(values.at(-1))} at the end, between ${this.#about.write(least)} and ${this.#about.write(largest)}`;
    });
    return `${this.#about.title}. ${parts.join('; ')}. Arrow keys read values, plus and minus zoom, zero shows all.`;
  }

  #toggleLog() {
    this.#log = !this.#log;
    this.logButton.setAttribute('aria-pressed', String(this.#log));
    this.draw();
  }

  #toggleTable() {
    this.#shownTable = !this.#shownTable;
    this.tableButton.setAttribute('aria-expanded', String(this.#shownTable));
    this.table.hidden = !this.#shownTable;
    if (this.#shownTable) this.#fillTable();
  }

  #fillTable() {
    const [low, high] = this.#domain();
    const longest = this.#lines.toSorted((a, b) => b.mean.filter((v) => v !== null).length - a.mean.filter((v) => v !== null).length)[0];
    const points = longest.x.filter((value, i) => longest.mean[i] !== null && value >= low && value <= high);
    const chosen = points.filter((_, i) => i % Math.ceil(points.length / rowsOfTable) === 0 || i === points.length - 1);
    const axis = axes[this.#view.axis];
    this.table.replaceChildren(h('table', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, axis.label), ...this.#lines.map((line) => h('th', { scope: 'col', dir: 'auto' }, line.name)))),
      h('tbody', {}, ...chosen.map((x) => {
        const found = new Map(this.#at(x).map(({ line, i }) => [line, i]));
        return h('tr', {}, h('th', { scope: 'row' }, axis.write(x)), ...this.#lines.map((line) => h('td', {}, found.has(line) ? this.#about.write(line.mean[found.get(line)]) : '–')));
      }))));
  }
}

/** The line of a run as its legend shows it. */
export function swatch(slot) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 28 12');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('swatch');
  if (slot === null) return svg;
  const line = document.createElementNS(space, 'path');
  line.setAttribute('d', 'M1 6h26');
  line.style.stroke = `var(${variable(slot)})`;
  line.style.strokeDasharray = dashes[slot].join(' ');
  svg.append(line);
  return svg;
}
