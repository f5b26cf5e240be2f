// `node soak/run.js [--minutes 20] [--users 60] [--rate 120] [--store redis] [--every 45]`: two replicas and a store under a mixed load
// with a fault every so many seconds. Every ten seconds memory and open files of each replica are read from /proc.
//
// It ends by itself. It exits with 1 when memory or open files grow after the warm-up, a user was signed out, or something
// failed while nothing was broken.

import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { Fleet } from '../rig/fleet.js';
import { until, within } from '../rig/wait.js';
import { Crowd } from './users.js';

const RESULTS = join(import.meta.dirname, 'results');
const SAMPLE = 10_000;
const ACCESS_TOKEN_LIFE = 20;
/** The share of the run that is not judged: pools, caches and the allocator fill. */
const WARM_UP = 0.3;
/** What counts as flat over the rest of the run. */
const FLAT = { kilobytes: 8_192, share: 0.1, files: 24 };
const FAULT = { first: 30_000, lasts: 4_000, after: 6_500 };

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    users: { type: 'string', default: '60' },
    rate: { type: 'string', default: '120' },
    store: { type: 'string', default: 'redis' },
    every: { type: 'string', default: '45' },
  },
});
const minutes = Number(values.minutes);
const lasts = minutes * 60_000;

const fleet = new Fleet();
try {
  await fleet.start({
    replicas: 2, store: values.store, durable: true, breakable: true,
    provider: { accessTokenTtl: ACCESS_TOKEN_LIFE, delay: [0, 40] }, providerSettings: { timeout: '3s' },
  });
  const crowd = new Crowd({ fleet, count: Number(values.users), rate: Number(values.rate) });
  await crowd.begin();
  const startedAt = Date.now();
  const isRunning = () => Date.now() - startedAt < lasts;
  const samples = [];
  const [faults] = await within('the soak ends', Promise.all([disturb(crowd, startedAt, isRunning), sample(samples, startedAt, isRunning)]), lasts + 120_000);
  const account = await within('the crowd ends', crowd.end(), 120_000);
  const processes = fleet.replicas.map(({ name, pid }) => ({ name, ...judged(samples.filter((entry) => entry.pid === pid)) }));
  const isGood = account.failed === 0 && account.lost === 0 && processes.every(({ isFlat }) => isFlat);
  tell({ account, faults, processes });
  await mkdir(RESULTS, { recursive: true });
  const record = { store: values.store, minutes, users: Number(values.users), rate: Number(values.rate), isGood, account, faults, processes, samples };
  await writeFile(join(RESULTS, `${values.store}.json`), `${JSON.stringify(record)}\n`);
  if (!isGood) console.log((await fleet.report()).join('\n'));
  process.exitCode = isGood ? 0 : 1;
} finally {
  await fleet.stop();
}

/** One fault after the other until it is time; how often each was. */
async function disturb(crowd, startedAt, isRunning) {
  const counts = {};
  const tokenFailure = (failure) => fleet.outsideProvider.ask('set', { tokenFailure: failure });
  // Nothing that loses an answer of the provider on its way: it may hold the only refresh token that is good, and then
  // a session is over by the provider's rules.
  const kinds = [
    { name: 'provider answers 503', begin: () => tokenFailure({ status: 503 }), end: () => tokenFailure(null) },
    { name: 'provider is slow', begin: () => fleet.providerChaos.become('slow'), end: () => fleet.providerChaos.become('pass') },
    ...fleet.storeChaos.length > 0 ? [
      { name: 'store resets connections', begin: () => fleet.breakStore('reset'), end: () => fleet.breakStore('pass') },
      { name: 'store never answers', begin: () => fleet.breakStore('black hole'), end: () => fleet.breakStore('pass') },
      { name: 'store is restarted', begin: () => fleet.store.restart(), end: async () => {} },
    ] : [],
  ];
  for (let index = 0, at = FAULT.first; at + FAULT.lasts < lasts - SAMPLE; index += 1, at += 1_000 * Number(values.every)) {
    await pause(Math.max(0, startedAt + at - Date.now()));
    if (!isRunning()) break;
    const kind = kinds[index % kinds.length];
    crowd.fault = kind.name;
    await kind.begin();
    await pause(FAULT.lasts);
    await kind.end();
    await until('users get answers again', () => crowd.isWell(), { timeout: 30_000 });
    // Whoever was told to come again does within this.
    await pause(FAULT.after);
    crowd.fault = null;
    counts[kind.name] = (counts[kind.name] ?? 0) + 1;
  }
  return counts;
}

async function sample(samples, startedAt, isRunning) {
  while (isRunning()) {
    for (const { pid } of fleet.replicas) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const kilobytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)[1]);
      samples.push({ pid, at: Date.now() - startedAt, kilobytes, files: (await readdir(`/proc/${pid}/fd`)).length });
    }
    await pause(Math.min(SAMPLE, Math.max(0, startedAt + lasts - Date.now())));
  }
}

/** The straight line through what came after the warm-up, and how much it rises until the end. */
function judged(samples) {
  const kept = samples.filter(({ at }) => at >= lasts * WARM_UP);
  const rise = (key) => Math.round(slope(kept.map((entry) => [entry.at, entry[key]])) * lasts * (1 - WARM_UP));
  const mean = kept.reduce((sum, { kilobytes }) => sum + kilobytes, 0) / kept.length;
  const [kilobytes, files] = [rise('kilobytes'), rise('files')];
  return {
    kilobytes: { first: samples[0].kilobytes, mean: Math.round(mean), last: samples.at(-1).kilobytes, rise: kilobytes },
    files: { first: samples[0].files, last: samples.at(-1).files, most: Math.max(...samples.map((entry) => entry.files)), rise: files },
    isFlat: kilobytes <= Math.max(FLAT.kilobytes, mean * FLAT.share) && files <= FLAT.files,
  };
}

/** Least squares. */
function slope(points) {
  if (points.length < 2) return 0;
  const mean = (index) => points.reduce((sum, point) => sum + point[index], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const over = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
  return over === 0 ? 0 : points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0) / over;
}

function tell({ account, faults, processes }) {
  const { failures, losses, ...counts } = account;
  console.log(`${minutes} minutes, ${values.users} users, at most ${values.rate} operations/s, store ${values.store}\n`);
  for (const [what, count] of Object.entries(counts)) console.log(`${what.padEnd(12)}${String(count).padStart(8)}`);
  for (const [what, count] of Object.entries(faults)) console.log(`fault: ${what} × ${count}`);
  for (const { name, kilobytes, files, isFlat } of processes) {
    console.log(`${name}: memory ${kilobytes.first} → ${kilobytes.last} kB (rise after the warm-up ${kilobytes.rise}), `
      + `files ${files.first} → ${files.last} (most ${files.most}, rise ${files.rise}): ${isFlat ? 'flat' : 'NOT flat'}`);
  }
  for (const failure of [...losses, ...failures]) console.log(`  ${failure}`);
}
