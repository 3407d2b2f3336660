// A conversation is a tree: editing a message or asking again adds a branch beside the old one, so nothing that was written is lost. What is
// shown is the path from the root to the chosen leaf. Pure functions over plain objects, which is also how they are stored and exported.

/** A conversation without messages. */
export function newConversation(settings) {
  const now = Date.now();
  return { id: crypto.randomUUID?.() ?? `c${now}-${Math.random().toString(36).slice(2)}`, title: '', created: now, updated: now, settings, messages: [], leaf: null };
}

/** The messages from the first to the leaf. */
export function path(conversation) {
  const found = [];
  for (let at = conversation.leaf; at !== null; at = conversation.messages[at].parent) found.push(conversation.messages[at]);
  return found.reverse();
}

/** Adds a message behind a parent (null: a first one) and makes it the leaf. */
export function add(conversation, parent, message) {
  const added = { index: conversation.messages.length, parent, ...message };
  conversation.messages.push(added);
  conversation.leaf = added.index;
  conversation.updated = Date.now();
  return added;
}

/** The versions of a message, itself among them, in the order they were made. */
export const versions = (conversation, message) => conversation.messages.filter((other) => other.parent === message.parent);

/** Shows another version: the leaf becomes the newest message behind it. */
export function choose(conversation, message) {
  let leaf = message.index;
  for (let next = newestChild(conversation, leaf); next !== null; next = newestChild(conversation, leaf)) leaf = next;
  conversation.leaf = leaf;
}

/** The title: the one given, or the beginning of the first message. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === 'user')?.content.trim().replace(/\s+/g, ' ') ?? '';
  return first.length === 0 ? 'New conversation' : first.length <= 60 ? first : `${first.slice(0, 57).trimEnd()}…`;
}

/** The path as Markdown, to be read elsewhere. */
export function toMarkdown(conversation) {
  const parts = [`# ${titleOf(conversation)}`];
  if (conversation.settings.system) parts.push(`**System**\n\n${conversation.settings.system}`);
  for (const message of path(conversation)) parts.push(`**${message.role === 'user' ? 'You' : 'Model'}**\n\n${message.content}`);
  return `${parts.join('\n\n')}\n`;
}

function newestChild(conversation, index) {
  const child = conversation.messages.findLast((message) => message.parent === index);
  return child ? child.index : null;
}
