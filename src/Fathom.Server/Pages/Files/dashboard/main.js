// The dashboard: which runs there are, which of them are shown, and what their charts show. The server is asked again every two seconds while
// something trains and somebody looks.
import { announce, at, h, icon, copyText } from '../dom.js';
import { initDrawer } from '../drawer.js';
import { ApiError } from '../http.js';
import * as kept from '../kept.js';
import { initTheme } from '../theme-choice.js';
import { list, metrics } from './api.js';
import { axes, LineChart } from './chart.js';
import { RunData } from './data.js';
import { Experts } from './experts.js';
import * as format from './format.js';
import { most } from './palette.js';
import { drawList, drawOverview, stateOf } from './runs.js';

const oftenMs = 2000;
const seldomMs = 6000;
const spokenMs = 20_000;

// Series that are known by name; others follow under their own.
const known = [
  ['Learning', [
    { name: 'loss', title: 'Loss', note: 'nats a token', write: format.number, none: 'No steps yet.' },
    { name: 'val_loss', title: 'Validation loss', note: 'nats a token, held-out text', write: format.number, none: 'No validation: nothing is held out, or none has come yet.' },
    { name: 'val_bpb', title: 'Bits per byte', note: 'held-out text', write: format.number },
    { name: 'mtp_loss.1', title: 'Loss of the next but one token', note: 'MTP, nats', write: format.number },
    { name: 'mtp_accuracy.1', title: 'Right drafts', note: 'MTP, share', write: format.percent },
    { name: 'balance_loss', title: 'Balance loss', note: 'without α', write: format.number },
  ]],
  ['Optimisation', [
    { name: 'lr', title: 'Learning rate', write: format.number, none: 'No steps yet.' },
    { name: 'grad_norm', title: 'Gradient norm', note: 'before clipping', write: format.number, none: 'No steps yet.' },
    { name: 'load_imbalance', title: 'Load imbalance', note: 'largest over mean, the worst layer', write: format.number },
  ]],
  ['Machine', [
    { name: 'tokens_per_second', title: 'Tokens per second', write: format.compact, none: 'No steps yet.' },
    { name: 'memory_bytes', title: 'Memory', note: 'of the process', write: format.bytes, none: 'No steps yet.' },
    { name: 'peak_share', title: 'Share of the peak', note: 'model FLOPs', write: format.percent },
  ]],
];
const hidden = new Set(['total_loss']); // the same as the loss, but for its small parts

let runs = [];
let slots = new Map(kept.get('dashboard.slots') ?? []); // id → slot; the order is that of choosing
let chosen = slots.size > 0; // whether somebody chose, or the page did
let data = new Map(); // id → RunData
let fine = new Map(); // id → {key, data}: what was read again of a narrow range
let charts = [];
let groups = '';
let timer = 0;
let spoken = { text: '', at: 0 };
let asking = null; // for fine data
let failed = false; // the notice tells of the server
const view = { axis: kept.get('dashboard.axis') ?? 'steps', domain: null, cursor: null, range: 'all', smoothing: kept.get('dashboard.smoothing') ?? 0 };
if (!axes[view.axis]) view.axis = 'steps';

const drawer = initDrawer();
const experts = new Experts(announce, fail);
initTheme(() => {
  for (const { chart } of charts) chart.draw();
  experts.draw();
});
initTools();
initCommands();
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
// A display of another density needs other pixels.
addEventListener('resize', () => { for (const { chart } of charts) chart.draw(); });
refresh();

async function refresh() {
  clearTimeout(timer);
  let wait = seldomMs;
  try {
    const reply = await list();
    if (failed) hideNotice();
    runs = reply.runs;
    at('to-chat').hidden = !reply.chat;
    choose();
    const changed = (await Promise.all(shown().map(load))).some(Boolean);
    draw(changed);
    if (changed && view.range !== 'all') refine();
    if (runs.some((run) => run.read < 1)) wait = 250;
    else if (runs.length === 0 || runs.some((run) => run.state === 'running' || run.state === 'preparing')) wait = oftenMs;
    drawLive();
  } catch (error) {
    at('live').textContent = '';
    fail(error);
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, wait);
}

