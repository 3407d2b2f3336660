// A headless Chromium driven over its own protocol (chromedevtools.github.io/devtools-protocol) through a pipe: the tests need node and
// Debian's chromium and nothing else, so they run without a network and nothing is downloaded for them.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

const candidates = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** A browser with a profile of its own; close() ends it. */
export class Chromium {
  #process;
  #profile;
  #calls = new Map();
  #pages = new Map();
  #last = 0;

  static async start() {
    const program = candidates.find((name) => name && existsSync(name));
    if (!program) throw new Error('no Chromium: install the package chromium, or set CHROMIUM to its path');
    const browser = new Chromium();
    browser.#profile = await mkdtemp(path.join(tmpdir(), 'fathom-chromium-'));
    browser.#process = spawn(program, [
      '--headless=new', '--no-sandbox', '--remote-debugging-pipe', `--user-data-dir=${browser.#profile}`, '--no-first-run', '--disable-gpu',
      '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars', 'about:blank',
    ], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    let rest = '';
    browser.#process.stdio[4].setEncoding('utf8').on('data', (text) => {
      const parts = (rest + text).split('\0');
      rest = parts.pop();
      for (const part of parts) browser.#receive(JSON.parse(part));
    });
    browser.#process.stdio[3].on('error', () => {});
    return browser;
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#last;
    this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject, method }));
  }

  /** A page in a browser context of its own: no cookies and no storage of others. */
  async page() {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, targetId);
    this.#pages.set(sessionId, page);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`);
    await this.send('Browser.grantPermissions', { permissions: ['clipboardReadWrite', 'clipboardSanitizedWrite'], browserContextId });
    await page.viewport(1280, 800);
    return page;
  }

  async close() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill();
    await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(message) {
    if (message.id) {
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error) call.reject(new Error(`${call.method}: ${message.error.message}`));
      else call.resolve(message.result);
    } else {
      this.#pages.get(message.sessionId)?.event(message.method, message.params);
    }
  }
}

const keys = { Enter: [13, '\r'], Tab: [9, ''], Escape: [27, ''], Backspace: [8, ''], ' ': [32, ' '], ArrowDown: [40, ''], ArrowUp: [38, ''], ArrowLeft: [37, ''], ArrowRight: [39, ''], Home: [36, ''], End: [35, ''], '+': [187, '+'], 0: [48, '0'] };

/** One page, used as a person would: by pointer and keys at what can be seen. */
export class Page {
  #browser;
  #session;
  #target;

  /** What went wrong in the page: exceptions, refused loads, breaches of the content security policy. */
  faults = [];

  constructor(browser, session, target) {
    this.#browser = browser;
    this.#session = session;
    this.#target = target;
  }

  send(method, params) {
    return this.#browser.send(method, params, this.#session);
  }

  event(method, params) {
    if (method === 'Runtime.exceptionThrown') this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Log.entryAdded' && params.entry.level === 'error') this.faults.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    if (method === 'Page.javascriptDialogOpening') this.send('Page.handleJavaScriptDialog', { accept: true });
  }

  async open(url) {
    await this.send('Page.navigate', { url });
    await this.until(() => document.readyState === 'complete' && document.getElementById('status')?.textContent !== undefined, 'the page is loaded');
  }

  async reload() {
    await this.evaluate(() => { window.beforeReload = true; });
    await this.send('Page.reload');
    await this.until(() => !window.beforeReload && document.readyState === 'complete', 'the page is loaded again');
  }

  /** Runs a function in the page; arguments and result are JSON. */
  async evaluate(run, ...args) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression: `(${run})(...${JSON.stringify(args)})`, awaitPromise: true, returnByValue: true, userGesture: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until a function in the page gives something true, and returns it. */
  async until(run, what, ...args) {
    const end = Date.now() + 20_000;
    let last;
    while (Date.now() < end) {
      try {
        last = await this.evaluate(run, ...args);
        if (last) return last;
      } catch (error) {
        last = error.message; // between two documents
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`waited 20 s until ${what}; last ${JSON.stringify(last)}; faults ${JSON.stringify(this.faults)}`);
  }

  /** Clicks what a selector finds, where a person would: it must be visible and on top. */
  async click(selector) {
    const place = await this.until((name) => {
      const element = document.querySelector(name);
      if (!element) return null;
      element.scrollIntoView({ block: 'nearest' });
      const box = element.getBoundingClientRect();
      const x = box.x + box.width / 2;
      const y = box.y + box.height / 2;
      const top = document.elementFromPoint(x, y);
      return box.width > 0 && top && (element.contains(top) || top.contains(element)) ? { x, y } : null;
    }, `${selector} can be clicked`, selector);
    for (const type of ['mouseMoved', 'mousePressed', 'mouseReleased'])
      await this.send('Input.dispatchMouseEvent', { type, ...place, button: type === 'mouseMoved' ? 'none' : 'left', clickCount: 1 });
  }

  /** Drags from one place of an element to another; places are shares of its width and height. */
  async drag(selector, from, to) {
    const box = await this.until((name) => {
      const element = document.querySelector(name);
      element?.scrollIntoView({ block: 'center' });
      const { x, y, width, height } = element?.getBoundingClientRect() ?? {};
      return width > 0 ? { x, y, width, height } : null;
    }, `${selector} can be dragged on`, selector);
    const at = ([x, y]) => ({ x: box.x + box.width * x, y: box.y + box.height * y });
    const send = (type, place, buttons) => this.send('Input.dispatchMouseEvent', { type, ...at(place), button: 'left', buttons, clickCount: 1 });
    await send('mouseMoved', from, 0);
    if (!to) return;
    await send('mousePressed', from, 1);
    await send('mouseMoved', to, 1);
    await send('mouseReleased', to, 0);
  }

  /** Moves the pointer to a place of an element. */
  hover(selector, place) {
    return this.drag(selector, place, null);
  }

  /** Types into what has the focus. */
  type(text) {
    return this.send('Input.insertText', { text });
  }

  async press(key, { shift = false } = {}) {
    const [code, text] = keys[key];
    const event = { key, code: key === ' ' ? 'Space' : key, windowsVirtualKeyCode: code, modifiers: shift ? 8 : 0 };
    await this.send('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', text, ...event });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  viewport(width, height, mobile = false) {
    return this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: mobile ? 2 : 1, mobile });
  }

  theme(name) {
    return this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: name }, { name: 'prefers-reduced-motion', value: 'reduce' }] });
  }

  /** The accessibility tree, as a screen reader gets it: [{role, name}] of what is not ignored. */
  async accessible() {
    const { nodes } = await this.send('Accessibility.getFullAXTree');
    return nodes.filter((node) => !node.ignored).map((node) => ({ role: node.role?.value, name: node.name?.value ?? '' }));
  }

  async screenshot(file) {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    await writeFile(file, Buffer.from(data, 'base64'));
  }

  close() {
    return this.#browser.send('Target.closeTarget', { targetId: this.#target });
  }
}
