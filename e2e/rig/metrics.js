// Counters of one Coatroom process, read from its admin listener.
//
// It never asks anything but `/metrics`.

import { request } from './http.js';

/**
 * The sum of one counter's series that have these labels; zero when there are none.
 *
 * @param {{admin: string}} coatroom
 * @param {string} name such as `coatroom_agent_answers_total`
 * @param {Record<string, string>} [labels]
 */
export async function counted(coatroom, name, labels = {}) {
  return sum((await request(`${coatroom.admin}/metrics`)).text, name, labels);
}

/** Whether this binary has a metric of that name at all. */
export async function knows(coatroom, name) {
  return (await request(`${coatroom.admin}/metrics`)).text.includes(name);
}

function sum(text, name, labels) {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .filter((line) => Object.entries(labels).every(([label, value]) => line.includes(`${label}="${value}"`)))
    .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
