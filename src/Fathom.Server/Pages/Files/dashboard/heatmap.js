// A matrix of loads as colours: blue is less than the average, orange more, by powers of two. A cell is read by pointer or by arrow keys.
import { h } from '../dom.js';
import { color, prepare, rgb } from './palette.js';

const margin = { left: 46, right: 10, top: 22, bottom: 24 };
const stops = ['--heat-1', '--heat-2', '--heat-3', '--heat-4', '--heat-5'];

/** A heat map. actions: {focus(row, column), pick(row), say(text)}. */
export class HeatMap {
  #shown = null;
  #at = null; // the cell that is read, [row, column]
  #width = 0;
  #actions;
  #image = document.createElement('canvas');

  constructor(actions) {
    this.#actions = actions;
    this.base = h('canvas', { 'aria-hidden': 'true' });
    this.over = h('canvas', { 'aria-hidden': 'true' });
    this.tip = h('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' });
    this.plot = h('div', { class: 'plot heat', tabindex: '0', role: 'application', 'aria-roledescription': 'heat map' }, this.base, this.over, this.tip);
    this.legend = h('canvas', { class: 'heat-legend', 'aria-hidden': 'true' });
    this.element = h('div', {}, this.plot, this.legend);
    this.plot.addEventListener('pointermove', (event) => this.#point(event));
    this.plot.addEventListener('pointerdown', (event) => {
      this.#point(event);
      if (this.#at) this.#actions.pick(...this.#at);
    });
    this.plot.addEventListener('pointerleave', () => { this.tip.hidden = true; });
    this.plot.addEventListener('blur', () => { this.tip.hidden = true; });
    this.plot.addEventListener('keydown', (event) => this.#key(event));
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - this.#width) < 0.5) return;
      this.#width = entry.contentRect.width;
      this.draw();
    }).observe(this.plot);
  }

