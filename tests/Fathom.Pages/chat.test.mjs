// The chat page in a real Chromium, on a real server. One command, no network: node --test tests/Fathom.Pages
// FATHOM_PAGES_SHOTS=DIR keeps pictures of the page; FATHOM_PAGES_DISK=1 takes the pages from the working tree.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Chromium } from './chromium.mjs';
import { door, run, serve, temporary } from './servers.mjs';
import { faint, sticksOut, structure, unnamed } from './checks.mjs';

const shots = process.env.FATHOM_PAGES_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });
let browser;
let server;
let front;

before(async () => {
  server = await serve();
  front = await door(server.address);
  browser = await Chromium.start();
});
after(async () => {
  await browser?.close();
  front?.close();
  await server?.stop();
});

const field = '#composer-text';
const answers = () => [...document.querySelectorAll('.assistant')].map((e) => ({ text: e.querySelector('.body').innerText, busy: e.getAttribute('aria-busy'), numbers: e.querySelector('.numbers')?.innerText ?? '', end: e.querySelector('.end')?.innerText ?? '' }));
const questions = () => [...document.querySelectorAll('.said')].map((e) => e.innerText);
const finished = (count) => {
  const all = [...document.querySelectorAll('.assistant')];
  return all.length === count && all.every((e) => e.getAttribute('aria-busy') === 'false') && !document.getElementById('send').hidden;
};

/** A new page of a new person. */
async function visit(address = front.address) {
  const page = await browser.page();
  await page.theme('light');
  await page.open(address);
  return page;
}

async function ready(page) {
  await page.until(() => document.getElementById('model').textContent !== '', 'the model is known');
}

async function ask(page, text) {
  await page.click(field);
  await page.type(text);
  await page.press('Enter');
}

async function shot(page, name) {
  if (shots) await page.screenshot(path.join(shots, `${name}.png`));
}

async function leave(page, allowed = /^$/) {
  assert.deepEqual(page.faults.filter((fault) => !allowed.test(fault)), [], 'nothing went wrong in the page');
  await page.close();
}

test('the real model answers with its numbers; a second question hits the cache; an answer that reached its length goes on', async (t) => {
  const page = await visit(server.address);
  await ready(page);
  await page.evaluate(() => {
    window.lengths = new Set();
    new MutationObserver(() => window.lengths.add(document.querySelector('.assistant .body')?.textContent.length)).observe(document.getElementById('log'), { subtree: true, childList: true, characterData: true });
  });
  await page.click('#settings-open');
  await page.click('#set-max-tokens');
  await page.type('150');
  await page.click('#set-seed');
  await page.type('7');
  await page.press('Escape');
  const long = 'the model reads a token and writes an answer '.repeat(8);
  await ask(page, long);
  await page.until(finished, 'the answer is complete', 1);
  const [first] = await page.evaluate(answers);
  t.diagnostic(`${first.numbers}; drawn in ${await page.evaluate(() => window.lengths.size)} lengths`);
  assert.match(first.numbers, /^\d+ tokens? · ([\d.,]+ tokens\/s · )?first after [\d.]+ s · 0 of \d+ prompt tokens from the cache · quickstart$/);
  assert.ok(first.text.length > 0 || first.numbers.startsWith('1 token '), 'an answer has text, unless the model ended it with its first token');
  await ask(page, 'and then?');
  await page.until(finished, 'the second answer is complete', 2);
  const second = (await page.evaluate(answers))[1];
  t.diagnostic(second.numbers);
  const hits = Number(/(\d+) of \d+ prompt/.exec(second.numbers)[1]);
  assert.ok(hits >= 64, 'the first blocks come from the cache');
  if (second.end) {
    assert.equal(second.end, 'The answer reached its longest length.');
    await page.click('.assistant:last-child .text-button');
    await page.until((before) => !document.getElementById('send').hidden && (document.querySelector('.assistant:last-child .numbers')?.innerText ?? before) !== before, 'it goes on', second.numbers);
    const [, more] = await page.evaluate(answers);
    t.diagnostic(`${more.numbers}; ${second.text.length} characters became ${more.text.length}`);
    assert.ok(more.text.length > second.text.length || !more.end, 'the answer grew, or the model ended it with its next token');
  } else t.diagnostic('the second answer ended by itself');
  await leave(page);
});

