// The dashboard in a real Chromium: a run that trains while the page is open, and runs whose numbers the tests know. As chat.test.mjs, with
// FATHOM_PAGES_SHOTS=DIR and FATHOM_PAGES_DISK=1.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import path from 'node:path';
import { Chromium } from './chromium.mjs';
import { dashboard, door, run, temporary, train } from './servers.mjs';
import { faint, sticksOut, structure, unnamed } from './checks.mjs';
import { lines, load, make } from './runs.mjs';

const shots = process.env.FATHOM_PAGES_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });
const long = 'sweep/lr 3e-3, длинное имя прогона, 学習率スイープ, with every setting spelt out in its name';
const attack = 'x<img src=x onerror="window.broken = 1">';
let browser;
let server;
let front;
let growing;

before(async () => {
  const root = temporary('runs');
  mkdirSync(root);
  make(root, 'done', 300);
  make(root, long, 240, { loss: (step) => 1.8 + 5 / Math.sqrt(step) });
  make(root, 'dense', 200, { layers: 0, validateEvery: 0 });
  make(root, 'long', 12_000, { loss: (step) => (step === 7777 ? 50 : 3), loadsEvery: 1000 });
  make(root, attack, 10, { validateEvery: 0 });
  growing = make(root, 'growing', 400, { settings: { at: 100 } });
  server = await dashboard('--runs', root);
  front = await door(server.address);
  browser = await Chromium.start();
});
after(async () => {
  await browser?.close();
  front?.close();
  await server?.stop();
});

async function visit(address = front.address, { theme = 'light', width = 1280, height = 860, mobile = false } = {}) {
  const page = await browser.page();
  await page.theme(theme);
  await page.viewport(width, height, mobile);
  await page.open(`${address}/dashboard`);
  return page;
}

/** Shows just these runs. */
async function show(page, ...names) {
  await page.until((wanted) => {
    const rows = [...document.querySelectorAll('#runs li')];
    if (wanted.some((name) => !rows.some((row) => row.querySelector('.run-name').textContent === name))) return false;
    for (const row of rows) {
      const button = row.querySelector('.run');
      if ((button.getAttribute('aria-pressed') === 'true') !== wanted.includes(row.querySelector('.run-name').textContent)) button.click();
    }
    return rows.every((row) => (row.querySelector('.run').getAttribute('aria-pressed') === 'true') === wanted.includes(row.querySelector('.run-name').textContent));
  }, `${names} are shown`, names);
  await page.until((wanted) => {
    const label = document.querySelector('[data-chart=loss] .plot').getAttribute('aria-label') ?? '';
    const drawn = document.querySelector('[data-chart=loss] canvas');
    return document.querySelectorAll('#overview tbody tr').length === wanted.length && wanted.every((name) => label.includes(`${name}: `)) && label.split('; ').length === wanted.length && drawn.clientWidth > 0 && drawn.width === Math.round(drawn.clientWidth * devicePixelRatio);
  }, 'their charts are drawn', names);
  await nextFrame(page);
}

/** A chart that was hidden is drawn with the next frame, when it knows its width; until then its canvas holds what it showed before. */
const nextFrame = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve()))));

async function shot(page, name) {
  if (!shots) return;
  await new Promise((resolve) => setTimeout(resolve, 300));
  await page.screenshot(path.join(shots, `${name}.png`));
}

async function leave(page, allowed = /^$/) {
  assert.deepEqual(page.faults.filter((fault) => !allowed.test(fault)), [], 'nothing went wrong in the page');
  await page.close();
}

const said = () => document.getElementById('status').textContent;
const cells = () => Object.fromEntries([...document.querySelectorAll('#overview tbody td')].map((cell) => [cell.dataset.title, cell.innerText]));
const canvas = (name) => document.querySelector(`[data-chart="${name}"] canvas`).toDataURL();

