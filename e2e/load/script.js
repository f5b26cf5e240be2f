// The script of a load run: events one after the other while users work, and the account in the end.
//
// It judges nothing: who runs it decides what may fail (nothing).

import { setTimeout as pause } from 'node:timers/promises';

import {
  STRATEGIES, brokenReload, changedRoute, keyRotation, providerOutage, rollingRestart, strategies,
} from './events.js';
import { Load } from './users.js';

export const SHORT_FORM = { users: 20, rate: 200, accessTokenTtl: 4, steady: 1_000, outage: 5_000, restarts: 1, rotations: 1 };
export const LONG_FORM = { users: 50, rate: 300, accessTokenTtl: 8, steady: 5_000, outage: 60_000, restarts: 3, rotations: 3 };

/** Options for the rig that a run needs. */
export const rigOptions = ({ accessTokenTtl }) => ({ provider: { accessTokenTtl } });

/**
 * @param {import('../rig/replica_rig.js').ReplicaRig} rig
 * @param {typeof SHORT_FORM} form
 * @param {(line: string) => void} tell
 * @returns `{events, problem, seconds, account, latencies}`; `problem`: why the script did not get to its end, or null
 */
export async function runScript(rig, form, tell) {
  const load = new Load({ makeUser: (name, options) => rig.user(name, options), count: form.users, rate: form.rate });
  await load.signIn();
  const ways = await strategies(rig);
  const events = [];
  const startedAt = performance.now();
  const during = async (name, work) => {
    const { calls, failed } = load.account;
    const since = performance.now();
    load.phase = name;
    tell(name);
    await work();
    load.phase = 'steady';
    await pause(form.steady);
    events.push({
      event: name,
      seconds: Number(((performance.now() - since) / 1_000).toFixed(1)),
      calls: load.account.calls - calls,
      failed: load.account.failed - failed,
    });
  };

  let problem = null;
  load.start();
  try {
    await during('nothing', () => pause(form.steady));
    for (let time = 0; time < form.restarts; time += 1) await during('rolling restart', () => rollingRestart(rig));
    await during('provider stopped', () => providerOutage(rig, form.outage));
    // The newest way first: a short run has time for one.
    for (const way of ways.toReversed().slice(0, form.rotations)) {
      await during(`key rotation by ${way}`, () => keyRotation(rig, load, STRATEGIES[way], (step) => {
        load.phase = `key rotation by ${way}: ${step}`;
      }));
    }
    if (ways.length > 1) {
      await during('reload of a broken file', () => brokenReload(rig));
      await during('reload with a new route', () => changedRoute(rig));
    }
  } catch (error) {
    problem = `${load.phase}: ${error.message}`;
  }
  await load.stop();
  const seconds = Number(((performance.now() - startedAt) / 1_000).toFixed(1));
  return { events, problem, seconds, account: load.account, latencies: load.latencies() };
}

/** The result as lines for people. */
export function table({ events, problem, seconds, account, latencies }, form) {
  const rows = [
    ['event', 'seconds', 'calls', 'failed'],
    ...events.map((row) => [row.event, row.seconds, row.calls, row.failed].map(String)),
    ['sum', String(seconds), String(account.calls), String(account.failed)],
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) => row.map((cell, column) => (
    column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])
  )).join('  '));
  return [
    ...lines,
    '',
    `users ${form.users}, at most ${form.rate} calls/s, access tokens live for ${form.accessTokenTtl} s`,
    `calls that failed: ${account.failed}`,
    `users signed out: ${account.signedOut}`,
    `refreshes: ${account.refreshes}; put off by 503: ${account.putOff}; succeeded after that: ${account.deferredAndSucceeded}`,
    `milliseconds of a call, refresh and waiting included: median ${latencies.median}, p99 ${latencies.p99}, longest ${latencies.longest}`,
    ...(problem ? [`the script did not get to its end: ${problem}`] : []),
    ...account.failures.slice(0, 20).map((failure) => `  failed: ${Object.values(failure).join(' · ')}`),
  ];
}
