// Colours come from the style sheet, so that both themes have their own; a canvas needs them as values. A run has a colour and a pattern of
// dashes: who cannot tell two colours apart can tell the patterns.

/** Runs that can be told apart at a time. */
export const most = 8;

/** Patterns by slot, as canvas and SVG take them. */
export const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [14, 4], [2, 2, 7, 2], [1, 5]];

/** The name of a slot's colour in the style sheet. */
export const variable = (slot) => `--run-${slot + 1}`;

let probe = null;

/** A colour of the style sheet as the theme has it now. */
export function color(name) {
  if (!probe) {
    probe = document.createElement('span');
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** The same as [r, g, b]. */
export const rgb = (name) => color(name).match(/[\d.]+/g).slice(0, 3).map(Number);

/** Sets a canvas to its size in device pixels and gives its context in CSS pixels. */
export function prepare(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