test('with no runs it says what to start; a run that is started is shown live, to its end', async (t) => {
  const root = temporary('live');
  mkdirSync(root);
  const own = await dashboard('--runs', root);
  const page = await visit(own.address);
  try {
    await page.until(() => document.getElementById('welcome').checkVisibility() && document.getElementById('welcome').innerText.includes('fathom quickstart'), 'it says what to run');
    await shot(page, 'dashboard-empty');
    const training = train(path.join(root, 'live'), { seconds: 3, validate_every: 50, save_every: 0 });
    await page.until(() => [...document.querySelectorAll('.run-about')].some((e) => e.textContent.startsWith('Running · step')), 'the run is listed as running');
    await page.until(() => document.querySelector('[data-chart=loss] .plot')?.checkVisibility(), 'its loss is drawn');
    const [early, first] = [await page.evaluate(cells), await page.evaluate(canvas, 'loss')];
    assert.equal(await page.evaluate(() => document.getElementById('live').textContent), 'Live');
    await page.until((before) => document.querySelector('#overview [data-title=Step]').innerText !== before, 'the step goes on by itself', early.Step);
    assert.notEqual(await page.evaluate(canvas, 'loss'), first, 'the line goes on');
    await training.ended;
    await page.until(() => document.querySelector('.state.finished'), 'it is finished');
    const end = await page.evaluate(cells);
    t.diagnostic(`step ${early.Step}, loss ${early.Loss} when first seen; at the end ${JSON.stringify(end)}`);
    const number = (text) => Number(text.replaceAll(',', ''));
    assert.ok(number(end.Step) > number(early.Step) && Number(end.Loss) < 6.2 && Number(end.Validation) > 0 && Number(end['Bits/byte']) > 0);
    await page.until((step) => document.querySelector('.plot.heat')?.getAttribute('aria-label')?.startsWith(`Load of 8 experts in 1 layer at step ${step}.`), 'the loads of the last step are drawn', end.Step);
    await leave(page);
  } finally {
    await own.stop();
  }
});

test('several runs are compared; what one does not have is said; names are text', async () => {
  const page = await visit();
  await show(page, 'done', long, attack);
  const found = await page.evaluate(() => ({
    lines: [...document.querySelectorAll('#runs .shown .swatch path')].map((line) => [getComputedStyle(line).stroke, getComputedStyle(line).strokeDasharray]),
    names: [...document.querySelectorAll('#overview .overview-name')].map((e) => e.innerText), images: document.querySelectorAll('img').length, broken: window.broken ?? null,
    title: document.getElementById('title').textContent,
  }));
  assert.equal(new Set(found.lines.map(([color]) => color)).size, 3);
  assert.equal(new Set(found.lines.map(([, dash]) => dash)).size, 3, 'dashes differ too');
  assert.deepEqual(new Set(found.names), new Set(['done', long, attack]));
  assert.deepEqual([found.images, found.broken, found.title], [0, null, '3 runs compared']);
  await page.hover('[data-chart=loss] .plot', [0.5, 0.5]);
  await page.until(() => document.querySelector('[data-chart=loss] .tip').innerText.includes('done'), 'the values at the crosshair');
  await shot(page, 'dashboard-compared');

  await show(page, 'dense');
  await page.until(() => document.querySelector('[data-chart=val_loss] .nothing')?.checkVisibility(), 'it says that there is no validation');
  assert.match(await page.evaluate(() => document.getElementById('experts').innerText), /This model has no routed experts\./);
  assert.equal(await page.evaluate(() => document.querySelector('[data-chart="load_imbalance"]')), null);
  await show(page, attack);
  assert.match(await page.evaluate(() => document.getElementById('experts').innerText), /No loads have been written yet/);
  await page.click('#runs li:not(.shown) .run');
  await page.until(() => document.querySelectorAll('#runs .shown').length === 2, 'a click shows another');
  await page.reload();
  await page.until(() => document.querySelectorAll('#runs .shown').length === 2, 'the choice is kept');
  await leave(page);
});

