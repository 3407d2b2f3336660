// Colours for code in the languages that people ask about most; others stay plain. The result is HTML with escaped text and spans.
import hljs from '../vendor/highlight-11.12.0/core.min.js';
import bash from '../vendor/highlight-11.12.0/languages/bash.min.js';
import c from '../vendor/highlight-11.12.0/languages/c.min.js';
import cpp from '../vendor/highlight-11.12.0/languages/cpp.min.js';
import csharp from '../vendor/highlight-11.12.0/languages/csharp.min.js';
import css from '../vendor/highlight-11.12.0/languages/css.min.js';
import diff from '../vendor/highlight-11.12.0/languages/diff.min.js';
import go from '../vendor/highlight-11.12.0/languages/go.min.js';
import java from '../vendor/highlight-11.12.0/languages/java.min.js';
import javascript from '../vendor/highlight-11.12.0/languages/javascript.min.js';
import json from '../vendor/highlight-11.12.0/languages/json.min.js';
import kotlin from '../vendor/highlight-11.12.0/languages/kotlin.min.js';
import latex from '../vendor/highlight-11.12.0/languages/latex.min.js';
import lua from '../vendor/highlight-11.12.0/languages/lua.min.js';
import markdown from '../vendor/highlight-11.12.0/languages/markdown.min.js';
import php from '../vendor/highlight-11.12.0/languages/php.min.js';
import powershell from '../vendor/highlight-11.12.0/languages/powershell.min.js';
import python from '../vendor/highlight-11.12.0/languages/python.min.js';
import r from '../vendor/highlight-11.12.0/languages/r.min.js';
import ruby from '../vendor/highlight-11.12.0/languages/ruby.min.js';
import rust from '../vendor/highlight-11.12.0/languages/rust.min.js';
import sql from '../vendor/highlight-11.12.0/languages/sql.min.js';
import swift from '../vendor/highlight-11.12.0/languages/swift.min.js';
import typescript from '../vendor/highlight-11.12.0/languages/typescript.min.js';
import xml from '../vendor/highlight-11.12.0/languages/xml.min.js';
import yaml from '../vendor/highlight-11.12.0/languages/yaml.min.js';

const languages = { bash, c, cpp, csharp, css, diff, go, java, javascript, json, kotlin, latex, lua, markdown, php, powershell, python, r, ruby, rust, sql, swift, typescript, xml, yaml };
for (const [name, grammar] of Object.entries(languages)) hljs.registerLanguage(name, grammar);

const longest = 50_000; // characters; colouring takes time that grows with them
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** Code as HTML. */
export function highlight(text, info) {
  const language = (info ?? '').split(/\s/)[0].toLowerCase();
  return text.length <= longest && hljs.getLanguage(language) ? hljs.highlight(text, { language, ignoreIllegals: true }).value : escape(text);
}
