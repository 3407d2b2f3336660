// How evenly the experts are used: all layers at a step, or one layer over time; below, one row of it as bars with the average.
import { at, h, icon } from '../dom.js';
import { HeatMap, Profile } from './heatmap.js';
import { experts } from './api.js';
import * as format from './format.js';

const times = 160; // columns of a layer over time

/** The section. say(text) tells those who listen, fail(error) of what went wrong. */
export class Experts {
  #runs = [];
  #run = null; // the id that is shown
  #mode = 'layers';
  #step = null; // null: the newest
  #layer = null;
  #loads = null; // the answer of all layers at a step
  #history = null; // the answer of one layer over time
  #known = ''; // what has been asked for
  #asking = null;
  #say;
  #fail;
  #tableShown = false;

  constructor(say, fail) {
    [this.#say, this.#fail] = [say, fail];
    this.runChoice = h('select', { id: 'expert-run', onchange: () => this.#choose({ run: this.runChoice.value }) });
    this.runLabel = h('label', { class: 'tool', for: 'expert-run' }, 'Run ', this.runChoice);
    this.modes = Object.entries({ layers: 'All layers', time: 'One layer over time' }).map(([mode, text]) =>
      h('button', { type: 'button', class: 'segment', 'aria-pressed': 'false', 'data-mode': mode, onclick: () => this.#choose({ mode }) }, text));
    this.stepSlider = h('input', { id: 'expert-step', type: 'range', min: '0', max: '0', step: '1', oninput: () => this.#slide() });
    this.stepValue = h('output', { for: 'expert-step' });
    this.stepTool = h('label', { class: 'tool wide-tool', for: 'expert-step' }, 'Step ', this.stepSlider, this.stepValue);
    this.layerChoice = h('select', { id: 'expert-layer', onchange: () => this.#choose({ layer: Number(this.layerChoice.value) }) });
    this.layerTool = h('label', { class: 'tool', for: 'expert-layer' }, 'Layer ', this.layerChoice);
    this.tableButton = h('button', { type: 'button', class: 'toggle', 'aria-expanded': 'false', 'aria-label': 'Load of experts as a table', title: 'A table of the layers', onclick: () => this.#toggleTable() }, icon('table'));
    this.map = new HeatMap({ focus: (row, column) => this.#focus(row, column), pick: (row, column) => this.#pick(row, column), say });
    this.profile = new Profile();
    this.caption = h('p', { class: 'caption' });
    this.empty = h('p', { class: 'nothing' });
    this.table = h('div', { class: 'table-scroll values', hidden: true, tabindex: '0', role: 'region', 'aria-label': 'Load of experts, table' });
    this.tools = h('div', { class: 'tools inner', role: 'group', 'aria-label': 'What is shown of the experts' }, this.runLabel, h('div', { class: 'segments', role: 'group', 'aria-label': 'View' }, ...this.modes), this.stepTool, this.layerTool);
    this.body = h('div', {}, this.tools, this.map.element, this.caption, this.profile.element, this.table);
    at('experts').append(
      h('h2', { id: 'experts-title' }, 'Load of experts'),
      h('div', { class: 'card', 'data-chart': 'experts' },
        h('div', { class: 'card-head' }, h('h3', {}, 'Tokens that chose each expert, over the average of the layer'), h('span', { class: 'note' }), this.tableButton),
        this.body, this.empty));
  }

  /** The runs that are shown, as the list has them. */
  update(runs) {
    this.#runs = runs;
    const able = runs.filter((run) => run.expert_steps > 0);
    const shown = able.find((run) => run.id === this.#run) ?? able[0] ?? null;
    if (this.#run !== (shown?.id ?? null)) this.#forget(shown?.id ?? null);
    at('experts').hidden = runs.length === 0;
    this.body.hidden = shown === null;
    this.tableButton.hidden = shown === null;
    this.empty.hidden = shown !== null;
    if (shown === null) {
      this.empty.textContent = this.#why(runs);
      return;
    }
    const options = able.map((run) => `${run.id} ${run.name}`).join('\n');
    if (this.runChoice.dataset.options !== options) {
      this.runChoice.dataset.options = options;
      this.runChoice.replaceChildren(...able.map((run) => h('option', { value: run.id }, run.name)));
    }
    this.runChoice.value = shown.id;
    this.runLabel.hidden = able.length < 2;
    this.#load();
  }

  /** Draws anew, after the theme has changed. */
  draw() {
    this.map.draw(true);
    this.profile.draw();
  }

  #why(runs) {
    const one = runs.length === 1;
    if (runs.every((run) => run.step === 0)) return one ? 'The run has no steps yet.' : 'The runs have no steps yet.';
    if (runs.every((run) => run.last?.load_imbalance === undefined)) return one ? 'This model has no routed experts.' : 'None of these models has routed experts.';
    return 'No loads have been written yet. They come every ten steps, and more rarely for models with many experts (expert_load_every in the configuration).';
  }

  #forget(run) {
    [this.#run, this.#step, this.#layer, this.#loads, this.#history, this.#known] = [run, null, null, null, null, ''];
  }

  #choose({ run = this.#run, mode = this.#mode, layer = this.#layer }) {
    if (run !== this.#run) this.#forget(run);
    if (layer !== this.#layer) this.#history = null;
    [this.#mode, this.#layer] = [mode, layer];
    this.#load();
    this.#draw();
  }

  #slide() {
    const steps = this.#loads?.steps ?? [];
    const place = Number(this.stepSlider.value);
    this.#step = place >= steps.length - 1 ? null : steps[place];
    this.stepValue.textContent = format.count(steps[place] ?? 0);
    this.#load();
  }

  /** Asks for what is to be shown and not there yet; only the last question counts. */
  async #load() {
    const run = this.#runs.find((one) => one.id === this.#run);
    if (!run) return;
    const overTime = this.#mode === 'time' && this.#layer !== null;
    const wanted = [run.id, overTime ? `layer ${this.#layer}` : `step ${this.#step ?? 'newest'}`, run.last_expert_step].join(' ');
    if (wanted === this.#known) return;
    this.#known = wanted;
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
    try {
      const reply = await experts(run.id, overTime ? { layer: this.#layer, points: times } : { step: this.#step }, asking.signal);
      if (this.#asking !== asking) return;
      if (overTime) this.#history = reply;
      else this.#loads = reply;
      this.#layer ??= reply.layers?.[0] ?? null;
      this.#draw();
    } catch (error) {
      if (error.name === 'AbortError') return;
      this.#known = '';
      this.#fail(error);
    }
  }

  #draw() {
    const overTime = this.#mode === 'time';
    for (const button of this.modes) button.setAttribute('aria-pressed', String(button.dataset.mode === this.#mode));
    this.stepTool.hidden = overTime;
    this.layerTool.hidden = !overTime;
    const loads = this.#loads;
    if (loads && loads.load.length > 0) {
      this.stepSlider.max = String(Math.max(0, loads.steps.length - 1));
      const place = this.#step === null ? loads.steps.length - 1 : loads.steps.findLastIndex((step) => step <= this.#step);
      if (document.activeElement !== this.stepSlider) this.stepSlider.value = String(Math.max(0, place));
      this.stepValue.textContent = `${format.count(loads.step)}${this.#step === null ? ', the newest' : ''}`;
      this.stepSlider.setAttribute('aria-valuetext', this.stepValue.textContent);
      const layers = loads.layers.join(' ');
      if (this.layerChoice.dataset.layers !== layers) {
        this.layerChoice.dataset.layers = layers;
        this.layerChoice.replaceChildren(...loads.layers.map((layer) => h('option', { value: layer }, String(layer))));
      }
      this.layerChoice.value = String(this.#layer);
    }
    const shown = overTime ? this.#history : loads;
    if (!shown || shown.load.length === 0) return;
    if (overTime) this.#drawHistory(shown);
    else this.#drawLayers(shown);
  }

  #drawLayers(loads) {
    const values = loads.load.map(overAverage);
    this.map.show({
      label: `Load of ${count(loads.load[0].length, 'expert')} in ${count(loads.layers.length, 'layer')} at step ${format.count(loads.step)}.`,
      values, rowNames: loads.layers.map(String), columnNames: loads.load[0].map((_, i) => String(i)), rowTitle: 'Layer', columnTitle: 'Expert',
      describe: (row, column) => describe(`Layer ${loads.layers[row]}, expert ${column}`, loads.load[row][column], values[row][column]),
    });
    this.#drawProfile();
    if (this.#tableShown) this.#fillTable();
  }

  #drawHistory(history) {
    const rows = history.load[0].length;
    const columns = history.load.map(overAverage);
    const values = Array.from({ length: rows }, (_, expert) => columns.map((one) => one[expert]));
    this.map.show({
      label: `Load of ${count(rows, 'expert')} of layer ${history.layer} at ${count(columns.length, 'step')}, from ${format.count(history.steps[0])} to ${format.count(history.steps.at(-1))}.`,
      values, rowNames: values.map((_, i) => String(i)), columnNames: history.steps.map(format.compact), rowTitle: 'Expert', columnTitle: 'Step',
      describe: (row, column) => describe(`Step ${format.count(history.steps[column])}, expert ${row}`, history.load[column][row], values[row][column]),
    });
    this.#drawProfile(history.steps.length - 1);
    if (this.#tableShown) this.#fillTable();
  }

  #drawProfile(column = null, mark = -1) {
    if (this.#mode === 'time') {
      const history = this.#history;
      const which = column ?? history.steps.length - 1;
      this.profile.show(overAverage(history.load[which]), mark);
      this.caption.textContent = `Layer ${history.layer} at step ${format.count(history.steps[which])}, expert by expert. ${uneven(history.load[which])}`;
      return;
    }
    const row = Math.max(0, this.#loads.layers.indexOf(this.#layer));
    this.profile.show(overAverage(this.#loads.load[row]), mark);
    const bias = this.#loads.bias?.[row];
    this.caption.textContent = `Layer ${this.#loads.layers[row]}, expert by expert. ${uneven(this.#loads.load[row])}${bias ? ` Routing bias ${format.number(bias[0])} to ${format.number(bias[1])}.` : ''}`;
  }

  #focus(row, column) {
    if (this.#mode === 'time') this.#drawProfile(column, row);
    else {
      this.#layer = this.#loads.layers[row];
      this.#drawProfile(null, column);
    }
  }

  /** A layer that is chosen is followed over time. */
  #pick(row) {
    if (this.#mode === 'layers') {
      this.#layer = this.#loads.layers[row];
      this.layerChoice.value = String(this.#layer);
      this.#history = null;
    }
  }

  #toggleTable() {
    this.#tableShown = !this.#tableShown;
    this.tableButton.setAttribute('aria-expanded', String(this.#tableShown));
    this.table.hidden = !this.#tableShown;
    if (this.#tableShown) this.#fillTable();
  }

  #fillTable() {
    const overTime = this.#mode === 'time';
    const shown = overTime ? this.#history : this.#loads;
    if (!shown) return;
    const names = overTime ? shown.steps : shown.layers;
    this.table.replaceChildren(h('table', {},
      h('thead', {}, h('tr', {}, ...[overTime ? 'Step' : 'Layer', 'Average', 'Largest', 'of expert', 'Least', 'of expert', 'Largest / average', 'Unused'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, ...shown.load.map((load, i) => {
        const [largest, least] = [Math.max(...load), Math.min(...load)];
        const cells = [format.number(mean(load)), format.count(largest), load.indexOf(largest), format.count(least), load.indexOf(least), format.number(largest / mean(load)), load.filter((one) => one === 0).length];
        return h('tr', {}, h('th', { scope: 'row' }, format.count(names[i])), ...cells.map((cell) => h('td', {}, String(cell))));
      }))));
  }
}

const mean = (load) => load.reduce((a, b) => a + b, 0) / load.length || 1;
const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

function overAverage(load) {
  const average = mean(load);
  return load.map((one) => one / average);
}

function describe(place, tokens, over) {
  return `${place}: ${tokens === 0 ? 'no tokens' : `${format.count(tokens)} ${tokens === 1 ? 'token' : 'tokens'}, ${format.number(over)} × the average`}`;
}

function uneven(load) {
  const unused = load.filter((one) => one === 0).length;
  return `The busiest has ${format.number(Math.max(...load) / mean(load))} × the average, the idlest ${format.number(Math.min(...load) / mean(load))} ×${unused > 0 ? `; ${count(unused, 'expert')} got no token` : ''}.`;
}
