// The chat page: which conversation is shown, what runs, and what a person does about it. One answer runs at a time; it goes on while another
// conversation is looked at, because it belongs to its conversation and not to what is on the screen.
import { announce, at, h, icon } from '../dom.js';
import * as store from './store.js';
import { add, choose, newConversation, path, titleOf, versions } from './tree.js';
import { initDrawer } from '../drawer.js';
import { ApiError } from '../http.js';
import { answer, models } from './api.js';
import { MessageView } from './message.js';
import { drawList } from './sidebar.js';
import { initSettings, showModels, toRequest } from './settings.js';

let conversations = [];
let current;
let served = [];
let running = null; // {conversation, message, abort}
let views = new Map(); // message → its view, of the conversation on the screen
let countdown = 0;

const scroller = at('main');
const field = at('composer-text');
const drawer = initDrawer();

at('new').append(icon('plus'), 'New conversation');
at('send').append(icon('send'));
at('stop').append(icon('stop'));
at('to-end').append(icon('down'), 'Newest');
initSettings(() => current.settings, takeSettings, () => loadModels());
at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  send();
});
at('new').addEventListener('click', () => show(newConversation({ ...current.settings })));
at('stop').addEventListener('click', stop);
at('to-end').addEventListener('click', () => toEnd());
field.addEventListener('input', () => {
  grow();
  store.set('draft', field.value || null);
});
field.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && running && !at('settings').open) stop();
});
scroller.addEventListener('scroll', () => { at('to-end').hidden = nearEnd(); }, { passive: true });
// Whatever runs is kept as far as it came when the page is left.
addEventListener('pagehide', () => { if (running) store.put(stored(running.conversation)); });
start();

async function start() {
  const kept = await store.open();
  conversations = await store.all();
  show(conversations.find((one) => one.id === store.get('current')) ?? conversations[0] ?? newConversation(store.get('settings') ?? {}), false);
  field.value = store.get('draft') ?? '';
  grow();
  if (!kept) notice('This browser keeps nothing for this page: conversations end with it.');
  await loadModels();
}

async function loadModels() {
  try {
    served = await models(store.get('key'));
    showModels(served);
    drawModel();
    hideNotice();
  } catch (error) {
    fail(error, () => loadModels());
  }
}

function takeSettings(settings) {
  current.settings = settings;
  store.set('settings', settings);
  drawModel();
  if (current.messages.length > 0) store.put(stored(current));
}

const model = (settings) => (served.includes(settings.model) ? settings.model : served[0]);

function drawModel() {
  at('model').textContent = model(current.settings) ?? '';
  at('welcome-text').textContent = served.length === 0 ? '' : `${model(current.settings)} answers from this server. Conversations stay in this browser.`;
}

/** Shows a conversation. */
function show(conversation, focus = true) {
  current = conversation;
  store.set('current', conversation.id);
  hideNotice();
  draw();
  toEnd('instant');
  drawer.close();
  if (focus) field.focus();
}

function draw() {
  const shown = path(current);
  views = new Map();
  at('log').replaceChildren(...shown.map((message) => view(message).element));
  at('welcome').hidden = shown.length > 0;
  at('title').textContent = titleOf(current);
  document.title = shown.length > 0 ? `${titleOf(current)} – Fathom` : 'Fathom';
  drawModel();
  drawSidebar();
  drawButtons();
}

function drawSidebar() {
  drawList(conversations, current.id, {
    choose: (id) => show(conversations.find((one) => one.id === id)),
    rename: async (conversation, title) => {
      conversation.title = title;
      await store.put(stored(conversation));
      at('title').textContent = titleOf(current);
      drawSidebar();
    },
    remove,
  });
}

function drawButtons() {
  const here = running?.conversation === current;
  const hadFocus = document.activeElement === at('stop');
  at('send').hidden = here;
  at('stop').hidden = !here;
  if (hadFocus && !here) at('send').focus();
}

function view(message) {
  const actions = message.role === 'user' ? { edit: (text) => edit(message, text) } : { again: () => again(message), onward: () => run(message) };
  const made = new MessageView(message, versionsOf(message), actions);
  views.set(message, made);
  return made;
}