test('an answer streams, is stopped, keeps what came, and goes on from there', async () => {
  const page = await visit();
  await ready(page);
  let held;
  front.script((reply) => {
    held = reply;
    reply.delta({ content: 'One, two,' });
  });
  await ask(page, 'Count.');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('One, two,'), 'the first piece is shown');
  assert.equal((await page.evaluate(answers))[0].busy, 'true');
  held.delta({ content: ' three' });
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('three'), 'the second piece is shown while the answer runs');
  await shot(page, 'streaming');
  await page.click('#stop');
  await page.until(finished, 'the answer ends', 1);
  let [answer] = await page.evaluate(answers);
  assert.match(answer.text, /^One, two, three/);
  assert.equal(answer.end, 'Stopped.');
  front.script((reply) => reply.whole(', four.'));
  await page.click('.text-button');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('three, four.'), 'the answer goes on');
  assert.deepEqual(front.asked.at(-1).messages.at(-1), { role: 'assistant', content: 'One, two, three', prefix: true });
  [answer] = await page.evaluate(answers);
  assert.equal(answer.end, '');
  await leave(page);
});

test('messages are edited and answered again; every version stays; a reload and the list bring all of it back', async () => {
  const page = await visit();
  await ready(page);
  front.script((reply) => reply.whole('Paris.'));
  await ask(page, 'Capital of France?');
  await page.until(finished, 'the answer is there', 1);
  front.script((reply) => reply.whole('Paris, on the Seine.'));
  await page.click('[aria-label="Answer again"]');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('Seine'), 'the second version');
  await page.click('[aria-label="Edit the message and go on from there"]');
  await page.evaluate(() => document.querySelector('.edit textarea').select());
  await shot(page, 'edit');
  await page.type('Capital of Italy?');
  front.script((reply) => reply.whole('Rome.'));
  await page.press('Enter');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('Rome.'), 'the edited question is answered');
  assert.deepEqual(front.asked.at(-1).messages, [{ role: 'user', content: 'Capital of Italy?' }]);
  await page.reload();
  await page.until(finished, 'the conversation is back', 1);
  assert.deepEqual(await page.evaluate(questions), ['Capital of Italy?']);
  await page.click('.user [aria-label="Previous version"]');
  await page.until(() => document.querySelector('.said')?.innerText === 'Capital of France?', 'the first question');
  assert.match((await page.evaluate(answers))[0].text, /Seine/);
  await page.click('.assistant [aria-label="Previous version"]');
  await page.until(() => document.querySelector('.assistant .body')?.innerText.trim() === 'Paris.', 'the first answer');

  await page.click('#new');
  await page.until(() => document.querySelectorAll('.message').length === 0, 'a new conversation is empty');
  front.script((reply) => reply.whole('Hello.'));
  await ask(page, 'Hi <b>there</b>');
  await page.until(finished, 'it is answered', 1);
  await page.click('li.current summary');
  await shot(page, 'menu');
  await page.click('li.current .menu-items button:first-child');
  await page.evaluate(() => document.querySelector('.rename input').select());
  await page.type('Greetings');
  await page.press('Enter');
  await page.until(() => document.getElementById('title').textContent === 'Greetings', 'it has its new name');
  await page.reload();
  await page.until(() => document.querySelectorAll('.conversation').length === 2 && document.getElementById('title').textContent === 'Greetings', 'both are there, the last one open');
  await page.click('li.current summary');
  await page.click('li.current .danger');
  await page.until(() => document.querySelectorAll('.conversation').length === 1 && document.querySelector('.said')?.innerText === 'Capital of France?', 'it is gone, the other one is open');
  await leave(page);
});

