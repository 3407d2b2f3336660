// The runs by name: the list at the side, which is the legend too, and the table of where those that are shown stand.
import { at, h } from '../dom.js';
import { swatch } from './chart.js';
import * as format from './format.js';

const states = {
  running: 'Running', finished: 'Finished', preparing: 'Preparing', stopped: 'Stopped', diverged: 'Diverged', failed: 'Failed',
  stale: 'Broken off', unreadable: 'Cannot be read',
};

/** A run's state in a word. */
export const stateOf = (run) => states[run.state] ?? run.state;

const rows = new Map(); // id → the row of the list, which stays so that the focus does

/** Draws the list. slots: id → slot of those that are shown; toggle(id) and only(id) are called for what is clicked. */
export function drawList(runs, slots, toggle, only) {
  const here = new Set(runs.map((run) => run.id));
  for (const id of rows.keys()) if (!here.has(id)) rows.delete(id);
  const wanted = runs.map((run) => {
    if (!rows.has(run.id)) rows.set(run.id, row(run, toggle, only));
    const { element, update } = rows.get(run.id);
    update(run, slots.get(run.id) ?? null);
    return element;
  });
  const list = at('runs');
  // Elements are moved only where the order has changed: moving one takes the focus from it.
  if (wanted.length !== list.children.length || wanted.some((element, i) => list.children[i] !== element)) {
    const focused = document.activeElement;
    list.replaceChildren(...wanted);
    if (list.contains(focused)) focused.focus();
  }
}

function row(first, toggle, only) {
  const line = h('span', { class: 'run-line' });
  const name = h('span', { class: 'run-name', dir: 'auto' });
  const about = h('span', { class: 'run-about' });
  const show = h('button', { type: 'button', class: 'run', onclick: () => toggle(first.id) }, line, h('span', { class: 'run-text' }, name, about));
  const alone = h('button', { type: 'button', class: 'run-only', onclick: () => only(first.id) }, 'Only');
  const element = h('li', {}, show, alone);
  let drawn = '';
  return {
    element,
    update(run, slot) {
      const text = `${stateOf(run)}${run.state === 'running' ? ` · step ${format.count(run.step)}` : run.written ? ` · ${format.ago(run.written)}` : ''}`;
      const now = `${run.name} ${slot} ${text}`;
      if (now === drawn) return;
      drawn = now;
      name.textContent = run.name;
      about.textContent = text;
      line.replaceChildren(swatch(slot));
      element.className = `${slot === null ? '' : 'shown'} ${run.state}`;
      show.setAttribute('aria-pressed', String(slot !== null));
      show.title = run.name;
      alone.setAttribute('aria-label', `Show only ${run.name}`);
    },
  };
}

/** Draws the table of the runs that are shown. */
export function drawOverview(runs, slots) {
  const last = (name, write) => (run) => (run.last?.[name] === undefined ? null : [write(run.last[name]), '']);
  const columns = [
    ['Step', (run) => [format.count(run.step ?? 0), run.settings?.steps ? `of ${format.count(run.settings.steps)}` : '']],
    ['Tokens', (run) => (run.tokens === undefined ? null : [format.compact(run.tokens), run.settings?.tokens ? `of ${format.compact(run.settings.tokens)}` : ''])],
    ['Loss', last('loss', format.number)],
    ['Validation', last('val_loss', format.number)],
    ['Bits/byte', last('val_bpb', format.number)],
    ['Tokens/s', last('tokens_per_second', format.compact)],
    ['Memory', last('memory_bytes', format.bytes)],
    ['Trained', (run) => (run.seconds === undefined ? null : [format.duration(run.seconds), left(run)])],
  ];
  // What no run has is no column.
  const cells = columns.map(([title, write]) => [title, runs.map(write)]).filter(([title, all]) => title === 'Loss' || all.some((cell) => cell !== null));
  const text = JSON.stringify([cells, runs.map((run) => [run.id, run.name, run.state, run.reason, slots.get(run.id), run.progress, run.read, run.damaged_lines])]);
  if (at('overview').dataset.drawn === text) return;
  at('overview').dataset.drawn = text;
  // On a phone rows are laid out as cards, which would cost them their meaning without the roles.
  at('overview').replaceChildren(h('table', { role: 'table', 'aria-labelledby': 'overview-title' },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ...['Run', ...cells.map(([title]) => title)].map((title) => h('th', { scope: 'col', role: 'columnheader' }, title)))),
    h('tbody', { role: 'rowgroup' }, ...runs.map((run, i) => h('tr', { role: 'row' },
      h('th', { scope: 'row', role: 'rowheader' }, h('span', { class: 'overview-name' }, swatch(slots.get(run.id)), h('span', { dir: 'auto', title: run.name }, run.name)), about(run), progress(run)),
      ...cells.map(([title, all]) => h('td', { role: 'cell', 'data-title': title }, all[i]?.[0] ?? '–', all[i]?.[1] ? h('small', {}, all[i][1]) : null)))))));
}

function about(run) {
  const parts = [run.settings?.model, run.settings?.recipe, run.settings?.seed && `seed ${run.settings.seed}`].filter(Boolean);
  const reading = run.read < 1 ? [`reading, ${format.percent(run.read)}`] : [];
  const damaged = run.damaged_lines > 0 ? [`${format.count(run.damaged_lines)} damaged ${run.damaged_lines === 1 ? 'line' : 'lines'} left out`] : [];
  return h('span', { class: 'overview-about' }, h('span', { class: `state ${run.state}` }, stateOf(run)), ` ${[...parts, ...reading, ...damaged].join(' · ')}`, run.reason ? h('span', { class: 'reason', dir: 'auto' }, run.reason) : null);
}

function progress(run) {
  if (run.progress === null || run.progress === undefined || run.progress >= 1) return null;
  const bar = h('progress', { max: '1', 'aria-label': `Progress of ${run.name}` });
  bar.value = run.progress;
  return bar;
}

function left(run) {
  if (run.state !== 'running' || !(run.progress > 0.005) || run.progress >= 1) return '';
  return `${format.duration((run.seconds / run.progress) * (1 - run.progress))} left`;
}