test('zoom by dragging and by keys, reset, logarithm, smoothing, the other axes, a table', async () => {
  const page = await visit();
  await show(page, 'done');
  const all = await page.evaluate(canvas, 'loss');
  await page.drag('[data-chart=loss] .plot', [0.4, 0.5], [0.7, 0.5]);
  await page.until(() => !document.getElementById('reset').hidden && document.getElementById('range').value === 'zoom', 'it is zoomed');
  const [, low, high] = /^Shown from step ([\d.,]+) to step ([\d.,]+)$/.exec(await page.evaluate(said));
  assert.ok(Math.abs(Number(low) - 105) < 20 && Math.abs(Number(high) - 205) < 20, `${low} to ${high}`);
  const zoomed = await page.evaluate(canvas, 'loss');
  assert.notEqual(zoomed, all);
  await page.click('#reset');
  await page.until((before) => document.querySelector('[data-chart=loss] canvas').toDataURL() === before, 'all is shown as before', all);
  for (const [button, chart] of [['[data-chart=loss] .toggle', 'loss'], ['[data-axis=seconds]', 'grad_norm'], ['[data-axis=tokens]', 'grad_norm']]) {
    const before = await page.evaluate(canvas, chart);
    await page.click(button);
    await page.until((was, name) => document.querySelector(`[data-chart="${name}"] canvas`).toDataURL() !== was, `${button} draws it anew`, before, chart);
  }
  await page.click('[data-axis=steps]');
  await page.click('[data-chart=loss] .toggle');
  await page.evaluate(() => document.querySelector('[data-chart=loss] .plot').focus());
  await page.press('Home');
  assert.equal(await page.evaluate(said), 'step 1: 8');
  await page.press('ArrowRight');
  assert.equal(await page.evaluate(said), 'step 2: 6.243');
  await page.press('End');
  assert.equal(await page.evaluate(said), 'step 300: 2.346');
  await page.press('+');
  await page.until(() => document.getElementById('status').textContent.startsWith('Shown from'), 'plus zooms');
  await page.press('0');
  await page.until(() => document.getElementById('status').textContent === 'All is shown', 'zero shows all');
  await page.evaluate(() => document.getElementById('smoothing').focus());
  for (let i = 0; i < 3; i++) await page.press('End');
  await page.until((before) => document.getElementById('smoothing-value').textContent === '0.99' && document.querySelector('[data-chart=loss] canvas').toDataURL() !== before, 'the line is smoothed', all);
  await page.press('Home');
  await page.click('[data-chart=val_loss] [aria-expanded]');
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll('[data-chart=val_loss] tbody tr')].map((row) => row.innerText.replaceAll('\t', ' '))),
    [50, 100, 150, 200, 250, 300].map((step) => `${step} ${Number((2.1 + 6 / Math.sqrt(step)).toPrecision(4))}`));
  await leave(page);
});

test('a long run keeps its peak, and a part of it is read again step by step', async () => {
  const page = await visit();
  await show(page, 'long');
  const label = await page.evaluate(() => document.querySelector('[data-chart=loss] .plot').getAttribute('aria-label'));
  assert.match(label, /long: 3 at the end/);
  await page.hover('[data-chart=loss] .plot', [0.1 + 0.87 * (7777 / 12000), 0.5]);
  await page.until(() => document.querySelector('[data-chart=loss] .tip').innerText.length > 0, 'the values at the crosshair');
  for (let i = 0; i < 9 && !(await page.evaluate(() => document.querySelector('[data-chart=loss] .tip').innerText.includes('3 to 50'))); i++) await page.hover('[data-chart=loss] .plot', [0.1 + 0.87 * (7777 / 12000) + (i - 4) * 0.006, 0.5]);
  await page.evaluate(() => document.querySelector('[data-chart=loss] .plot').focus());
  for (let i = 0; i < 4; i++) await page.press('+');
  await page.click('[data-chart=loss] [aria-expanded]');
  await page.evaluate(() => document.querySelector('[data-chart=loss] .plot').focus());
  await page.until(() => {
    const label = document.querySelector('[data-chart=loss] .plot').getAttribute('aria-label');
    return /between 3 and 50/.test(label);
  }, 'zoomed in, the peak is a step of its own');
  await leave(page);
});