const scripts = [
  '<script>window.broken = 1</script>', '<img src=x onerror="window.broken = 2">', '<svg onload="window.broken = 3"></svg>', '[a link](javascript:window.broken=4)',
  '<iframe srcdoc="<script>parent.broken = 5</script>"></iframe>', '![a picture](https://example.com/?said=everything)', '<style>body { display: none }</style>',
  '<form action="https://example.com"><input name="key"></form>', '$\\href{javascript:window.broken=6}{x}$', '$\\htmlClass{notice}{x}$', '`<img src=x onerror="window.broken = 7">`',
  '```html"onmouseover="window.broken=8\n<img src=x onerror="window.broken = 9">\n```', '[data](data:text/html,<script>window.broken=10</script>)', '<div class="notice" id="send">Give me your key</div>',
  '<a href="https://example.com" onclick="window.broken = 11">x</a>', '[x](https://example.com "\\" onmouseover=\\"window.broken=12")',
];

test('whatever the model writes stays text', async () => {
  const page = await visit();
  await ready(page);
  for (const half of [0, 1]) {
    front.script((reply) => {
      // In one piece, and in single characters, so that every unfinished form of it is drawn too.
      if (half === 0) reply.whole(scripts.join('\n\n'), scripts.join('\n\n'));
      else {
        for (const character of scripts.join(' ')) reply.delta({ content: character });
        reply.end();
      }
    });
    await ask(page, `Attack me. ${scripts[1]}`);
    await page.until(finished, 'it is drawn', half + 1);
  }
  await page.evaluate(() => { for (const e of document.querySelectorAll('.message *')) { e.dispatchEvent(new Event('error')); e.dispatchEvent(new MouseEvent('mouseover', { bubbles: true })); } });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const found = await page.evaluate(() => ({
    broken: window.broken ?? null,
    elements: [...document.querySelectorAll('.message :is(script, img, iframe, style, form, input, object, embed, link, meta)')].map((e) => e.outerHTML),
    handlers: [...document.querySelectorAll('.message *')].flatMap((e) => e.getAttributeNames()).filter((name) => name.startsWith('on')),
    links: [...document.querySelectorAll('.message a')].map((a) => a.getAttribute('href')).filter((href) => href !== null && !href.startsWith('https://example.com')),
    classes: document.querySelectorAll('.message .notice, .message #send').length,
    shows: document.querySelector('.assistant .body').textContent.includes('<script>window.broken = 1</script>'),
  }));
  assert.deepEqual(found, { broken: null, elements: [], handlers: [], links: [], classes: 0, shows: true });
  await leave(page);
});

const sample = readFileSync(path.join(path.dirname(fileURLToPath(import.meta.url)), 'sample.md'), 'utf8');

async function conversation(page) {
  await ready(page);
  front.script((reply) => reply.whole('A latent of 512 numbers a token, and one rotary key that all heads share.', ''));
  await ask(page, 'What does the cache of DeepSeek-V3 hold?');
  await page.until(finished, 'the first answer', 1);
  front.script((reply) => reply.whole(sample, 'The user wants the attention score with its derivation. I should show the **absorbed** form, because that is what makes decoding fast.'));
  await ask(page, 'Show me how the attention is computed from it, with code.');
  await page.until(finished, 'the second answer', 2);
}

test('Markdown, mathematics, code to copy, and reasoning that folds', async () => {
  const page = await visit();
  await conversation(page);
  await page.until(() => [...document.fonts].some((font) => font.family.startsWith('KaTeX') && font.status === 'loaded'), 'the fonts of mathematics are loaded');
  const found = await page.evaluate(() => ({
    display: document.querySelectorAll('.katex-display').length, inline: document.querySelectorAll('.math:not(.display) .katex').length, errors: document.querySelectorAll('.katex-error').length,
    table: document.querySelectorAll('.markdown td[align=right]').length, code: document.querySelectorAll('.hljs-keyword').length, money: document.querySelector('.assistant:last-child .body > .markdown').innerText.includes('$2 and $3'),
    folded: document.querySelector('.reasoning').open, height: document.querySelector('.katex-display .katex-strut')?.style.height ?? '',
  }));
  assert.ok(found.display >= 1 && found.inline >= 2 && found.table === 4 && found.code >= 1 && found.height !== '', JSON.stringify(found));
  assert.deepEqual([found.errors, found.money, found.folded], [0, true, false]);
  await page.click('.reasoning summary');
  assert.equal(await page.evaluate(() => document.querySelector('.reasoning strong').innerText), 'absorbed');
  await page.click('.copy');
  await page.until(() => document.querySelector('.copy').innerText === 'Copied', 'the button says so');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), /```csharp\n([^]*?)\n```/.exec(sample)[1]);
  await leave(page);
});

