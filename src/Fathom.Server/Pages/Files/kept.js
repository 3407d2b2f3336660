// Small values that this browser keeps for the pages of this server.

/** A small value that is kept, or null. */
export function get(name) {
  try {
    return JSON.parse(localStorage.getItem(`fathom.${name}`));
  } catch {
    return null;
  }
}

/** Keeps a small value; null forgets it. */
export function set(name, value) {
  try {
    if (value === null) localStorage.removeItem(`fathom.${name}`);
    else localStorage.setItem(`fathom.${name}`, JSON.stringify(value));
  } catch {
    // full or refused: it holds until the page is left
  }
}