const shown = () => [...slots.keys()].map((id) => runs.find((run) => run.id === id)).filter(Boolean);

/** Runs that are gone are not shown; where nobody chose, what trains is, or else the newest. */
function choose() {
  const here = new Set(runs.map((run) => run.id));
  for (const id of [...slots.keys()]) if (!here.has(id)) slots.delete(id);
  if (slots.size > 0 && chosen) return;
  const training = runs.filter((run) => run.state === 'running').slice(0, 4);
  const wanted = training.length > 0 ? training : runs.slice(0, 1);
  if (slots.size === 0 || training.some((run) => !slots.has(run.id))) {
    chosen = false;
    slots.clear();
    for (const run of wanted) give(run.id);
  }
}

/** Gives a run the first free colour. */
function give(id) {
  if (slots.has(id)) return true;
  const taken = new Set(slots.values());
  const free = Array.from({ length: most }, (_, i) => i).find((slot) => !taken.has(slot));
  if (free === undefined) return false;
  slots.set(id, free);
  return true;
}

function toggle(id) {
  const name = runs.find((run) => run.id === id)?.name ?? '';
  if (slots.has(id)) {
    slots.delete(id);
    data.delete(id);
    announce(`${name} is not shown any more`);
  } else if (give(id)) announce(`${name} is shown`);
  else {
    notice(`${most} runs are shown, which is as many as can be told apart. Hide one first.`);
    return;
  }
  keepChoice();
}

function only(id) {
  slots = new Map([[id, slots.get(id) ?? 0]]);
  drawer.close();
  keepChoice();
}

function keepChoice() {
  chosen = slots.size > 0;
  kept.set('dashboard.slots', chosen ? [...slots] : null);
  zoom(null);
  draw(true);
  refresh();
}

/** Gets what is new of a run. */
async function load(run) {
  if (!data.has(run.id)) data.set(run.id, new RunData());
  const own = data.get(run.id);
  if (own.steps.at(-1) === run.step && own.cursor !== '' && run.state === 'finished') return false;
  return own.take(await metrics(run.id, { after: own.cursor, points: 1000 }));
}

/** Draws everything; the charts only where their data or view has changed. */
function draw(changed) {
  const now = shown();
  at('welcome').hidden = runs.length > 0;
  at('board').hidden = runs.length === 0;
  at('runs-hint').hidden = runs.length < 2;
  drawList(runs, slots, toggle, only);
  if (runs.length === 0) return;
  drawOverview(now, slots);
  at('title').textContent = now.length === 1 ? now[0].name : now.length === 0 ? 'Training runs' : `${now.length} runs compared`;
  document.title = `${at('title').textContent} – Fathom`;
  build();
  if (changed) drawCharts();
  experts.update(now);
  speak(now);
}

/** Makes the charts that the series ask for. */
function build() {
  const names = new Set([...slots.keys()].flatMap((id) => [...(data.get(id)?.series.keys() ?? [])]));
  const others = [...names].filter((name) => !hidden.has(name) && !known.some(([, all]) => all.some((about) => about.name === name))).sort();
  const wanted = [...known.map(([title, all]) => [title, all.filter((about) => about.none || names.has(about.name))]), ['More', others.map((name) => ({ name, title: name, write: format.number }))]].filter(([, all]) => all.length > 0);
  const key = JSON.stringify(wanted.map(([title, all]) => [title, all.map((about) => about.name)]));
  if (key === groups) return;
  groups = key;
  const old = new Map(charts.map((one) => [one.about.name, one]));
  charts = [];
  at('charts').replaceChildren(...wanted.map(([title, all]) => h('section', { class: 'group', 'aria-label': title },
    h('h2', {}, title),
    h('div', { class: 'grid' }, ...all.map((about) => {
      const one = old.get(about.name) ?? { about, chart: new LineChart(about, { cursor: moveCursor, zoom, say: announce }) };
      charts.push(one);
      return one.chart.element;
    })))));
  drawCharts();
}

