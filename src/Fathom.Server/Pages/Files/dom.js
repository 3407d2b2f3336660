// Elements without a framework. Text always goes in as text: there is no way from here to HTML.

const svgSpace = 'http://www.w3.org/2000/svg';

/** An element with properties ("class", "on…" handlers, attributes) and children (nodes or text; null is left out). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Drawn on a grid of 24, as strokes.
const icons = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6 6 18',
  plus: 'M12 5v14M5 12h14',
  sliders: 'M4 8h9M17 8h3M4 16h3M11 16h9M15 5.5v5M9 13.5v5',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v10H9zM5 15V5h10',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM13.5 7.5l3 3',
  again: 'M19 12a7 7 0 1 1-2-5M19 4v4h-4',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  trash: 'M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12',
  down: 'M12 5v14M6 13l6 6 6-6',
  save: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  onward: 'M5 12h14M13 6l6 6-6 6',
  table: 'M4 5h16v14H4zM4 10h16M4 14.5h16M10 10v9',
};

/** An icon; it is decoration, the button around it has the name. */
export function icon(name) {
  const svg = document.createElementNS(svgSpace, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  const path = document.createElementNS(svgSpace, 'path');
  path.setAttribute('d', icons[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon, named for those who do not see it and on hover. */
export function iconButton(name, label, onclick, extra = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...extra }, icon(name));
}

/** The element with an id of the page. */
export const at = (id) => document.getElementById(id);

/** Says something to those who listen instead of looking. */
export function announce(text) {
  at('status').textContent = text;
}

/** Copies text; browsers give the clipboard to secure origins alone (localhost is one), so there is the old way besides. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // refused: the old way may still be allowed
    }
  }
  const area = h('textarea', { class: 'hidden', 'aria-hidden': 'true', readonly: true });
  area.value = text;
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  before?.focus();
  return done;
}