function versionsOf(message) {
  const all = versions(current, message);
  const place = all.indexOf(message);
  const go = (step) => () => {
    choose(current, all[place + step]);
    keep(current);
    draw();
    at('log').querySelector(`[data-index="${all[place + step].index}"] .actions button:not(:disabled)`)?.focus();
  };
  return { at: place, of: all.length, previous: go(-1), next: go(1) };
}

async function remove(conversation) {
  if (!confirm(`Delete “${titleOf(conversation)}”? It is in this browser alone and cannot be brought back.`)) return;
  if (running?.conversation === conversation) {
    running.forget = true;
    stop();
  }
  await store.remove(conversation.id);
  conversations = conversations.filter((one) => one !== conversation);
  if (conversation === current) show(conversations[0] ?? newConversation({ ...conversation.settings }));
  else drawSidebar();
  announce('Deleted');
}

function send() {
  const text = field.value.trim();
  if (!text || running) return;
  field.value = '';
  store.set('draft', null);
  grow();
  ask(current.leaf, text);
}

function edit(message, text) {
  if (!busy()) ask(message.parent, text.trim());
}

function again(message) {
  if (busy()) return;
  run(add(current, message.parent, { role: 'assistant', content: '', reasoning: '' }));
}

function ask(parent, text) {
  const question = add(current, parent, { role: 'user', content: text });
  run(add(current, question.index, { role: 'assistant', content: '', reasoning: '' }));
  field.focus();
}

function busy() {
  if (running) notice('An answer is being written; stop it first.');
  return running !== null;
}

/** Lets the model write a message: a new one from its start, a broken one from where it ended. */
async function run(message) {
  if (busy()) return;
  const conversation = current;
  const abort = new AbortController();
  const begun = performance.now();
  const since = () => (performance.now() - begun) / 1000;
  const request = toRequest({ ...conversation.settings, model: model(conversation.settings) });
  request.messages = messagesBefore(conversation, message);
  if (message.content) request.messages.push({ role: 'assistant', content: message.content, ...(message.reasoning && { reasoning_content: message.reasoning }), prefix: true });
  running = { conversation, message, abort };
  Object.assign(message, { running: true, end: '', unfinished: false, usage: undefined, firstAfter: undefined, model: request.model });
  hideNotice();
  keep(conversation);
  draw();
  views.get(message).update(true);
  // The button that began this is gone with what was drawn before.
  if (document.activeElement === document.body) scroller.focus({ preventScroll: true });
  toEnd();
  announce('The answer is being written');
  const frame = frames(() => {
    if (conversation !== current) return;
    const follow = nearEnd();
    views.get(message)?.update(message.running);
    if (follow) toEnd('instant');
  });
  let failure = null;
  try {
    const { finish, usage } = await answer(request, store.get('key'), abort.signal, (delta) => {
      message.firstAfter ??= since();
      message.content += delta.content;
      message.reasoning += delta.reasoning;
      message.seconds = since();
      frame();
    });
    message.usage = usage;
    if (finish === 'length') end(message, 'The answer reached its longest length.', true);
    if (finish === 'insufficient_system_resource') end(message, 'The server had to cut the answer.', true);
  } catch (error) {
    if (error.name === 'AbortError') end(message, 'Stopped.', true);
    else failure = error;
    if (error.kind === 'cut') end(message, error.message, true);
  }
  const forgotten = running.forget;
  message.running = false;
  running = null;
  if (forgotten) return;
  if (failure && !message.content && !message.reasoning) takeBack(conversation, message);
  keep(conversation);
  if (conversation === current) {
    const follow = nearEnd();
    const shown = views.get(message);
    if (shown && conversation.messages.includes(message)) shown.finish(versionsOf(message));
    else draw();
    if (follow) toEnd('instant');
  }
  drawButtons();
  if (failure && failure.kind !== 'cut') fail(failure, () => retry(conversation));
  else if (conversation === current) announce(`${message.content} ${message.end || 'The answer is complete.'}`);
}