function drawCharts() {
  view.domain = domain();
  for (const { about, chart } of charts) chart.show(lines(about.name), view, about.none ?? 'No values.');
}

function lines(name) {
  return shown().filter((run) => data.has(run.id)).map((run) => {
    const one = data.get(run.id);
    const source = covering(run.id) ?? one;
    const series = source.series.get(name);
    return { id: run.id, name: run.name, slot: slots.get(run.id), x: source.along(view.axis), mean: series?.mean ?? [], least: series?.least ?? null, largest: series?.largest ?? null };
  });
}

function moveCursor(x) {
  view.cursor = x;
  for (const { chart } of charts) chart.cursor(x);
}

/** The part of the horizontal axis that is shown; null for all. */
function domain() {
  if (view.range === 'zoom') return view.domain;
  if (view.range === 'all') return null;
  const all = [...slots.keys()].map((id) => data.get(id)?.along(view.axis) ?? []).filter((x) => x.length > 1);
  if (all.length === 0) return null;
  const [first, last] = [Math.min(...all.map((x) => x[0])), Math.max(...all.map((x) => x.at(-1)))];
  return [last - (last - first) * Number(view.range), last];
}

/** Shows a part; null shows all. */
function zoom(ends) {
  const all = shown().map((run) => data.get(run.id)?.along(view.axis) ?? []).filter((x) => x.length > 0);
  if (ends && all.length > 0) {
    const [first, last] = [Math.min(...all.map((x) => x[0])), Math.max(...all.map((x) => x.at(-1)))];
    const [low, high] = [Math.max(ends[0], first), Math.min(ends[1], last)];
    if (low <= first && high >= last) ends = null;
    else if (high > low) ends = [low, high];
    else return;
  }
  view.range = ends ? 'zoom' : 'all';
  view.domain = ends;
  at('range').querySelector('[value=zoom]').hidden = !ends;
  at('range').value = view.range;
  changeView();
  announce(ends ? `Shown from ${axes[view.axis].one(ends[0])} to ${axes[view.axis].one(ends[1])}` : 'All is shown');
}

function changeView() {
  // The button may be what has the focus.
  if (view.range === 'all' && document.activeElement === at('reset')) at('range').focus();
  at('reset').hidden = view.range === 'all';
  drawCharts();
  refine();
}

const fineKey = (id) => {
  const range = domain();
  return range ? `${data.get(id)?.stepsBetween(view.axis, ...range).join(' ')}` : '';
};

/** What was read again, where it covers what is shown: all but the newest of a run that goes on. */
function covering(id) {
  const range = domain();
  const finer = fine.get(id)?.data;
  if (!range || !finer) return null;
  const [from, to] = data.get(id).stepsBetween(view.axis, ...range);
  return finer.from <= from && finer.steps.at(-1) >= to - (to - from) * 0.1 ? finer : null;
}

/** A narrow part of a long run is read again, in finer buckets. */
async function refine() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const range = domain();
  if (!range) {
    fine.clear();
    return;
  }
  await new Promise((resolve) => setTimeout(resolve, 120));
  for (const run of shown()) {
    const one = data.get(run.id);
    if (signal.aborted || !one || one.bucket === 1) continue;
    const key = fineKey(run.id);
    if (fine.get(run.id)?.key === key) continue;
    try {
      const [from, to] = one.stepsBetween(view.axis, ...range);
      const reply = await metrics(run.id, { from, to, points: 1000 }, signal);
      if (reply.bucket >= one.bucket) continue;
      const finer = new RunData();
      finer.take(reply);
      finer.from = from;
      fine.set(run.id, { key, data: finer });
      drawCharts();
    } catch (error) {
      if (error.name === 'AbortError') return;
      fail(error);
    }
  }
}