  /** Shows {label, values: rows of loads over the average, rowNames, columnNames, rowTitle, columnTitle, describe(row, column)}. */
  show(shown) {
    this.#shown = shown;
    this.plot.setAttribute('aria-label', `${shown.label} Arrow keys read cells, Enter chooses one.`);
    if (this.#at && (this.#at[0] >= shown.values.length || this.#at[1] >= shown.values[0].length)) this.#at = null;
    this.#paint();
    this.draw();
  }

  /** Powers of two that the colours reach to. */
  get reach() {
    let most = 1;
    for (const row of this.#shown.values) for (const value of row) most = Math.max(most, value > 0 ? Math.abs(Math.log2(value)) : 3);
    return Math.min(3, Math.ceil(most));
  }

  /** The colours as an image of one pixel a cell, which is then drawn larger. */
  #paint() {
    const { values } = this.#shown;
    const colors = stops.map(rgb);
    const reach = this.reach;
    [this.#image.width, this.#image.height] = [values[0].length, values.length];
    const context = this.#image.getContext('2d');
    const image = context.createImageData(values[0].length, values.length);
    let at = 0;
    for (const row of values) {
      for (const value of row) {
        image.data.set(mix(colors, value > 0 ? Math.log2(value) / reach : -1), at);
        image.data[at + 3] = 255;
        at += 4;
      }
    }
    context.putImageData(image, 0, 0);
  }

  get #height() {
    const rows = this.#shown.values.length;
    return margin.top + margin.bottom + Math.min(Math.max(rows * 18, 54), Math.max(220, Math.min(rows * 9, 520)));
  }

  /** Draws anew, after the theme has changed too. */
  draw(repaint = false) {
    if (!this.#shown || this.#width < 40) return;
    if (repaint) this.#paint();
    const [width, height] = [this.#width, this.#height];
    this.plot.style.height = `${height}px`;
    const context = prepare(this.base, width, height);
    const { values, rowNames, columnNames, columnTitle, rowTitle } = this.#shown;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#image, margin.left, margin.top, width - margin.left - margin.right, height - margin.top - margin.bottom);
    const [cellWidth, cellHeight] = this.#cell();
    if (Math.min(cellWidth, cellHeight) >= 9) {
      context.strokeStyle = color('--surface');
      context.lineWidth = 1;
      context.beginPath();
      for (let c = 1; c < values[0].length; c++) line(context, margin.left + c * cellWidth, margin.top, 0, height - margin.top - margin.bottom);
      for (let r = 1; r < values.length; r++) line(context, margin.left, margin.top + r * cellHeight, width - margin.left - margin.right, 0);
      context.stroke();
    }
    context.font = `12px ${getComputedStyle(this.plot).fontFamily}`;
    context.fillStyle = color('--muted');
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    const strideDown = [1, 2, 5, 10, 20, 50, 100].find((one) => one * cellHeight >= 14) ?? values.length;
    for (let r = 0; r < values.length; r += strideDown) context.fillText(rowNames[r], margin.left - 7, margin.top + (r + 0.5) * cellHeight);
    context.textBaseline = 'top';
    context.textAlign = 'center';
    const widest = Math.max(context.measureText(columnNames[0]).width, context.measureText(columnNames.at(-1)).width) + 10;
    const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((one) => one * cellWidth >= widest) ?? columnNames.length;
    for (let c = 0; c < columnNames.length; c += stride) {
      const middle = margin.left + (c + 0.5) * cellWidth;
      if (middle + widest / 2 <= width + 10) context.fillText(columnNames[c], middle, height - margin.bottom + 7);
    }
    context.textAlign = 'right';
    context.fillText(`${columnTitle} →`, width - margin.right, 3);
    context.textAlign = 'left';
    context.fillText(`${rowTitle} ↓`, 0, 3);
    this.#drawLegend();
    this.#drawOver();
  }

  #cell() {
    const { values } = this.#shown;
    return [(this.#width - margin.left - margin.right) / values[0].length, (this.#height - margin.top - margin.bottom) / values.length];
  }

  #drawLegend() {
    const width = Math.min(340, this.#width);
    const height = 40;
    this.legend.style.width = `${width}px`;
    const context = prepare(this.legend, width, height);
    const colors = stops.map(rgb);
    const reach = this.reach;
    const [from, to] = [14, width - 14];
    for (let x = from; x < to; x++) {
      context.fillStyle = `rgb(${mix(colors, ((x - from) / (to - from)) * 2 - 1).join(',')})`;
      context.fillRect(x, 2, 1.5, 12);
    }
    context.font = `12px ${getComputedStyle(this.plot).fontFamily}`;
    context.fillStyle = color('--muted');
    context.strokeStyle = color('--line-strong');
    context.textBaseline = 'top';
    context.textAlign = 'center';
    const names = { '-3': '⅛', '-2': '¼', '-1': '½', 0: 'average', 1: '2 ×', 2: '4 ×', 3: '8 ×' };
    for (let power = -reach; power <= reach; power++) {
      const x = Math.round(from + ((power / reach + 1) / 2) * (to - from)) + 0.5;
      context.beginPath();
      line(context, x, power === 0 ? 0 : 11, 0, power === 0 ? 17 : 6);
      context.stroke();
      context.fillText(names[power], x, 21);
    }
  }

  #drawOver() {
    const context = prepare(this.over, this.#width, this.#height);
    if (!this.#at) return;
    const [row, column] = this.#at;
    const [cellWidth, cellHeight] = this.#cell();
    context.strokeStyle = color('--ink');
    context.lineWidth = 2;
    context.strokeRect(margin.left + column * cellWidth - 1, margin.top + row * cellHeight - 1, Math.max(cellWidth, 3) + 2, Math.max(cellHeight, 3) + 2);
  }

  #point(event) {
    if (!this.#shown) return;
    const box = this.plot.getBoundingClientRect();
    const [cellWidth, cellHeight] = this.#cell();
    const column = Math.floor((event.clientX - box.left - margin.left) / cellWidth);
    const row = Math.floor((event.clientY - box.top - margin.top) / cellHeight);
    const { values } = this.#shown;
    if (row < 0 || column < 0 || row >= values.length || column >= values[0].length) {
      this.tip.hidden = true;
      return;
    }
    this.#read(row, column);
  }

  #read(row, column) {
    const moved = this.#at?.[0] !== row || this.#at?.[1] !== column;
    this.#at = [row, column];
    if (moved) this.#actions.focus(row, column);
    this.#drawOver();
    const [cellWidth, cellHeight] = this.#cell();
    this.tip.textContent = this.#shown.describe(row, column);
    this.tip.hidden = false;
    const [x, y] = [margin.left + (column + 0.5) * cellWidth, margin.top + row * cellHeight];
    const [w, t] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const above = y - t - 8;
    this.tip.style.translate = `${Math.max(2, Math.min(x - w / 2, this.#width - w - 2))}px ${above >= 0 ? above : y + cellHeight + 8}px`;
  }

  #key(event) {
    if (!this.#shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const { values } = this.#shown;
    const [row, column] = this.#at ?? [0, -1];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] };
    if (moves[event.key]) {
      const clamp = (value, end) => Math.min(Math.max(value, 0), end - 1);
      const [r, c] = [clamp(row + moves[event.key][0], values.length), clamp(column + moves[event.key][1], values[0].length)];
      this.#read(r, c);
      this.#actions.say(this.#shown.describe(r, c));
    } else if (event.key === 'Enter' && this.#at) {
      this.#actions.pick(...this.#at);
    } else if (event.key === 'Escape') {
      this.tip.hidden = true;
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** Bars of one row with the average as a line. */
export class Profile {
  #values = null;
  #width = 0;
  #mark = -1;

  constructor() {
    this.canvas = h('canvas', { 'aria-hidden': 'true' });
    this.element = h('div', { class: 'plot profile' }, this.canvas);
    new ResizeObserver(([entry]) => {
      this.#width = entry.contentRect.width;
      this.draw();
    }).observe(this.element);
  }

  /** Shows loads over their average; one may be marked. */
  show(values, mark = -1) {
    [this.#values, this.#mark] = [values, mark];
    this.draw();
  }

  draw() {
    if (!this.#values || this.#width < 40) return;
    const height = 116;
    const [left, right, top, bottom] = [margin.left, margin.right, 8, 8];
    const context = prepare(this.canvas, this.#width, height);
    const most = Math.max(1.5, ...this.#values) * 1.06;
    const each = (this.#width - left - right) / this.#values.length;
    const y = (value) => height - bottom - (value / most) * (height - top - bottom);
    const [bar, marked] = [color('--run-1'), color('--ink')];
    const gap = each >= 5 ? 1 : 0;
    this.#values.forEach((value, i) => {
      context.fillStyle = i === this.#mark ? marked : bar;
      context.fillRect(left + i * each + gap / 2, y(value), Math.max(each - gap, 0.7), height - bottom - y(value));
    });
    context.strokeStyle = color('--ink');
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.beginPath();
    line(context, left, Math.round(y(1)) + 0.5, this.#width - left - right, 0);
    context.stroke();
    context.setLineDash([]);
    context.font = `12px ${getComputedStyle(this.element).fontFamily}`;
    context.fillStyle = color('--muted');
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const value of [0, 1, ...(most >= 2 ? [Math.floor(most)] : [])]) context.fillText(value === 1 ? 'mean' : value === 0 ? '0' : `${value} ×`, left - 7, y(value));
  }
}

function line(context, x, y, dx, dy) {
  context.moveTo(x, y);
  context.lineTo(x + dx, y + dy);
}

/** A colour between the stops, for −1 to 1. */
function mix(colors, place) {
  const at = ((Math.min(1, Math.max(-1, place)) + 1) / 2) * (colors.length - 1);
  const low = Math.min(Math.floor(at), colors.length - 2);
  return colors[low].map((value, i) => Math.round(value + (colors[low + 1][i] - value) * (at - low)));
}
