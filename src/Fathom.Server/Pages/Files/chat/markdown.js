// A model's answer as elements. The text may be anything, also an attempt to run something, so: HTML in it is shown as text, what marked makes
// goes through DOMPurify with a short list of elements, and the page's Trusted Types let nothing else become HTML. Pictures become links: a
// picture's address can carry what was said to someone else's server.
import { marked } from '../vendor/marked-18.2.1/marked.esm.js';
import { h, icon, copyText, announce } from '../dom.js';
import { highlight } from './code.js';

const allowed = {
  ALLOWED_TAGS: ['a', 'blockquote', 'br', 'code', 'del', 'em', 'h3', 'h4', 'h5', 'h6', 'hr', 'li', 'ol', 'p', 'pre', 'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul'],
  ALLOWED_ATTR: ['href', 'class', 'start', 'align'],
  ADD_URI_SAFE_ATTR: ['start', 'align'], // whatever is not in this list must look like an address
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

// TeX between $…$, $$…$$, \(…\) and \[…\]. A dollar beside a space or a digit behind the second one is money.
const inlineMath = {
  name: 'inlineMath',
  level: 'inline',
  start: (text) => text.match(/\$|\\\(|\\\[/)?.index,
  tokenizer(text) {
    const found = /^\\\(([^]+?)\\\)/.exec(text) ?? /^\$(?![\s$])((?:\\.|[^\\$\n])*?[^\s\\$])\$(?!\d)/.exec(text);
    if (found) return { type: 'inlineMath', raw: found[0], tex: found[1], display: false };
    const display = /^\$\$([^]+?)\$\$/.exec(text) ?? /^\\\[([^]+?)\\\]/.exec(text);
    return display ? { type: 'inlineMath', raw: display[0], tex: display[1], display: true } : undefined;
  },
  renderer: (token) => `<span class="math${token.display ? ' display' : ''}">${escape(token.tex)}</span>`,
};
const blockMath = {
  name: 'blockMath',
  level: 'block',
  start: (text) => text.match(/\n *(?:\$\$|\\\[)/)?.index,
  tokenizer(text) {
    const found = /^ *\$\$([^]+?)\$\$ *(?:\n|$)/.exec(text) ?? /^ *\\\[([^]+?)\\\] *(?:\n|$)/.exec(text);
    return found ? { type: 'blockMath', raw: found[0], tex: found[1] } : undefined;
  },
  renderer: (token) => `<p><span class="math display">${escape(token.tex)}</span></p>`,
};

marked.use({
  gfm: true,
  breaks: true,
  extensions: [inlineMath, blockMath],
  renderer: {
    html: ({ text }) => escape(text),
    // The title is h1 and each message has an h2; an answer's headings lie below. Most answers begin with the second level.
    heading({ tokens, depth }) {
      const level = Math.min(6, Math.max(3, depth + 1));
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    code: ({ text, lang }) => `<pre><code class="language-${escape((lang ?? '').split(/\s/)[0])}">${highlight(text, lang)}</code></pre>`,
  },
});

/** Shows a text that grows. Blocks that did not change keep their elements, and with them a selection and the place one has scrolled to. */
export class MarkdownView {
  #blocks = []; // {raw, nodes}
  #root;

  constructor(root) {
    this.#root = root;
  }

  /** Shows the text as it is now. */
  show(text) {
    const tokens = marked.lexer(text).filter((token) => token.type !== 'space');
    tokens.forEach((token, index) => {
      const old = this.#blocks[index];
      if (old?.raw === token.raw) return;
      const made = [...elements(token)];
      if (old && old.nodes.length > 0) {
        old.nodes[0].before(...made);
        old.nodes.forEach((node) => node.remove());
      } else {
        this.#root.append(...made);
      }
      this.#blocks[index] = { raw: token.raw, nodes: made };
    });
    this.#blocks.splice(tokens.length).forEach((block) => block.nodes.forEach((node) => node.remove()));
  }
}

function elements(token) {
  const fragment = window.DOMPurify.sanitize(marked.parser([token]), allowed);
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const math of fragment.querySelectorAll('.math')) typeset(math);
  for (const code of fragment.querySelectorAll('pre > code')) frame(code);
  // Wide tables scroll by themselves, and with the keyboard too.
  for (const table of fragment.querySelectorAll('table')) {
    const frame = h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment.childNodes;
}

function typeset(math) {
  const tex = math.textContent;
  const displayMode = math.classList.contains('display');
  try {
    window.katex.render(tex, math, { displayMode, throwOnError: true, trust: false, strict: 'ignore', maxSize: 30, maxExpand: 300 });
    if (displayMode) {
      math.tabIndex = 0;
      math.setAttribute('role', 'group');
      math.setAttribute('aria-label', 'Formula');
    }
  } catch {
    math.replaceChildren(h('code', {}, displayMode ? `$$${tex}$$` : `$${tex}$`)); // not TeX, or not yet complete
  }
}

function frame(code) {
  const pre = code.parentElement;
  const language = /^language-([\w+#.-]+)/.exec(code.className)?.[1] ?? '';
  const label = h('span', {}, 'Copy');
  const copy = h('button', { type: 'button', class: 'copy', 'aria-label': `Copy the code${language ? ` in ${language}` : ''}` }, icon('copy'), label);
  copy.addEventListener('click', async () => {
    const done = await copyText(code.textContent.replace(/\n$/, ''));
    label.textContent = done ? 'Copied' : 'Not allowed';
    announce(done ? 'The code is copied' : 'The browser does not let the page copy');
    setTimeout(() => { label.textContent = 'Copy'; }, 2000);
  });
  const box = h('div', { class: 'code' }, h('div', { class: 'code-head' }, h('span', {}, language || 'text'), copy));
  pre.replaceWith(box);
  pre.tabIndex = 0;
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', `Code${language ? ` in ${language}` : ''}`);
  box.append(pre);
}
