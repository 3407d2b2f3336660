// Numbers as people read them.

const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** 1,234. */
export const count = (value) => whole.format(value);

/** 1.23M. */
export const compact = (value) => (Math.abs(value) < 10_000 && Number.isInteger(value) ? whole.format(value) : short.format(value));

/** Four significant digits; powers of ten where there are many zeros. */
export function number(value) {
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size >= 1e5) return short.format(value);
  if (size < 1e-3) return value.toExponential(2).replace('e-', 'e−').replace('e+', 'e');
  return Number(value.toPrecision(4)).toString().replace('-', '−');
}

/** 1.53 GB. */
export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  let size = value;
  while (Math.abs(size) >= 1000 && at < units.length - 1) {
    size /= 1000;
    at++;
  }
  return `${Number(size.toPrecision(3))} ${units[at]}`;
}

export const percent = (value) => `${Number((value * 100).toPrecision(4))} %`;

/** 42 s, 3:20 min, 2:05 h, 3.1 days. */
export function duration(seconds) {
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 59.5) return `${Number(seconds.toPrecision(2))} s`;
  const two = (value) => String(value).padStart(2, '0');
  const all = Math.round(seconds);
  if (all < 3600) return `${Math.floor(all / 60)}:${two(all % 60)} min`;
  const minutes = Math.round(all / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}:${two(minutes % 60)} h`;
  return `${Number((all / 86400).toPrecision(3))} days`;
}

/** How long ago a moment (in seconds since 1970) was. */
export function ago(moment) {
  const seconds = Math.max(0, Date.now() / 1000 - moment);
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}
