// What everyone needs who uses the page otherwise than with a mouse on a large screen, as checks that run inside it. Each gives a list of
// what is wrong; an empty list is right.

const interactive = ['button', 'link', 'textbox', 'combobox', 'spinbutton', 'checkbox', 'DisclosureTriangle', 'searchbox', 'listbox', 'slider', 'application', 'progressbar', 'region'];

/** Whatever can be used has a name in the accessibility tree. */
export async function unnamed(page) {
  return (await page.accessible()).filter(({ role, name }) => interactive.includes(role) && name.trim() === '').map(({ role }) => role);
}

/** Text whose contrast with what lies behind it is below WCAG 2.2 §1.4.3: 4.5, and 3 for large text. */
export function faint(page) {
  return page.evaluate(() => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
    const read = (color) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
    const ground = (element) => {
      const layers = [];
      for (let one = element; one; one = one.parentElement) {
        const color = read(getComputedStyle(one).backgroundColor);
        layers.push(color);
        if (color[3] === 1) break;
      }
      return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const luminance = (color) => {
      const [r, g, b] = color.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const wrong = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || element.closest('.hidden, noscript, .katex-mathml, :disabled')) continue;
      const style = getComputedStyle(element);
      const back = ground(element);
      const [light, dark] = [luminance(over(read(style.color), back)), luminance(back)].sort((a, b) => b - a);
      const contrast = (light + 0.05) / (dark + 0.05);
      const size = Number.parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (contrast < (large ? 3 : 4.5)) wrong.push(`${contrast.toFixed(2)} ${element.tagName}.${element.className} “${node.data.trim().slice(0, 30)}”`);
    }
    return wrong;
  });
}

/** Elements that stick out of the window and are in nothing that scrolls sideways by itself. */
export function sticksOut(page, width) {
  return page.evaluate((width) => {
    const scrolls = (element) => {
      for (let one = element.parentElement; one && one !== document.body; one = one.parentElement)
        if (/auto|scroll|hidden|clip/.test(getComputedStyle(one).overflowX) && one.clientWidth > 0 && one.getBoundingClientRect().right <= width + 1 && !one.matches('.scroller, .stage, .sidebar')) return true;
      return false;
    };
    // A phone makes its window wider when something does not fit, so the window's own width proves nothing.
    const wrong = document.documentElement.scrollWidth > width ? [`the document is ${document.documentElement.scrollWidth} wide`] : [];
    const scroller = document.querySelector('.scroller');
    if (scroller.scrollWidth > scroller.clientWidth + 1) wrong.push(`what scrolls is ${scroller.scrollWidth} wide in ${scroller.clientWidth}`);
    for (const element of document.querySelectorAll('body *')) {
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > width + 1 && element.checkVisibility({ visibilityProperty: true }) && !element.closest('.hidden') && !scrolls(element)) wrong.push(`${element.tagName}.${element.className} ends at ${box.right}`);
    }
    return wrong;
  }, width);
}

/** Structure: one main, one h1, headings without a gap, ids once, labels that point at something, and nothing that is clicked under 24 pixels (WCAG 2.2 §2.5.8). */
export function structure(page) {
  return page.evaluate(() => {
    const wrong = [];
    const visible = (element) => element.checkVisibility({ visibilityProperty: true });
    for (const [selector, count] of [['main', 1], ['h1', 1], ['header', 1], ['nav', 1]]) {
      const found = document.querySelectorAll(selector).length;
      if (found !== count) wrong.push(`${found} ${selector}`);
    }
    if (!document.documentElement.lang) wrong.push('no language');
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`the id ${id} is there twice`);
    for (const label of document.querySelectorAll('label[for]')) if (!document.getElementById(label.htmlFor)) wrong.push(`a label for ${label.htmlFor}, which is not there`);
    let last = 0;
    for (const heading of [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter(visible)) {
      const level = Number(heading.tagName[1]);
      if (level > last + 1) wrong.push(`h${level} behind h${last}`);
      last = level;
    }
    for (const button of [...document.querySelectorAll('button, summary, select, input')].filter(visible)) {
      const box = button.getBoundingClientRect();
      if (Math.min(box.width, box.height) < 24) wrong.push(`${button.tagName}.${button.className} is ${box.width} × ${box.height}`);
    }
    return wrong;
  });
}