function initTools() {
  at('axes').append(...Object.entries(axes).map(([axis, { label }]) => h('button', { type: 'button', class: 'segment', 'data-axis': axis, 'aria-pressed': String(axis === view.axis), onclick: () => setAxis(axis) }, label)));
  const smoothing = at('smoothing');
  smoothing.value = String(view.smoothing);
  at('smoothing-value').textContent = view.smoothing;
  smoothing.addEventListener('input', () => {
    view.smoothing = Number(smoothing.value);
    at('smoothing-value').textContent = view.smoothing;
    kept.set('dashboard.smoothing', view.smoothing);
    drawCharts();
  });
  at('range').addEventListener('change', () => {
    view.range = at('range').value;
    at('range').querySelector('[value=zoom]').hidden = view.range !== 'zoom';
    changeView();
  });
  at('reset').addEventListener('click', () => zoom(null));
  // A line below the tools while something is under them.
  new IntersectionObserver(([entry]) => document.querySelector('.tools').classList.toggle('stuck', !entry.isIntersecting), { root: at('main') }).observe(document.querySelector('.overview'));
}

function setAxis(axis) {
  view.axis = axis;
  kept.set('dashboard.axis', axis);
  for (const button of at('axes').children) button.setAttribute('aria-pressed', String(button.dataset.axis === axis));
  if (view.range === 'zoom') zoom(null);
  else changeView();
}

function initCommands() {
  const commands = [['fathom quickstart', 'a small model on real text, in about three minutes'], ['fathom train --data PATH', 'on text of your own; runs come to runs/']];
  at('commands').append(...commands.map(([command, what]) => {
    const copy = h('button', { type: 'button', class: 'copy-command', 'aria-label': `Copy ${command}` }, icon('copy'));
    copy.addEventListener('click', async () => announce(await copyText(command) ? 'Copied' : 'The browser does not allow copying'));
    return h('div', { class: 'command' }, h('code', {}, command), copy, h('span', {}, what));
  }));
}

/** What a look would tell, for those who listen: now and then, and when a run changes its state. */
function speak(now) {
  const state = now.map((run) => `${run.name} ${stateOf(run)}`).join();
  const values = now.map((run) => `${run.name}: ${stateOf(run)}${run.step > 0 ? `, step ${format.count(run.step)}` : ''}${run.last?.loss === undefined ? '' : `, loss ${format.number(run.last.loss)}`}${run.last?.val_loss === undefined ? '' : `, validation ${format.number(run.last.val_loss)}`}`).join('. ');
  if (values === spoken.text || (state === spoken.state && Date.now() - spoken.at < spokenMs)) return;
  spoken = { text: values, state, at: Date.now() };
  announce(values);
}

function drawLive() {
  const training = runs.filter((run) => run.state === 'running').length;
  at('live').textContent = training === 0 ? '' : training === 1 ? 'Live' : `Live, ${training} runs`;
}

function fail(error) {
  if (!(error instanceof ApiError)) {
    notice(`Something went wrong in the page: ${error.message}`);
    throw error;
  }
  failed = true;
  if (error.kind !== 'key') {
    notice(error.message, h('button', { type: 'button', class: 'button', onclick: refresh }, 'Try again'));
    return;
  }
  if (document.getElementById('notice-key')) return; // somebody may be typing
  const key = h('input', { type: 'password', id: 'notice-key', autocomplete: 'off', spellcheck: 'false', placeholder: 'sk-…' });
  const use = () => {
    kept.set('key', key.value.trim() || null);
    hideNotice();
    refresh();
  };
  key.addEventListener('keydown', (event) => { if (event.key === 'Enter') use(); });
  notice(kept.get('key') ? 'The server does not know this API key.' : 'This server asks for an API key.',
    h('label', { class: 'hidden', for: 'notice-key' }, 'API key'), key, h('button', { type: 'button', class: 'button', onclick: use }, 'Use the key'));
}

function notice(text, ...actions) {
  at('notice').replaceChildren(h('span', { class: 'notice-text' }, text), ...actions);
  at('notice').hidden = false;
}

function hideNotice() {
  failed = false;
  at('notice').replaceChildren();
  at('notice').hidden = true;
}
