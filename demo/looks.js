// What a headless browser can say about the looks of a page: contrast, touch targets, width. Used by `check.js`.
//
// WCAG 2.2: 1.4.3 contrast (AA), 1.4.10 reflow, 2.5.5 target size (44 px; links inside a sentence are exempt). It never changes the page.

import { strict as assert } from 'node:assert';

/** No page may be wider than the window. */
export async function assertFits(page) {
  const excess = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(excess, 0, 'the page is no wider than the window');
}

/** Everything to press is at least 44 px high and wide. */
export async function assertTouchTargets(page) {
  const small = await page.evaluate(() => [...document.querySelectorAll('button, a[href]')]
    .filter((target) => target.checkVisibility() && !target.matches('.skip'))
    .map((target) => ({ name: target.id || target.textContent.trim(), box: target.getBoundingClientRect() }))
    .filter(({ box }) => box.height < 43.5 || box.width < 43.5)
    .map(({ name, box }) => `${name}: ${Math.round(box.width)} × ${Math.round(box.height)}`));
  assert.deepEqual(small, [], 'every touch target is large enough');
}

/** Every visible text stands out from what is behind it: 4.5 to 1, large text 3 to 1. */
export async function assertContrast(page, name) {
  const faint = await page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data].map((part, at) => (at === 3 ? part / 255 : part));
    };
    const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
    const behind = (element) => {
      const layers = [];
      for (let at = element; at; at = at.parentElement) {
        layers.push(rgba(getComputedStyle(at).backgroundColor));
        if (layers.at(-1)[3] === 1) break;
      }
      return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const luminance = (colour) => {
      const [red, green, blue] = colour.map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      const text = texts.currentNode.textContent.trim();
      // A button that cannot be pressed is exempt; so is what only assistive technology sees.
      if (!text || !element.checkVisibility() || element.closest('[aria-disabled=true], noscript, .skip')) continue;
      const style = getComputedStyle(element);
      const ground = behind(element);
      const [light, dark] = [luminance(over(rgba(style.color), ground)), luminance(ground)].sort((a, b) => b - a);
      const ratio = (light + 0.05) / (dark + 0.05);
      const size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (isLarge ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
    }
    return found;
  });
  assert.deepEqual(faint, [], `enough contrast (${name})`);
}
