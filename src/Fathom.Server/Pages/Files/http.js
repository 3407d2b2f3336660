// Requests to this server, with errors as sentences for a person.

/** What went wrong. kind: key | wait | balance | refused | gone | cut. */
export class ApiError extends Error {
  constructor(kind, message, retryAfter = null) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The header that a key is sent in; none without one. */
export const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

/** Asks the server. Throws ApiError where it refuses or cannot be reached, AbortError once the signal of the options is set. */
export async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('gone', 'The server cannot be reached. Is it still running?');
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  let said = '';
  try {
    said = sentence((await response.json()).error.message);
  } catch {
    said = `The server answered with the status ${response.status}.`;
  }
  const seconds = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
  const wait = Number.isFinite(seconds) ? seconds : null;
  switch (response.status) {
    case 401:
      return new ApiError('key', said);
    case 402:
      return new ApiError('balance', said);
    case 429:
    case 503:
      return new ApiError('wait', said, wait ?? 5);
    default:
      return new ApiError('refused', said);
  }
}

/** A server's words as a sentence. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? '' : '.');
