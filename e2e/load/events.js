// What an operator does, or suffers, while users work: rolling restarts, an outage of the provider, the rotation of the
// key in its documented steps (docs/operations.md, "Keys"), a configuration that is broken, and one that changes.
//
// Nothing here waits for users to be idle. How a new configuration gets into a running replica is a strategy: by reload
// where the binary can, else by restarting one replica after the other.

import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { makeKey, writeConfiguration } from '../rig/coatroom.js';
import { counted, knows } from '../rig/metrics.js';
import { request } from '../rig/http.js';
import { until } from '../rig/wait.js';

/** One replica after the other: SIGTERM, until it is gone, again, until it is ready. */
export async function rollingRestart(rig) {
  for (const replica of rig.replicas) {
    const code = await replica.restart();
    if (code !== 0) throw new Error(`the ${replica.name} replica ended with ${code}`);
  }
}

/** The provider's listener is closed for so long; every replica stays up. */
export async function providerOutage(rig, milliseconds) {
  await rig.chaos.become('stop');
  await pause(milliseconds);
  await rig.chaos.become('pass');
}

/**
 * Both documented steps, and the removal of the old key. The last step is for `session.absolute` later; here it is for
 * when every user has had all cookies sealed again, which is what that time is there for.
 *
 * @param {(rig: object) => Promise<void>} apply how a new configuration gets into the replicas
 * @param {(step: string) => void} tell
 */
export async function keyRotation(rig, load, apply, tell) {
  const [old] = rig.settings.keys;
  const fresh = `after-${old}`;
  await makeKey(join(rig.directory, fresh));
  for (const [step, keys] of [
    ['the new key opens', [old, fresh]],
    ['the new key seals', [fresh, old]],
    ['the old key is gone', [fresh]],
  ]) {
    tell(step);
    rig.settings.keys = keys;
    await apply(rig);
    const appliedAt = Date.now();
    await until('every user has new cookies', () => load.haveAllRefreshedSince(appliedAt), { timeout: 60_000, every: 50 });
  }
}

/** How a new configuration gets into running replicas, by name. */
export const STRATEGIES = {
  'rolling restart': rollingRestart,
  'reload by SIGHUP': (rig) => reload(rig, { outcome: APPLIED }),
  'reload by file change': (rig) => reload(rig, { outcome: APPLIED, signal: false }),
};

/** The names of those that this binary has. */
export async function strategies(rig) {
  const names = Object.keys(STRATEGIES);
  return (await knows(rig.replicas[0], RELOADS)) ? names : names.slice(0, 1);
}

/** A file that is no configuration: refused, told in the log and by `/readyz`; then it is put right again. */
export async function brokenReload(rig) {
  const logged = rig.replicas.map(({ log }) => log().length);
  await reload(rig, { outcome: REFUSED, write: (replica) => writeConfiguration(replica.directory, 'apps: {shop: {url: [}}\n') });
  for (const [index, { name, log, admin }] of rig.replicas.entries()) {
    if (!/refused/.test(log().slice(logged[index]))) throw new Error(`the log of the ${name} replica says nothing`);
    const { status, text } = await request(`${admin}/readyz`);
    if (status !== 200 || !/degraded/.test(text)) throw new Error(`/readyz of the ${name} replica: ${status} ${text}`);
  }
  await reload(rig, { outcome: NOT_REFUSED });
  for (const { name, admin } of rig.replicas) {
    const { text } = await request(`${admin}/readyz`);
    if (/degraded/.test(text)) throw new Error(`/readyz of the ${name} replica: ${text}`);
  }
}

/** A new route, which answers when it is there. */
export async function changedRoute(rig) {
  const api = rig.settings.routes['/api/'];
  rig.settings.routes = { ...rig.settings.routes, '/public/': { ...api, auth: 'none' } };
  await reload(rig, { outcome: APPLIED });
  for (const { address, name } of rig.replicas) {
    const { status } = await request(`http://${address}/public/status`, { headers: { host: new URL(rig.url).host } });
    if (status !== 200) throw new Error(`the new route of the ${name} replica answers ${status}`);
  }
}

/** Writes each replica's file, by default as the rig's settings are now, and waits until the outcome is counted. */
async function reload(rig, { outcome, signal = true, write }) {
  const count = async (replica) => {
    const counts = await Promise.all(outcome.map((label) => counted(replica, RELOADS, { outcome: label })));
    return counts.reduce((sum, more) => sum + more, 0);
  };
  for (const replica of rig.replicas) {
    const before = await count(replica);
    await (write ?? (() => writeConfiguration(replica.directory, rig.configurationOf(replica))))(replica);
    if (signal) replica.signal('SIGHUP');
    await until(`the ${replica.name} replica says ${outcome.join(' or ')}`, async () => (await count(replica)) > before, { every: 50 });
  }
}

const RELOADS = 'coatroom_reloads_total';
const APPLIED = ['applied'];
const REFUSED = ['refused'];
// What was put right again may be what is in use, or be taken on once more.
const NOT_REFUSED = ['unchanged', 'applied'];
