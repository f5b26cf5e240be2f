// `node load/store_cost.js [--rounds N] [--seconds N] [--stores redis,postgres,sqlite]`: what a hot call of a stored session
// costs the process, beside a call of a session in a cookie, in one interleaved run. Needs wrk.
//
// The figure is the CPU of the Coatroom process alone, user and system, for each call that was answered with 200, as a
// ratio to the stateless one of the same round. It never measures the store's own work, nor a refresh.

import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';

import { cpuSeconds } from '../../bench/process.js';
import { Fleet } from '../rig/fleet.js';

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    stores: { type: 'string', default: 'redis' },
  },
});

const fleets = {};
const results = {};
try {
  for (const store of ['cookie', ...values.stores.split(',')]) {
    const fleet = new Fleet();
    fleets[store] = { fleet };
    await fleet.start({ replicas: 1, store, provider: { accessTokenTtl: 3_600 } });
    const user = fleet.user('wrk@example.com');
    await user.signIn();
    fleets[store].cookie = user.cookies('/api/orders').join('; ');
    results[store] = [];
  }
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const [store, { fleet, cookie }] of Object.entries(fleets)) results[store].push(await measure(fleet, cookie));
  }
} finally {
  for (const { fleet } of Object.values(fleets)) await fleet.stop();
}
for (const [store, rounds] of Object.entries(results)) {
  const micros = rounds.map(({ cpu }) => cpu);
  const ratios = rounds.map(({ cpu }, round) => cpu / results.cookie[round].cpu);
  const calls = rounds.reduce((sum, round) => sum + round.calls, 0);
  const failed = rounds.reduce((sum, round) => sum + round.failed, 0);
  console.log(`${store}: ${median(micros).toFixed(1)} µs of CPU a call, ${median(ratios).toFixed(3)} × stateless `
    + `(${Math.min(...ratios).toFixed(3)}–${Math.max(...ratios).toFixed(3)}), ${calls} calls, ${failed} failed`);
}

/** One round: the CPU of the replica for each call, in microseconds. */
async function measure(fleet, cookie) {
  const [replica] = fleet.replicas;
  const before = cpuSeconds([replica.pid]);
  const { host } = new URL(fleet.url);
  const { stdout } = await run('wrk', [
    '-t1', '-c32', `-d${values.seconds}s`, '-H', `Host: ${host}`, '-H', `Cookie: ${cookie}`, '-H', 'token-handler-version: 1',
    '-H', 'sec-fetch-site: same-origin', `http://${replica.address}/api/orders`,
  ]);
  const used = cpuSeconds([replica.pid]) - before;
  const calls = Number(/(\d+) requests in/.exec(stdout)[1]);
  const failed = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0);
  return { cpu: used / calls * 1e6, calls, failed };
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
