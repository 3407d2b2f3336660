// The server's API as the page needs it: the models, and an answer that streams. Errors come out as sentences for a person, with what can be
// done about them.
import { ApiError, authorization, send, sentence } from '../http.js';

/** The names of the models that are served. */
export async function models(key) {
  const response = await send('v1/models', { headers: authorization(key) });
  return (await response.json()).data.map((model) => model.id);
}

/**
 * Asks for an answer. onDelta({content, reasoning}) is called for each piece.
 * Returns {finish, usage}; throws ApiError, or AbortError once the signal is set.
 */
export async function answer(body, key, signal, onDelta) {
  const response = await send('v1/chat/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...authorization(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let finish = null;
  let usage = null;
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return { finish, usage };
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError('refused', sentence(chunk.error.message));
      if (chunk.usage) usage = chunk.usage;
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      finish = choice.finish_reason ?? finish;
      const content = choice.delta?.content ?? '';
      const reasoning = choice.delta?.reasoning_content ?? '';
      if (content || reasoning) onDelta({ content, reasoning });
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === 'AbortError') throw error;
  }
  // Without [DONE] the end was not the server's.
  throw new ApiError('cut', 'The connection broke before the answer was complete. What had come is kept.');
}

/** The data of server-sent events (WHATWG HTML §9.2): lines end in LF, CR LF or CR; comments and other fields are left out. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      // A CR at the very end may be half of a CR LF.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
        else if (line === '' && data.length > 0) {
          yield data.join('\n');
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