function end(message, text, unfinished) {
  message.end = text;
  message.unfinished = unfinished;
}

/** An answer of which nothing came leaves no trace; the question stays. */
function takeBack(conversation, message) {
  if (message.index === conversation.messages.length - 1) {
    conversation.messages.pop();
    conversation.leaf = message.parent;
  }
}

function retry(conversation) {
  if (running) return;
  if (conversation !== current) show(conversation);
  const last = path(current).at(-1);
  if (last?.role === 'user') run(add(current, last.index, { role: 'assistant', content: '', reasoning: '' }));
  else if (last) again(last);
}

function messagesBefore(conversation, message) {
  const before = [];
  if (conversation.settings.system) before.push({ role: 'system', content: conversation.settings.system });
  for (const one of path(conversation)) {
    if (one === message) break;
    before.push({ role: one.role, content: one.content });
  }
  return before;
}

function stop() {
  running?.abort.abort();
}

function keep(conversation) {
  if (!conversations.includes(conversation)) conversations.push(conversation);
  conversations.sort((a, b) => b.updated - a.updated);
  drawSidebar();
  store.put(stored(conversation)).catch(() => notice('The browser has no room left: this conversation ends with the page.'));
}

/** As it is written down: what runs is, for who reads it later, something that ended early. */
function stored(conversation) {
  return {
    ...conversation,
    messages: conversation.messages.map(({ running: runs, ...message }) =>
      (runs ? { ...message, unfinished: true, end: 'The page was left before the answer was complete.' } : message)),
  };
}

/** Tells of an error, with what can be done about it. */
function fail(error, tryAgain) {
  if (!(error instanceof ApiError)) {
    notice(`Something went wrong in the page: ${error.message}`);
    throw error;
  }
  switch (error.kind) {
    case 'key': {
      const key = h('input', { type: 'password', id: 'notice-key', autocomplete: 'off', spellcheck: 'false', placeholder: 'sk-…', required: true });
      key.addEventListener('keydown', (event) => {
        if (event.key !== 'Enter') return;
        event.preventDefault();
        use();
      });
      const use = () => {
        store.set('key', key.value.trim() || null);
        hideNotice();
        if (served.length === 0) loadModels();
        else tryAgain();
      };
      notice(store.get('key') ? 'The server does not know this API key.' : 'This server asks for an API key.',
        h('label', { class: 'hidden', for: 'notice-key' }, 'API key'), key, h('button', { type: 'button', class: 'button', onclick: use }, 'Use the key'));
      break;
    }
    case 'wait':
      wait(error, tryAgain);
      break;
    case 'balance':
    case 'refused':
      notice(error.message);
      break;
    default:
      notice(error.message, h('button', { type: 'button', class: 'button', onclick: () => { hideNotice(); tryAgain(); } }, 'Try again'));
  }
}

function wait(error, tryAgain) {
  const button = h('button', { type: 'button', class: 'button', disabled: true, onclick: () => { hideNotice(); tryAgain(); } });
  notice(error.message, button);
  let left = error.retryAfter;
  const tick = () => {
    button.textContent = left > 0 ? `Try again in ${left} s` : 'Try again';
    button.disabled = left > 0;
    if (left-- > 0) countdown = setTimeout(tick, 1000);
  };
  tick();
}

function notice(text, ...actions) {
  clearTimeout(countdown);
  at('notice').replaceChildren(h('span', { class: 'notice-text' }, text), ...actions);
  at('notice').hidden = false;
}

function hideNotice() {
  clearTimeout(countdown);
  at('notice').hidden = true;
}

function nearEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
}

function toEnd(behavior) {
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  scroller.scrollTo({ top: scroller.scrollHeight, behavior: behavior ?? (still ? 'instant' : 'smooth') });
}

function grow() {
  field.style.height = 'auto';
  field.style.height = `${Math.min(field.scrollHeight, innerHeight * 0.4)}px`;
}

/** Draws at most once a frame; text comes faster than the screen shows it. */
function frames(drawNow) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawNow();
    });
  };
}