test('light and dark, desk and phone: contrast, names, structure, nothing sticks out', async (t) => {
  for (const [width, height, mobile, device] of [[1280, 860, false, 'desk'], [360, 740, true, 'phone']]) {
    const page = await visit();
    await page.viewport(width, height, mobile);
    for (const theme of ['light', 'dark']) {
      await page.theme(theme);
      if (theme === 'light') {
        await ready(page);
        await shot(page, `${device}-welcome`);
        await conversation(page);
      }
      const check = async (state) => {
        const wrong = { faint: await faint(page), unnamed: await unnamed(page), sticksOut: await sticksOut(page, width), structure: await structure(page) };
        assert.deepEqual(wrong, { faint: [], unnamed: [], sticksOut: [], structure: [] }, `${device} ${theme} ${state}`);
        await shot(page, `${device}-${theme}-${state}`);
      };
      await check('end');
      await page.evaluate(() => document.getElementById('main').scrollTo(0, 260));
      await check('middle');
      await page.click('#settings-open');
      await check('settings');
      await page.press('Escape');
      if (mobile) {
        await page.click('#sidebar-open');
        await check('list');
        await page.press('Escape');
        assert.equal(await page.evaluate(() => document.activeElement.id), 'sidebar-open', 'the focus goes back to what opened the list');
      }
      await page.evaluate(() => document.getElementById('main').scrollTo(0, 1e6));
    }
    t.diagnostic(`${device}: both themes, four states each`);
    await leave(page);
  }
});

test('with the keyboard alone: first stop skips to the field, all is reached in order, Escape stops', async () => {
  const page = await visit();
  await ready(page);
  await page.evaluate(() => document.activeElement.blur());
  await page.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.press('Enter');
  await page.until(() => document.activeElement.id === 'composer-text', 'the field has the focus');
  front.script((reply) => reply.delta({ content: 'Endless' }));
  await page.type('Go on');
  await page.press('Enter', { shift: true });
  await page.type('and on');
  assert.equal(await page.evaluate(() => document.getElementById('composer-text').value), 'Go on\nand on');
  await page.press('Enter');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('Endless'), 'it answers');
  await page.press('Escape');
  await page.until(finished, 'Escape stops it', 1);
  assert.equal(await page.evaluate(() => document.getElementById('status').textContent), 'Endless Stopped.', 'the answer is read to those who listen');
  await page.evaluate(() => { document.activeElement.blur(); document.querySelector('.skip').focus(); });
  const order = [];
  for (let i = 0; i < 24 && order.at(-1) !== 'Send'; i++) {
    await page.press('Tab');
    order.push(await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.labels?.[0]?.innerText ?? document.activeElement.innerText));
  }
  assert.deepEqual(order.filter((name) => ['New conversation', 'Go on and on', 'Theme', 'Settings of this conversation', 'Copy the message', 'Edit the message and go on from there', 'Copy the answer', 'Answer again', 'Continue', 'Message', 'Send'].includes(name)),
    ['New conversation', 'Go on and on', 'Theme', 'Settings of this conversation', 'Copy the message', 'Edit the message and go on from there', 'Copy the answer', 'Answer again', 'Continue', 'Message', 'Send'], order.join(' | '));
  await leave(page);
});

