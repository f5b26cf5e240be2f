// `node race/run.js [--store redis|valkey|cluster|sentinel|postgres|sqlite|cookie] [--revocation-store STORE]
// [--replicas N] [--sessions N] [--calls N] [--at-once N] [--kill | --restart-store | --fail-over] [--all] [--name NAME]`
//
// One race, or with `--all` every one of the table in docs, each with a fleet of its own; a line for each, and a JSON file
// in race/results. It exits with 1 when a race did not end as it has to.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Fleet } from '../rig/fleet.js';
import { isInstalled } from '../rig/stores.js';
import { fleetOptions, objections, race } from './race.js';

const RESULTS = join(import.meta.dirname, 'results');
const COLUMNS = ['race', 'sessions', 'calls', 'refreshes', 'failed', 'lost', 'in flight', 'put off', 'seconds', 'median ms', 'p99 ms'];

const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'redis' },
    'revocation-store': { type: 'string' },
    replicas: { type: 'string' },
    sessions: { type: 'string', default: '1000' },
    calls: { type: 'string', default: '20' },
    'at-once': { type: 'string', default: '100' },
    kill: { type: 'boolean', default: false },
    'restart-store': { type: 'boolean', default: false },
    'fail-over': { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    name: { type: 'string' },
  },
});

const disturbances = ['kill', 'restart-store', 'fail-over'].filter((name) => values[name]);
if (disturbances.length > 1) throw new Error('one of --kill, --restart-store and --fail-over');
const one = {
  store: values.store,
  revocationStore: values['revocation-store'],
  replicas: values.replicas && Number(values.replicas),
  disturbance: disturbances[0] ?? null,
};
const ALL = [
  ...['redis', 'valkey', 'cluster', 'sentinel', 'postgres', 'sqlite', 'cookie'].map((store) => ({ store })),
  { store: 'cookie', revocationStore: 'redis', replicas: 3 },
  ...['redis', 'postgres'].flatMap((store) => ['kill', 'restart-store'].map((disturbance) => ({ store, disturbance }))),
].filter(({ store }) => isInstalled(store));

await mkdir(RESULTS, { recursive: true });
console.log(line(COLUMNS));
for (const form of values.all ? ALL : [one]) {
  const { name, result, found } = await run(form);
  console.log(line([
    name, result.sessions, result.calls, result.refreshes, result.failed, result.lost, result.inFlight, result.putOff,
    result.seconds, result.median, result.p99,
  ]));
  for (const objection of found) console.log(`  not as it has to be: ${objection}`);
  if (found.length > 0) process.exitCode = 1;
}

async function run({ store, revocationStore, replicas = isAlone(store) ? 1 : 3, disturbance = null }) {
  const name = (!values.all && values.name) || [
    store, revocationStore && `with-${revocationStore}`, `${replicas}-replicas`, disturbance,
  ].filter(Boolean).join('-');
  const sessions = Number(values.sessions);
  const form = { sessions, calls: Number(values.calls), atOnce: Number(values['at-once']), disturbance };
  const fleet = new Fleet();
  try {
    await fleet.start({ replicas, store, revocationStore, durable: disturbance !== null, ...fleetOptions() });
    const result = await race(fleet, form, (text) => console.error(`… ${name}: ${text}`));
    const found = objections(result, form);
    const record = { name, store, revocationStore, replicas, ...form, ...result, objections: found, at: new Date().toISOString() };
    await writeFile(join(RESULTS, `${name}.json`), `${JSON.stringify(record)}\n`);
    if (found.length > 0) console.error((await fleet.report()).join('\n'));
    return { name, result, found };
  } finally {
    await fleet.stop();
  }
}

/** A file, and cookies without a store, are one replica's. */
function isAlone(store) {
  return store === 'sqlite' || (store === 'cookie' && !values['revocation-store']);
}

function line(cells) {
  return cells.map((cell, index) => (index === 0 ? String(cell).padEnd(34) : String(cell).padStart(10))).join('');
}
