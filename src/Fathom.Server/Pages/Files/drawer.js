// The sidebar on a narrow screen: a drawer over the page.
import { at, icon } from './dom.js';

/** Makes the drawer: open and close buttons, Escape, and nothing behind it can be reached meanwhile. */
export function initDrawer() {
  const sidebar = at('sidebar');
  const narrow = matchMedia('(max-width: 820px)');
  at('sidebar-open').append(icon('menu'));
  at('sidebar-close').append(icon('close'));
  let isOpen = false;
  const apply = () => {
    const drawer = narrow.matches;
    sidebar.inert = drawer && !isOpen;
    document.querySelector('.stage').inert = drawer && isOpen;
    at('scrim').hidden = !(drawer && isOpen);
    sidebar.classList.toggle('open', drawer && isOpen);
    at('sidebar-open').setAttribute('aria-expanded', String(isOpen));
  };
  const show = (open, focus = true) => {
    isOpen = open;
    apply();
    if (focus && narrow.matches) at(open ? 'sidebar-close' : 'sidebar-open').focus();
  };
  at('sidebar-open').addEventListener('click', () => show(true));
  at('sidebar-close').addEventListener('click', () => show(false));
  at('scrim').addEventListener('click', () => show(false));
  sidebar.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !isOpen || !narrow.matches) return;
    event.stopPropagation();
    show(false);
  });
  narrow.addEventListener('change', apply);
  apply();
  return { close: () => show(false, false) };
}
