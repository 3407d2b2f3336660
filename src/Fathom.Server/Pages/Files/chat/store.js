// Conversations lie in IndexedDB, which holds more than localStorage and does not block while it writes. Where the browser refuses it (some
// private windows), they live as long as the page, and the page says so.

export { get, set } from '../kept.js';

const memory = new Map();
let database = null;

/** Opens the store; false where nothing can be kept. */
export async function open() {
  try {
    const request = indexedDB.open('fathom', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('conversations', { keyPath: 'id' });
    database = await result(request);
    return true;
  } catch {
    return false;
  }
}

/** All conversations, the last used first. */
export async function all() {
  const found = database ? await result(objects('readonly').getAll()) : [...memory.values()];
  return found.sort((a, b) => b.updated - a.updated);
}

/** Writes one. */
export async function put(conversation) {
  if (database) await result(objects('readwrite').put(conversation));
  else memory.set(conversation.id, conversation);
}

/** Removes one. */
export async function remove(id) {
  if (database) await result(objects('readwrite').delete(id));
  else memory.delete(id);
}

const objects = (mode) => database.transaction('conversations', mode).objectStore('conversations');

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error('blocked'));
  });
}
