// The switch between the themes; theme.js applies the choice before the page is drawn.
import { at } from './dom.js';

/** Makes the switch. changed() is called after each change, of the switch or of the system. */
export function initTheme(changed = () => {}) {
  const theme = at('theme');
  theme.value = document.documentElement.dataset.theme ?? 'auto';
  theme.addEventListener('change', () => {
    if (theme.value === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
    // Plain text, because theme.js reads it before anything else runs.
    if (theme.value === 'auto') localStorage.removeItem('fathom.theme');
    else localStorage.setItem('fathom.theme', theme.value);
    changed();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
}