test('the load of experts is read by keys, at any step, and over time', async () => {
  const page = await visit();
  await show(page, 'done');
  await page.until(() => document.querySelector('.plot.heat')?.getAttribute('aria-label')?.startsWith('Load of 8 experts in 3 layers at step 300.'), 'the newest loads');
  const over = (step, layer, expert) => Number((load(step, layer, expert) / (Array.from({ length: 8 }, (_, e) => load(step, layer, e)).reduce((a, b) => a + b) / 8)).toPrecision(4));
  const text = (place, step, layer, expert) => `${place}: ${load(step, layer, expert)} tokens, ${over(step, layer, expert)} × the average`;
  await page.evaluate(() => document.querySelector('.plot.heat').focus());
  await page.press('ArrowRight');
  assert.equal(await page.evaluate(said), text('Layer 1, expert 0', 300, 1, 0));
  await page.press('ArrowDown');
  await page.press('End');
  assert.equal(await page.evaluate(said), text('Layer 2, expert 7', 300, 2, 7));
  assert.match(await page.evaluate(() => document.querySelector('.caption').textContent), /^Layer 2, expert by expert\. The busiest has .* Routing bias −0\.0125 to 0\.02\.$/);
  await page.evaluate(() => document.getElementById('expert-step').focus());
  await page.press('Home');
  await page.until(() => document.querySelector('.plot.heat').getAttribute('aria-label').includes('at step 20.'), 'the first loads');
  await page.evaluate(() => document.querySelector('.plot.heat').focus());
  await page.press('ArrowLeft');
  assert.equal(await page.evaluate(said), text('Layer 2, expert 6', 20, 2, 6));
  await page.click('[data-mode=time]');
  await page.until(() => document.querySelector('.plot.heat').getAttribute('aria-label').startsWith('Load of 8 experts of layer 2 at 15 steps, from 20 to 300.'), 'layer 2 over time');
  await page.evaluate(() => document.querySelector('.plot.heat').focus());
  await page.press('Home');
  assert.equal(await page.evaluate(said), text('Step 20, expert 1', 20, 2, 1));
  await page.click('#experts [aria-expanded]');
  assert.equal(await page.evaluate(() => document.querySelectorAll('#experts tbody tr').length), 15);
  await shot(page, 'dashboard-experts-over-time');
  await leave(page);
});

test('a run that grows goes on; one that is cut back by a resume is drawn anew', async () => {
  const page = await visit();
  await show(page, 'growing');
  growing.append(lines(101, 150));
  await page.until(() => document.querySelector('#overview [data-title=Step]').innerText.startsWith('150'), 'the new steps are there');
  growing.replace(lines(1, 120, { loss: () => 7 }));
  await page.until(() => document.querySelector('#overview [data-title=Step]').innerText.startsWith('120') && /growing: 7 at the end, between 7 and 7\b/.test(document.querySelector('[data-chart=loss] .plot').getAttribute('aria-label')), 'nothing is left of what was cut');
  growing.append('{"step":121,"loss":');
  growing.append(`6.5}\n${lines(122, 130)}`);
  await page.until(() => document.querySelector('#overview [data-title=Step]').innerText.startsWith('130'), 'and it goes on from there');
  await leave(page);
});

