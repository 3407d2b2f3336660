// Run directories as a trainer writes them (docs/run-directory.md), with numbers that a test can foretell.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Load of an expert at a step: every expert of every layer has another one. */
export const load = (step, layer, expert) => 100 + ((step * 7 + layer * 13 + expert * 29) % 100);

/** Lines of metrics from one step to another. */
export function lines(first, last, { loss = (step) => 2 + 6 / Math.sqrt(step), validateEvery = 50, loadsEvery = 20, layers = 3, experts = 8 } = {}) {
  const text = [];
  for (let step = first; step <= last; step++) {
    const value = loss(step);
    text.push(JSON.stringify({
      step, tokens: step * 4096, loss: value, total_loss: value * 1.1, mtp_loss: [value + 0.5], mtp_accuracy: [0.25], balance_loss: layers * 1.05, grad_norm: 0.5 + 2 / step, lr: Math.min(step / 100, 1) * 1e-3,
      seconds: 0.5, tokens_per_second: 8192 + (step % 9) * 40, peak_share: 0.61, load_imbalance: Array.from({ length: layers }, (_, i) => 1.1 + i * 0.1), memory_bytes: 1.2e9 + step * 1e5,
    }));
    if (validateEvery && step % validateEvery === 0) text.push(JSON.stringify({ step, val_loss: value + 0.1, val_bpb: value * 0.4, val_tokens: 4096 }));
    if (layers && loadsEvery && step % loadsEvery === 0) {
      const names = Array.from({ length: layers }, (_, i) => i + 1);
      text.push(JSON.stringify({ step, expert_layers: names, expert_load: names.map((layer) => Array.from({ length: experts }, (_, expert) => load(step, layer, expert))), routing_bias: names.map(() => [-0.0125, 0.02]) }));
    }
  }
  return `${text.join('\n')}\n`;
}

/** Makes a run directory. */
export function make(root, name, steps, { settings = {}, ...kind } = {}) {
  const folder = path.join(root, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'run.json'), JSON.stringify({ model: 'quickstart', recipe: 'bf16', seed: 1, sequence_length: 256, steps, ...settings }));
  writeFileSync(path.join(folder, 'metrics.jsonl'), steps > 0 ? lines(1, settings.at ?? steps, kind) : '');
  return { folder, append: (text) => appendFileSync(path.join(folder, 'metrics.jsonl'), text), replace: (text) => writeFileSync(path.join(folder, 'metrics.jsonl'), text) };
}
