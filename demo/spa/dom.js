// A few lines to build and find elements. Never markup from text: everything is a text node.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

/** Fills a <dl> with `[term, value]` rows; a value may be an element. */
export function fillFacts(id, rows) {
  $(id).replaceChildren(...rows.flatMap(([term, value]) => [
    element('dt', {}, term),
    element('dd', {}, value instanceof Node ? value : String(value)),
  ]));
}

/**
 * A click handler that cannot run twice at once and explains its failure. The button keeps the focus: a disabled
 * one would lose it, and with it somebody's place on the page.
 */
export function busy(work, explain) {
  return async (event) => {
    const button = event.currentTarget;
    if (button.getAttribute('aria-busy') === 'true' || button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-busy', 'true');
    try {
      await work();
    } catch (error) {
      explain(error);
    } finally {
      button.removeAttribute('aria-busy');
    }
  };
}

export function duration(seconds) {
  const two = (number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
