// The peers and Coatroom side by side, in interleaved rounds, on the machine it finds. `node bench/run.js --help`.
//
// Absolute times drift with the machine by a third within minutes; what holds is the ratio of two servers that were
// measured right after each other. So every round measures every server, each round begins with another one, and
// figures are ratios to bare nginx of the same round. It starts everything on loopback, on free ports and in a
// temporary folder, and leaves nothing behind but its report. Memory is measured first, on servers of its own: one that
// was busy before has room in its heap.

import { existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { request } from '../e2e/rig/http.js';
import { idleMemory } from './idle.js';
import { WORKLOADS, canCountInstructions, headersOf, measure, move, processors } from './load.js';
import { family } from './process.js';
import { machine, report, write } from './report.js';
import { PROOFS, Servers, TOKENS } from './servers.js';

const PEERS = ['nginx', 'haproxy', 'apache', 'auth_request'];
const USAGE = `node bench/run.js [options]

  --quick              bare nginx and Coatroom with a 1.2 KB token, small answers: half a minute
  --only A,B           of ${PEERS.join(', ')}, coatroom; nginx is always there, since it is what is compared with
  --workloads A,B      of ${WORKLOADS.map(({ id }) => id).join(', ')}, idle
  --tokens A,B         of ${Object.keys(TOKENS).join(', ')}
  --dpop               Coatroom with bearer tokens, and with sessions that have a key each and sign a proof for every call (DPoP), ES256 and EdDSA
  --binary [NAME=]PATH which Coatroom; several times to compare some with each other (default: target/release/coatroom, or COATROOM_BIN)
  --rounds N           how many rounds (default 5, quick 3)
  --seconds N          of every measured run, instead of each workload's own
  --connections N      how many idle connections (default 10000)
  --out NAME           writes the report to bench/results/NAME.md and .json; a whole run writes it under its date
`;

const options = readOptions();
const started = Date.now();
const temporary = await mkdtemp(join(tmpdir(), 'coatroom-bench-'));
process.once('exit', () => rmSync(temporary, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
try {
  const idle = options.idle ? await withServers('idle', (subjects) => idleMemory({ subjects: forIdle(subjects), connections: options.connections, tell })) : [];
  await withServers('load', async (subjects, servers) => {
    const probes = await probe(subjects);
    const results = await rounds(subjects, servers);
    const facts = await machine({ subjects, options, seconds: Math.round((Date.now() - started) / 1000) });
    const text = report({ subjects, workloads: options.workloads, results, idle, facts, probes });
    process.stdout.write(`\n${text}\n`);
    if (options.out) tell(`written: ${await write(options.out, text, { facts, probes, results, idle })}`);
  });
} catch (error) {
  process.exitCode = 1;
  console.error(`failed: ${error.message}`);
}

/** Starts every server anew, and stops it whatever happens. */
async function withServers(name, work) {
  const servers = new Servers({ directory: join(temporary, name), connections: options.connections + 1_000 });
  try {
    const subjects = await servers.start(options);
    return await work(subjects.filter(({ isOurs }) => !isOurs || options.withOurs), servers);
  } finally {
    await servers.stop();
  }
}

/** Every answer once before anything is measured: right, of the right length, and with the right token at the API. */
async function probe(subjects) {
  const probes = {};
  for (const subject of subjects) {
    const seen = await request(`${subject.url}/api/seen`, { headers: subject.headers });
    const token = seen.text.replace(subject.algorithm ? /^DPoP / : /^Bearer /, '');
    if (subject.algorithm) await probeProof(subject);
    if (subject.token) {
      const [least, most] = TOKENS[subject.token].length;
      if (!(token.length >= least && token.length <= most && token !== seen.text)) {
        throw new Error(`${subject.title}: a token of ${token.length} bytes arrived, expected ${least} to ${most} (status ${seen.status})`);
      }
    }
    probes[subject.id] = { token: token.length, cookie: subject.headers.cookie?.length ?? 0 };
    for (const workload of options.workloads.filter((workload) => takes(subject, workload) && !workload.tls)) {
      const { status, text } = await request(`${subject.url}${workload.path}`, {
        method: workload.body ? 'POST' : 'GET', headers: headersOf(subject, workload), body: workload.body ? 'x'.repeat(workload.body) : undefined,
      });
      if (status !== 200) throw new Error(`${subject.title}, ${workload.title}: ${status} ${text.slice(0, 200)}`);
    }
  }
  return probes;
}

/** A proof for this call comes with each call, by the key that was wanted, and another one each time. */
async function probeProof(subject) {
  const proofs = [];
  for (const _ of [1, 2]) {
    const { text } = await request(`${subject.url}/api/proof`, { headers: subject.headers });
    const [header, claims] = text.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url').toString() || 'null'));
    const isGood = header?.typ === 'dpop+jwt' && header.alg === subject.algorithm && claims?.htm === 'GET' && claims.ath;
    if (!isGood) throw new Error(`${subject.title}: no proof with ${subject.algorithm} arrived at the API`);
    proofs.push(claims.jti);
  }
  if (proofs[0] === proofs[1]) throw new Error(`${subject.title}: one proof for two calls`);
}

/** `{round, workload, subject, …what was measured}` of every run. */
async function rounds(subjects, servers) {
  const counters = await canCountInstructions();
  const results = [];
  for (const workload of options.workloads) {
    const seconds = options.seconds ?? workload.seconds;
    const measured = subjects.filter((subject) => takes(subject, workload));
    const { all, others, server } = processors();
    const place = async (list, upstream) => {
      await move(family(servers.upstreamPid), upstream);
      for (const { pid } of measured) await move(family(pid), list);
    };
    if (workload.apart) await place(server, others);
    // Connections to the upstream, caches, the branch predictor.
    for (const subject of measured) await measure({ subject, workload, seconds: 1, servers });
    for (let round = 0; round < options.rounds * (workload.often ?? 1); round += 1) {
      for (let turn = 0; turn < measured.length; turn += 1) {
        const subject = measured[(turn + round) % measured.length];
        const result = await measure({ subject, workload, seconds, servers, counters });
        results.push({ round, workload: workload.id, subject: subject.id, ...result });
      }
      const ofRound = results.filter((result) => result.workload === workload.id && result.round === round);
      const base = ofRound.find(({ subject }) => subject === 'nginx');
      tell(`${workload.title}, round ${round + 1}: ${measured.map(({ id }) => {
        const { cpu } = ofRound.find(({ subject }) => subject === id);
        return `${id} ${id === 'nginx' ? `${cpu.toFixed(1)} µs` : (cpu / base.cpu).toFixed(3)}`;
      }).join('  ')}`);
    }
    if (workload.apart) await place(all, all);
  }
  return results;
}

function takes(subject, workload) {
  if (workload.tls && !subject.tlsUrl) return false;
  return workload.all || !subject.isOurs || subject.token === options.usual;
}

/** Apache gives a connection up when its threads are taken; auth_request is nginx again. */
function forIdle(subjects) {
  return subjects.filter((subject) => ['nginx', 'haproxy'].includes(subject.id) || (subject.isOurs && subject.token === options.usual));
}

function readOptions() {
  const values = parsed();
  if (values.help) {
    process.stdout.write(USAGE);
    process.exit(0);
  }
  const { quick } = values;
  const binaries = (values.binary ?? [process.env.COATROOM_BIN ?? join(import.meta.dirname, '../target/release/coatroom')]).map((text) => {
    const equals = text.indexOf('=');
    const path = resolve(text.slice(equals + 1));
    if (!existsSync(path)) fail(`no binary at ${path}\nhint: make build`);
    return { name: equals < 0 ? 'coatroom' : text.slice(0, equals), path };
  });
  const names = new Set(binaries.map(({ name }) => name));
  const isPlain = (name) => /^[a-z][a-z0-9_-]*$/.test(name) && !PEERS.includes(name);
  if (names.size < binaries.length || ![...names].every(isPlain)) {
    fail('several binaries need different names of small letters and digits\nhint: --binary before=/tmp/coatroom --binary after=target/release/coatroom');
  }
  const only = list('only', values.only, [...PEERS, 'coatroom'], quick || values.dpop || binaries.length > 1 ? ['nginx', 'coatroom'] : [...PEERS, 'coatroom']);
  const tokens = list('tokens', values.tokens, Object.keys(TOKENS), quick || values.dpop || binaries.length > 1 ? ['1.2k'] : Object.keys(TOKENS));
  if (values.out !== undefined && !/^\w[\w.-]*$/.test(values.out)) fail('--out: a name, such as 2026-01-31, not a path');
  const ids = [...WORKLOADS.map(({ id }) => id), 'idle'];
  const workloads = list('workloads', values.workloads, ids, quick ? ['small'] : ids);
  const isWhole = !quick && ['only', 'dpop', 'workloads', 'tokens', 'binary', 'rounds', 'seconds', 'connections'].every((name) => values[name] === undefined);
  return {
    peers: PEERS.filter((peer) => peer === 'nginx' || only.includes(peer)),
    binaries,
    tokens,
    proofs: values.dpop ? Object.keys(PROOFS) : ['none'],
    // Without it, it still makes the cookie that every server gets.
    withOurs: only.includes('coatroom'),
    usual: tokens.includes('1.2k') ? '1.2k' : tokens[0],
    workloads: WORKLOADS.filter(({ id }) => workloads.includes(id)),
    idle: workloads.includes('idle'),
    rounds: count('rounds', values.rounds, quick ? 3 : 5),
    seconds: values.seconds === undefined ? undefined : count('seconds', values.seconds),
    connections: count('connections', values.connections, 10_000),
    out: values.out ?? (isWhole ? new Date().toISOString().slice(0, 10) : undefined),
  };
}

function parsed() {
  const [flag, text] = [{ type: 'boolean' }, { type: 'string' }];
  try {
    return parseArgs({
      options: {
        help: flag, quick: flag, dpop: flag, only: text, workloads: text, tokens: text, binary: { ...text, multiple: true },
        rounds: text, seconds: text, connections: text, out: text,
      },
    }).values;
  } catch (error) {
    return fail(`${error.message}\nhint: node bench/run.js --help`);
  }
}

function list(name, text, allowed, byDefault) {
  const chosen = text?.split(',') ?? byDefault;
  for (const item of chosen) if (!allowed.includes(item)) fail(`--${name}: ${item} is none of ${allowed.join(', ')}`);
  return chosen;
}

function count(name, text, byDefault) {
  const number = text === undefined ? byDefault : Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 100_000) fail(`--${name}: a whole number from 1 on`);
  return number;
}

function fail(message) {
  console.error(message);
  process.exit(2);
}

function tell(line) {
  console.error(line);
}