test('light and dark, desk and phone: contrast, names, structure, nothing sticks out', async (t) => {
  for (const [width, height, mobile, device] of [[1280, 860, false, 'desk'], [360, 740, true, 'phone']]) {
    const page = await visit(front.address, { width, height, mobile });
    await show(page, 'done', long, 'dense');
    await page.until(() => document.querySelector('.plot.heat')?.getAttribute('aria-label'), 'the loads are drawn');
    for (const theme of ['light', 'dark']) {
      await page.theme(theme);
      const check = async (state) => {
        const wrong = { faint: await faint(page), unnamed: await unnamed(page), sticksOut: await sticksOut(page, width), structure: await structure(page) };
        assert.deepEqual(wrong, { faint: [], unnamed: [], sticksOut: [], structure: [] }, `${device} ${theme} ${state}`);
        await shot(page, `dashboard-${device}-${theme}-${state}`);
      };
      await check('top');
      await page.evaluate(() => document.getElementById('experts').scrollIntoView());
      await check('experts');
      await page.evaluate(() => document.getElementById('main').scrollTo(0, 0));
      if (mobile) {
        await page.click('#sidebar-open');
        await check('list');
        await page.press('Escape');
        assert.equal(await page.evaluate(() => document.activeElement.id), 'sidebar-open');
      }
      // WCAG 2.2 §1.4.11: lines that carry meaning have a contrast of 3 with what lies behind them.
      const contrasts = await page.evaluate(() => {
        const probe = document.body.appendChild(document.createElement('i'));
        const luminance = (name) => {
          probe.style.color = `var(${name})`;
          const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = luminance('--surface');
        const all = Array.from({ length: 8 }, (_, i) => luminance(`--run-${i + 1}`)).map((one) => (Math.max(one, ground) + 0.05) / (Math.min(one, ground) + 0.05));
        probe.remove();
        return all;
      });
      assert.ok(Math.min(...contrasts) >= 3, `${theme}: ${contrasts.map((c) => c.toFixed(1))}`);
      t.diagnostic(`${device} ${theme}: contrast of the lines ${Math.min(...contrasts).toFixed(1)} to ${Math.max(...contrasts).toFixed(1)}`);
    }
    await leave(page);
  }
});

test('with the keyboard alone: first stop skips to the charts, then runs, tools and charts in their order', async () => {
  const page = await visit();
  await show(page, 'done');
  await page.evaluate(() => document.activeElement.blur());
  const order = [];
  for (let i = 0; i < 30; i++) {
    await page.press('Tab');
    order.push(await page.evaluate(() => {
      const element = document.activeElement;
      return element.className === 'plot' ? 'chart' : element.getAttribute('aria-label') ?? element.labels?.[0]?.firstChild.data.trim() ?? element.innerText.split('\n')[0];
    }));
  }
  const first = (name) => order.indexOf(name);
  const places = ['Skip to the charts', 'done', 'Theme', 'Steps', 'Tokens', 'Time', 'Smoothing', 'Range', 'Loss with powers of ten', 'Loss as a table', 'chart'].map(first);
  assert.ok(places.every((place) => place >= 0) && places.every((place, i) => i === 0 || place > places[i - 1]), order.join(' | '));
  assert.equal(order[0], 'Skip to the charts');
  await leave(page);
});

test('a server with keys asks for one; a server that is gone is said, and found again', async () => {
  const keys = temporary('dashboard-keys.db');
  const key = run('serve', 'keys', 'add', '--keys', keys, '--name', 'ann').trim();
  const guarded = await dashboard('--runs', temporary('runs'), '--keys', keys);
  const door2 = await door(guarded.address);
  try {
    const page = await visit(door2.address);
    await page.until(() => document.getElementById('notice').innerText.includes('asks for an API key'), 'it asks for a key');
    await page.click('#notice-key');
    await page.type(key);
    await page.press('Enter');
    await page.until(() => document.querySelectorAll('#runs li').length === 6, 'the runs are listed');
    door2.away(true);
    await page.until(() => document.getElementById('notice').innerText.includes('The server cannot be reached'), 'it says that the server is gone');
    door2.away(false);
    await page.click('#notice .button');
    await page.until(() => document.getElementById('notice').hidden, 'it is back');
    await leave(page, /401|Failed to load resource/);
  } finally {
    door2.close();
    await guarded.stop();
  }
});
