// The list of conversations: choose, rename, save to a file, delete. On a narrow screen it is a drawer over the page.
import { at, h, icon, iconButton } from '../dom.js';
import { titleOf, toMarkdown } from './tree.js';

/** Draws the list. actions: {choose(id), rename(conversation, title), remove(conversation)}. */
export function drawList(conversations, current, actions) {
  at('conversations').replaceChildren(...conversations.map((conversation) => item(conversation, conversation.id === current, actions)));
}

function item(conversation, isCurrent, actions) {
  const title = titleOf(conversation);
  const row = h('li', { class: isCurrent ? 'current' : '' });
  const choose = h('button', { type: 'button', class: 'conversation', 'aria-current': isCurrent ? 'true' : null, onclick: () => actions.choose(conversation.id) }, title);
  const menu = h('details', { class: 'menu' },
    h('summary', { 'aria-label': `More for ${title}`, title: 'More' }, icon('more')),
    h('div', { class: 'menu-items' },
      entry('edit', 'Rename', () => rename(row, conversation, title, actions)),
      entry('save', 'Save as Markdown', () => save(`${fileName(title)}.md`, toMarkdown(conversation), 'text/markdown')),
      entry('save', 'Save as JSON', () => save(`${fileName(title)}.json`, JSON.stringify(conversation, null, 2), 'application/json')),
      entry('trash', 'Delete', () => actions.remove(conversation), 'danger')));
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector('summary').focus();
  });
  menu.addEventListener('focusout', (event) => {
    if (!menu.contains(event.relatedTarget) && event.relatedTarget) menu.open = false;
  });
  row.append(choose, menu);
  return row;

  function entry(name, label, action, kind = '') {
    return h('button', { type: 'button', class: kind, onclick: () => { menu.open = false; action(); } }, icon(name), label);
  }
}

function rename(row, conversation, title, actions) {
  const field = h('input', { type: 'text', maxlength: '120', 'aria-label': 'New name' });
  field.value = title;
  const before = [...row.childNodes];
  const form = h('form', { class: 'rename' }, field, iconButton('close', 'Keep the old name', () => end(null)));
  let ended = false;
  const end = (name) => {
    if (ended) return;
    ended = true;
    row.replaceChildren(...before);
    before[0].focus();
    if (name && name !== title) actions.rename(conversation, name);
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    end(field.value.trim());
  });
  form.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    end(null);
  });
  row.replaceChildren(form);
  field.select();
  field.focus();
}

const fileName = (title) => title.replace(/[^\p{L}\p{N} _-]+/gu, '').trim().slice(0, 60) || 'conversation';

function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
