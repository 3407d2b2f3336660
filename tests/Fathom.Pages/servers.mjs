// The server under test, and a door in front of it that can behave badly: hold a stream back, cut it, say what a model of random weights never
// would. Whatever is not scripted goes to the real server, so the pages and their headers are always the real ones.
import { spawn, spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer, request as send } from 'node:http';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const fathom = process.env.FATHOM_DLL ?? path.join(root, 'src/Fathom.Cli/bin/Release/net10.0/fathom.dll');
const folder = mkdtempSync(path.join(tmpdir(), 'fathom-pages-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** A file in a folder that goes away with the tests. */
export const temporary = (name) => path.join(folder, name);

/** Runs a verb to its end and gives what it printed. */
export function run(...args) {
  const done = spawnSync('dotnet', [fathom, ...args], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`fathom ${args.join(' ')}: ${done.status} ${done.stderr}${done.error ?? ''}`);
  return done.stdout;
}

let made = null;

// Two steps of training on the project's own documents: the answers are noise, but a tokenizer, a template and every part of a model are there.
const tiny = {
  data: { path: path.join(root, 'docs'), fim_rate: 0 },
  model: {
    model_type: 'deepseek_v3', vocab_size: 512, hidden_size: 64, intermediate_size: 96, moe_intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 4,
    num_key_value_heads: 4, n_shared_experts: 1, n_routed_experts: 8, routed_scaling_factor: 2.5, kv_lora_rank: 32, q_lora_rank: 24, qk_rope_head_dim: 8, v_head_dim: 16,
    qk_nope_head_dim: 16, n_group: 4, topk_group: 2, num_experts_per_tok: 2, first_k_dense_replace: 1, norm_topk_prob: true, max_position_embeddings: 2048,
    rope_theta: 10000, rms_norm_eps: 1e-6, num_nextn_predict_layers: 0,
  },
  tokenizer: { vocab_size: 512 }, sequence_length: 128, micro_batch: 2, batch_size: { segments: [{ from: 2 }] }, steps: 2, validate_every: 2, validation_sequences: 1, save_every: 2,
};

/** A model folder: the one that FATHOM_PAGES_MODEL names, or one made for the tests. */
export function model() {
  if (!existsSync(fathom)) throw new Error(`there is no ${fathom}: dotnet build -c Release src/Fathom.Cli`);
  if (process.env.FATHOM_PAGES_MODEL) return process.env.FATHOM_PAGES_MODEL;
  if (!made) {
    writeFileSync(temporary('tiny.json'), JSON.stringify(tiny));
    run('train', '--config', temporary('tiny.json'), '--out', temporary('run'));
    made = temporary('run/checkpoints/step-00000002');
  }
  return made;
}

/** Starts "fathom serve" on a free port. */
export const serve = (...args) => start('serve', '--model', model(), '--name', 'quickstart', '--context', '2048', ...args);

/** Starts "fathom dashboard" on a free port. */
export const dashboard = (...args) => start('dashboard', ...args);

/** Begins a training run beside what else goes on; ended is kept when it is over. */
export function train(folder, { seconds, ...change }) {
  const config = temporary(`${path.basename(folder)}.json`);
  writeFileSync(config, JSON.stringify({ ...tiny, steps: null, seconds, ...change }));
  const child = spawn('dotnet', [fathom, 'train', '--config', config, '--out', folder, '--threads', '1'], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  return { ended };
}

async function start(...args) {
  const child = spawn('dotnet', [fathom, ...args, '--port', '0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (text) => { log += text; });
  const address = await new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part) => {
      text += part;
      const found = /^http:\/\/\S+/m.exec(text);
      if (found && text.includes('\n')) resolve(found[0].replace(/\/$/, ''));
    });
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${log}`)));
  });
  return {
    address,
    stop: () => new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill('SIGKILL');
    }),
  };
}

/** A door in front of a server. script(handler) takes over the next request for an answer: handler(reply, body). */
export async function door(address) {
  const scripts = [];
  const asked = [];
  let gone = false;
  let away = false;
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    if (away) return response.destroy();
    if (request.url === '/v1/chat/completions') {
      asked.push(JSON.parse(body));
      if (gone) return response.destroy();
      const script = scripts.shift();
      if (script) return script(new Reply(response), JSON.parse(body));
    }
    const onward = send(address + request.url, { method: request.method, headers: request.headers }, async (answer) => {
      const disk = diskFile(request.url);
      if (disk && answer.statusCode === 200) {
        const { 'content-length': _, ...headers } = answer.headers;
        answer.resume();
        response.writeHead(200, headers);
        return response.end(await readFile(disk));
      }
      response.writeHead(answer.statusCode, answer.headers);
      return answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    return onward.end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    asked,
    script: (handler) => scripts.push(handler),
    // A browser tries a request again by itself when a connection breaks that it had used before, so one broken answer is not enough.
    shut: (isGone) => { gone = isGone; },
    // The same for every route.
    away: (isAway) => { away = isAway; },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** With FATHOM_PAGES_DISK=1 pages come from the working tree, so that one need not build to see a change. */
function diskFile(url) {
  if (process.env.FATHOM_PAGES_DISK !== '1') return null;
  const named = { '/': 'index.html', '/dashboard': 'dashboard.html' }[url];
  if (!named && !url.startsWith('/pages/')) return null;
  return path.join(root, 'src/Fathom.Server/Pages/Files', named ?? url.slice('/pages/'.length));
}

/** What a script answers with. */
class Reply {
  #response;

  constructor(response) {
    this.#response = response;
  }

  /** A piece of the answer. */
  delta(delta) {
    if (!this.#response.headersSent) this.#response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    this.#response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`);
  }

  /** The end as the server writes it. */
  end(usage = { prompt_tokens: 73, completion_tokens: 84, prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 9 }, finish = 'stop') {
    this.#response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: finish }] })}\n\n`);
    this.#response.end(`data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`);
  }

  /** The whole answer at once. */
  whole(content, reasoning = '') {
    if (reasoning) this.delta({ reasoning_content: reasoning });
    this.delta({ content });
    this.end();
  }

  /** An error. */
  refuse(status, message, headers = {}) {
    this.#response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    this.#response.end(JSON.stringify({ error: { message, type: 'x', param: null, code: 'x' } }));
  }

  /** The network breaks. */
  cut() {
    this.#response.destroy();
  }
}
