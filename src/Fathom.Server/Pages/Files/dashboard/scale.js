// From values to places, and the round numbers to write beside an axis.

/** A scale over [low, high] onto [from, to], linear or by powers. */
export function scale(low, high, from, to, log = false) {
  const warp = log ? Math.log10 : (value) => value;
  const unwarp = log ? (value) => 10 ** value : (value) => value;
  const a = warp(low);
  const b = warp(high);
  const map = (value) => from + ((warp(value) - a) / (b - a || 1)) * (to - from);
  map.invert = (place) => unwarp(a + ((place - from) / (to - from || 1)) * (b - a));
  return map;
}

/** About so many round numbers within [low, high]. */
export function ticks(low, high, about) {
  const step = roundStep((high - low) / Math.max(1, about), [1, 2, 2.5, 5, 10]);
  return every(low, high, step);
}

/** Round times, in seconds. */
export function timeTicks(low, high, about) {
  const wanted = (high - low) / Math.max(1, about);
  const round = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];
  const step = wanted < 1 ? roundStep(wanted, [1, 2, 5, 10]) : round.find((one) => one >= wanted) ?? roundStep(wanted / 86400, [1, 2, 5, 10]) * 86400;
  return every(low, high, step);
}

/** Powers of ten within [low, high], with 2 and 5 between where there are few of them. */
export function logTicks(low, high, about) {
  const found = [];
  for (const parts of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    found.length = 0;
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const part of parts) found.push(part * 10 ** power);
    const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    if (inside.length >= 3) return thin(inside, about);
  }
  return ticks(low, high, about).filter((value) => value > 0);
}

const thin = (values, about) => values.filter((_, at) => at % Math.ceil(values.length / (about * 1.6)) === 0);

function roundStep(wanted, rounds) {
  if (!(wanted > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(wanted));
  return rounds.find((one) => one * power >= wanted * 0.999) * power;
}

function every(low, high, step) {
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}