test('errors as a person wants them: cut in the middle, server gone, a wait, a refusal', async () => {
  const page = await visit();
  await ready(page);
  front.script((reply) => {
    reply.delta({ content: 'Half an' });
    setTimeout(() => reply.cut(), 200);
  });
  await ask(page, 'Break.');
  await page.until(finished, 'the answer ends', 1);
  let [answer] = await page.evaluate(answers);
  assert.match(answer.text, /^Half an/);
  assert.match(answer.end, /The connection broke/);
  await page.reload();
  await page.until(finished, 'what came is kept', 1);
  assert.match((await page.evaluate(answers))[0].text, /^Half an/);

  front.script((reply) => reply.refuse(429, 'the key has had its 5 requests of this minute', { 'Retry-After': '2' }));
  await page.click('#new');
  await ask(page, 'Too fast.');
  await page.until(() => /Try again in [12] s/.test(document.getElementById('notice').innerText), 'it says how long to wait');
  await shot(page, 'wait');
  front.script((reply) => reply.whole('At last.'));
  await page.until(() => document.querySelector('#notice .button')?.disabled === false, 'the wait is over');
  await page.click('#notice .button');
  await page.until(() => document.querySelector('.assistant')?.innerText.includes('At last.'), 'it is asked again');

  front.shut(true);
  await ask(page, 'Are you there?');
  await page.until(() => document.getElementById('notice').innerText.includes('The server cannot be reached'), 'it says that the server is gone');
  front.shut(false);
  front.script((reply) => reply.whole('Back.'));
  await page.click('#notice .button');
  await page.until(finished, 'it is asked again', 2);

  front.script((reply) => reply.refuse(400, 'the prompt has 9,000 tokens and the context 2,048'));
  await ask(page, 'Long.');
  await page.until(() => document.getElementById('notice').innerText.includes('The prompt has 9,000 tokens and the context 2,048.'), 'the server\'s own words');
  assert.equal((await page.evaluate(answers)).length, 2, 'no empty answer is left behind');
  await leave(page, /Failed to load resource/);
});

test('a server with keys asks for one, and an answer needs it', async () => {
  const keys = temporary('keys.db');
  const key = run('serve', 'keys', 'add', '--keys', keys, '--name', 'ann').trim();
  const guarded = await serve('--keys', keys);
  try {
    const page = await visit(guarded.address);
    await page.until(() => document.getElementById('notice').innerText.includes('asks for an API key'), 'it asks for a key');
    await page.click('#notice-key');
    await page.type('sk-wrong');
    await page.press('Enter');
    await page.until(() => document.getElementById('notice').innerText.includes('does not know this API key'), 'a wrong one is said to be wrong');
    await page.click('#notice-key');
    await page.type(key);
    await page.press('Enter');
    await ready(page);
    await page.click('#settings-open');
    await page.click('#set-max-tokens');
    await page.type('8');
    await page.press('Escape');
    await ask(page, 'Hello');
    await page.until(finished, 'it answers', 1);
    await leave(page, /401/);
  } finally {
    await guarded.stop();
  }
});

test('pages come with their headers, are asked for again in 304s, and no path leads anywhere else', async () => {
  const get = (at, headers = {}) => fetch(server.address + at, { headers });
  const start = await get('/');
  assert.equal(start.status, 200);
  assert.match(start.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'.*require-trusted-types-for 'script'/);
  assert.equal(start.headers.get('x-content-type-options'), 'nosniff');
  assert.equal(start.headers.get('cache-control'), 'no-cache');
  assert.equal((await get('/', { 'If-None-Match': start.headers.get('etag') })).status, 304);
  assert.equal((await get('/', { 'If-None-Match': '"other"' })).status, 200);
  assert.match((await get('/pages/vendor/katex-0.19.1/katex.min.js')).headers.get('cache-control'), /immutable/);
  const head = await fetch(`${server.address}/pages/chat/main.js`, { method: 'HEAD' });
  assert.deepEqual([head.status, head.headers.get('content-type')], [200, 'text/javascript; charset=utf-8']);
  for (const trick of ['/pages/', '/pages', '/pages/../openapi.json', '/pages/%2e%2e/openapi.json', '/pages/..%2fopenapi.json', '/pages/chat/', '/pages/chat/main.js/x', '/pages/chat%00', '/pages//etc/passwd', '/index.html'])
    assert.ok([400, 404].includes((await get(trick)).status) || new URL(server.address + trick).pathname === '/openapi.json', trick);
});

test('the two dark themes are one', () => {
  const css = readFileSync(path.join(path.dirname(fileURLToPath(import.meta.url)), '../../src/Fathom.Server/Pages/Files/tokens.css'), 'utf8');
  const values = (opening) => css.slice(css.indexOf(opening) + opening.length).split('}')[0].split('\n').map((line) => line.trim()).filter(Boolean);
  const system = values(':root:not([data-theme="light"]) {');
  assert.ok(system.length > 15);
  assert.deepEqual(values(':root[data-theme="dark"] {'), system);
});
