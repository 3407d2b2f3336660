// One message on the page: text, folded reasoning, what it cost, and the buttons under it.
import { h, icon, iconButton, copyText, announce } from '../dom.js';
import { MarkdownView } from './markdown.js';

/**
 * The element of a message.
 * versions: {at, of, previous, next}; actions: {edit(text)} of a question, {again(), onward()} of an answer.
 */
export class MessageView {
  #message;
  #actions;
  #body = h('div', { class: 'body' });
  #reasoning = null;
  #answer = null;
  #foot = h('div', { class: 'foot' });

  constructor(message, versions, actions) {
    this.#message = message;
    this.#actions = actions;
    const user = message.role === 'user';
    this.element = h('article', { class: `message ${message.role}`, 'aria-label': user ? 'You' : 'Answer', 'data-index': String(message.index) }, h('h2', { class: 'hidden' }, user ? 'You' : 'Answer'), this.#body, this.#foot);
    if (user) this.#body.append(h('div', { class: 'said' }, message.content));
    else this.update(message.running === true);
    this.#drawFoot(versions);
  }

  /** Draws what has come so far. */
  update(running) {
    const { content, reasoning } = this.#message;
    this.element.setAttribute('aria-busy', String(running));
    this.element.classList.toggle('running', running);
    if (reasoning) {
      if (!this.#reasoning) this.#beginReasoning(running);
      this.#reasoning.view.show(reasoning);
      const thinking = running && !content;
      this.#reasoning.label.textContent = thinking ? 'Reasoning …' : 'Reasoning';
      if (content && !this.#reasoning.folded) {
        // The answer begins: the reasoning folds by itself, once.
        this.#reasoning.folded = true;
        this.#reasoning.box.open = false;
      }
    }
    if (content) {
      if (!this.#answer) {
        const root = h('div', { class: 'markdown' });
        this.#body.append(root);
        this.#answer = new MarkdownView(root);
      }
      this.#answer.show(content);
    }
    if (!running && !content && !reasoning && !this.#body.hasChildNodes()) this.#body.append(h('p', { class: 'empty' }, 'No text.'));
  }

  /** Draws the line and the buttons below once the answer has ended. */
  finish(versions) {
    this.update(false);
    this.#drawFoot(versions);
  }

  #beginReasoning(running) {
    const root = h('div', { class: 'markdown' });
    const label = h('span', {}, 'Reasoning');
    const box = h('details', { class: 'reasoning', open: running && !this.#message.content }, h('summary', {}, icon('right'), label), root);
    this.#reasoning = { box, label, view: new MarkdownView(root), folded: !running };
    this.#body.prepend(box);
  }

  #drawFoot(versions) {
    const message = this.#message;
    const parts = [];
    if (message.running) {
      this.#foot.replaceChildren();
      return;
    }
    if (message.end) parts.push(h('p', { class: 'end' }, message.end));
    const line = message.role === 'assistant' ? statistics(message) : '';
    const buttons = h('div', { class: 'actions' });
    if (versions.of > 1) {
      buttons.append(
        iconButton('left', 'Previous version', versions.previous, { disabled: versions.at === 0 }),
        h('span', { class: 'versions' }, h('span', { class: 'hidden' }, 'Version '), `${versions.at + 1} of ${versions.of}`),
        iconButton('right', 'Next version', versions.next, { disabled: versions.at === versions.of - 1 }),
      );
    }
    buttons.append(iconButton('copy', message.role === 'user' ? 'Copy the message' : 'Copy the answer', async () => {
      announce((await copyText(message.content)) ? 'Copied' : 'The browser does not let the page copy');
    }));
    if (this.#actions.edit) buttons.append(iconButton('edit', 'Edit the message and go on from there', () => this.#edit()));
    if (this.#actions.again) buttons.append(iconButton('again', 'Answer again', this.#actions.again));
    if (message.unfinished && message.content) buttons.append(h('button', { type: 'button', class: 'text-button', onclick: this.#actions.onward }, icon('onward'), 'Continue'));
    parts.push(buttons);
    if (line) parts.push(h('p', { class: 'numbers' }, line));
    this.#foot.replaceChildren(...parts);
  }

  #edit() {
    const text = h('textarea', { 'aria-label': 'Edit the message', rows: '3' });
    text.value = this.#message.content;
    const end = () => {
      form.remove();
      this.#body.hidden = this.#foot.hidden = false;
      this.#foot.querySelector('[aria-label^="Edit"]')?.focus();
    };
    const form = h('form', { class: 'edit', 'aria-label': 'Edit the message' }, text,
      h('div', { class: 'edit-buttons' },
        h('button', { type: 'button', class: 'button quiet', onclick: end }, 'Cancel'),
        h('button', { type: 'submit', class: 'button' }, 'Send')));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (text.value.trim()) this.#actions.edit(text.value);
    });
    form.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        end();
      }
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.target === text) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.#body.hidden = this.#foot.hidden = true;
    this.element.append(form);
    text.focus();
  }
}

const shortest = 0.05; // seconds
const number = (value, digits = 0) => value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** Tokens, speed, wait and cache hits in a line; what is not known is left out. */
export function statistics({ model, usage, firstAfter, seconds }) {
  const parts = [];
  if (usage) {
    parts.push(`${number(usage.completion_tokens)} token${usage.completion_tokens === 1 ? '' : 's'}`);
    // The first token's time is the prompt's; the speed is that of the others. What comes within a few frames has no speed worth the name.
    const rate = (usage.completion_tokens - 1) / (seconds - firstAfter);
    if (seconds - firstAfter > shortest) parts.push(`${number(rate, rate < 100 ? 1 : 0)} tokens/s`);
  }
  if (firstAfter !== undefined) parts.push(`first after ${number(firstAfter, 2)} s`);
  if (usage) parts.push(`${number(usage.prompt_cache_hit_tokens ?? 0)} of ${number(usage.prompt_tokens)} prompt tokens from the cache`);
  if (model && parts.length > 0) parts.push(model);
  return parts.join(' · ');
}
