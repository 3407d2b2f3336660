// What the server has told of a run's series, and how it becomes lines.

/** Series of a run in buckets of steps. */
export class RunData {
  steps = [];
  tokens = [];
  seconds = [];
  bucket = 1;
  cursor = '';
  from = 0; // of a part, its first step

  /** Name → {mean, least, largest}; the latter two are null where no bucket has several values. */
  series = new Map();

  /** Takes an answer: all, or what has come since the last one. Says whether anything changed. */
  take(reply) {
    if (!reply.whole && reply.steps.length === 0) return false;
    this.cursor = reply.cursor;
    this.bucket = reply.bucket;
    if (reply.whole) {
      [this.steps, this.tokens, this.seconds] = [[], [], []];
      this.series = new Map();
    }
    // The last bucket may have been half full.
    let kept = this.steps.length;
    while (kept > 0 && this.steps[kept - 1] >= reply.start) kept--;
    const same = kept + reply.steps.length === this.steps.length && this.steps.at(-1) === reply.steps.at(-1) && reply.steps.length === 1
      && Object.entries(reply.series).every(([name, one]) => this.series.get(name)?.mean.at(-1) === one.mean[0]);
    const join = (old, fresh) => old.slice(0, kept).concat(fresh);
    [this.steps, this.tokens, this.seconds] = [join(this.steps, reply.steps), join(this.tokens, reply.tokens), join(this.seconds, reply.seconds)];
    const none = (length) => new Array(length).fill(null);
    for (const name of new Set([...this.series.keys(), ...Object.keys(reply.series)])) {
      const old = this.series.get(name) ?? { mean: none(kept), least: null, largest: null };
      const fresh = reply.series[name] ?? { mean: none(reply.steps.length) };
      const spread = old.least !== null || fresh.least !== undefined;
      this.series.set(name, {
        mean: join(old.mean, fresh.mean),
        least: spread ? join(old.least ?? old.mean, fresh.least ?? fresh.mean) : null,
        largest: spread ? join(old.largest ?? old.mean, fresh.largest ?? fresh.mean) : null,
      });
    }
    return !same;
  }

  /** Where the buckets lie on an axis: steps, tokens or seconds. */
  along(axis) {
    return this[axis];
  }

  /** The steps between two places of an axis, one bucket wider on both sides. */
  stepsBetween(axis, low, high) {
    const x = this.along(axis);
    const first = Math.max(0, x.findIndex((value) => value >= low) - 1);
    let last = x.findIndex((value) => value > high);
    if (last < 0) last = x.length - 1;
    return [first > 0 ? this.steps[first - 1] + 1 : 0, this.steps[last] ?? 0];
  }
}

/**
 * Exponential average with a weight of 0 to below 1 a row, corrected for its start; what is missing stays missing. The weight falls with the rows
 * between two values, so a validation every hundred steps stays as it is.
 */
export function smooth(values, weight) {
  if (weight <= 0) return values;
  let [sum, total, before] = [0, 0, 0];
  return values.map((value, row) => {
    if (value === null) return null;
    const keep = weight ** (row - before);
    sum = keep * sum + (1 - keep) * value;
    total = keep * total + (1 - keep);
    before = row;
    if (total > 0) return sum / total;
    [sum, total] = [value * (1 - weight), 1 - weight];
    return value;
  });
}

/** The place of the value nearest to one in a sorted list; -1 in an empty one. */
export function nearest(sorted, value) {
  if (sorted.length === 0) return -1;
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : low;
}
