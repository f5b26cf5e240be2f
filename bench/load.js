// The workloads, and one measured run of one of them against one subject: wrk for HTTP/1.1, h2load for TLS with HTTP/2
// and for a fixed rate, which wrk does not know.
//
// An answer that is not a 2xx fails the run. So does one that did not come from the API: whoever turned a request away
// with a page of its own would look fast.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { cpuSeconds, family } from './process.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SCRIPT = join(import.meta.dirname, 'wrk.lua');
const RATE = 500;

/**
 * `seconds`: of one measured run. `all`: with every token, not the usual one alone. `often`: so many short runs for each
 * round. `apart`: the server on one processor, load and upstream on another, as on two machines; where the scheduler
 * happens to put a few threads that wake each other would else decide more than the server does.
 */
export const WORKLOADS = [
  { id: 'small', title: 'JSON of 215 bytes', path: '/api/small', connections: 64, seconds: 3, all: true },
  { id: 'single', title: 'one connection', path: '/api/small', connections: 1, seconds: 1, often: 3, apart: true },
  { id: '16k', title: '16 KB', path: '/api/files/16k.json', connections: 64, seconds: 2 },
  { id: 'down', title: '1 MB down', path: '/api/files/1m.json', connections: 16, seconds: 2 },
  // The upstream asks itself for the answer once it has the body.
  { id: 'up', title: '1 MB up', path: '/api/upload', connections: 16, seconds: 2, body: MIB, alsoArrive: 1 },
  { id: 'h2', title: 'TLS 1.3, HTTP/2', path: '/api/small', connections: 16, seconds: 2, tls: true },
  { id: 'latency', title: `${RATE} calls a second`, path: '/api/small', connections: 1, seconds: 1, often: 3, apart: true, rate: RATE },
];

/**
 * Runs one workload against one subject.
 *
 * @returns `{requests, perSecond, cpu, median, p99, instructions}`; `cpu` in microseconds per request, times in
 *   microseconds, `instructions` per request where the machine can count them
 */
export async function measure({ subject, workload, seconds, servers, counters }) {
  const url = `${workload.tls ? subject.tlsUrl : subject.url}${workload.path}`;
  const headers = headersOf(subject, workload);
  const pids = family(workload.tls ? subject.tlsPid ?? subject.pid : subject.pid);
  const load = workload.tls || workload.rate ? h2load : wrk;

  const counting = counters ? countInstructions(pids, servers.directory) : undefined;
  const arrivedBefore = await servers.arrived();
  const before = cpuSeconds(pids);
  const result = await load({ url, headers, workload, seconds, directory: servers.directory, prefix: counting?.prefix ?? [] });
  const cpu = cpuSeconds(pids) - before;
  const instructions = await counting?.read();
  const arrived = await servers.arrived() - arrivedBefore;

  const where = `${subject.title}, ${workload.title}`;
  if (result.requests === 0) throw new Error(`${where}: no request was answered`);
  if (result.failed > 0) throw new Error(`${where}: ${result.failed} of ${result.requests} requests failed (${result.how})`);
  const expected = result.requests * (1 + (workload.alsoArrive ?? 0) + (subject.alsoArrive ?? 0));
  if (arrived < expected) {
    throw new Error(`${where}: ${result.requests} answers, but only ${arrived} of ${expected} requests arrived at the upstream`);
  }
  return {
    requests: result.requests,
    perSecond: result.requests / result.seconds,
    cpu: (cpu / result.requests) * 1e6,
    median: result.median,
    p99: result.p99,
    instructions: instructions === undefined ? undefined : instructions / result.requests,
  };
}

/** The processors for everything but the server under test. */
function where({ apart }) {
  return ['taskset', '-c', apart ? processors().others : processors().all];
}

/** As `taskset` writes them: those this process may use, one for the server alone, one for everything else. */
export function processors() {
  const all = /^Cpus_allowed_list:\s+(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1];
  const each = all.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return { all, others: String(each[0]), server: String(each.at(-1)) };
}

/** Moves running processes, all their threads, to these processors. */
export async function move(pids, list) {
  for (const pid of pids) await run('taskset', ['-a', '-c', '-p', list, String(pid)], { timeout: 10_000 });
}

/** What a script sends; browsers add `Origin` to what is no GET. */
export function headersOf(subject, workload) {
  return { ...subject.headers, ...(workload.body && { origin: subject.url }) };
}

async function wrk({ url, headers, workload, seconds, prefix }) {
  const threads = Math.min(2, workload.connections);
  const { stdout } = await runAll([...prefix, ...where(workload), 'wrk',
    `-t${threads}`, `-c${workload.connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', SCRIPT,
    ...asOptions(headers), url,
  ], { env: { ...process.env, BENCH_BODY: String(workload.body ?? 0) }, timeout: (seconds + 30) * 1000 });
  const line = /^TOTALS (.*)$/m.exec(stdout)?.[1];
  if (!line) throw new Error(`wrk said no totals: ${stdout}`);
  const { requests, microseconds, median, p99, failed, broken, late } = JSON.parse(line);
  return {
    requests, seconds: microseconds / 1e6, median, p99,
    failed: failed + broken + late,
    how: `${failed} by status, ${broken} by a broken connection, ${late} too late`,
  };
}

async function h2load({ url, headers, workload, seconds, directory, prefix }) {
  const log = join(directory, 'h2load.log');
  const shape = workload.rate
    // One connection, so that a call never waits for another one. h2load sends what is due ten to a hundred times a second.
    ? ['--h1', '-t1', '-c1', `--rps=${workload.rate}`, `--log-file=${log}`]
    : ['-t2', `-c${workload.connections}`, '-m10'];
  const { stdout } = await runAll([...prefix, ...where(workload), 'h2load', ...shape, '-D', String(seconds), ...asOptions(headers), url], {
    timeout: (seconds + 30) * 1000,
  });
  const number = (pattern) => Number(pattern.exec(stdout)?.[1] ?? NaN);
  const requests = number(/(\d+) done,/);
  const good = number(/(\d+) 2xx/);
  // `failed` has answers that are no 2xx as well as those that never came.
  const failed = Math.max(requests - good, number(/(\d+) failed,/)) + number(/(\d+) timeout/);
  if (Number.isNaN(failed)) throw new Error(`h2load said no totals: ${stdout}`);
  const protocol = /Application protocol: (.*)/.exec(stdout)?.[1];
  if (protocol !== (workload.tls ? 'h2' : 'http/1.1')) throw new Error(`${url} spoke ${protocol}`);
  if (workload.tls && !/TLS Protocol: TLSv1\.3/.test(stdout)) throw new Error(`${url} did not speak TLS 1.3`);
  const result = { requests, seconds, failed, how: /status codes:.*/.exec(stdout)?.[0] };
  if (!workload.rate) return result;
  const times = (await readFile(log, 'utf8')).trim().split('\n').map((line) => Number(line.split('\t')[2])).sort((a, b) => a - b);
  await rm(log);
  return { ...result, median: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

/** Whether this machine lets `perf` count instructions: most virtual machines do not. */
export async function canCountInstructions() {
  try {
    const { stderr } = await run('perf', ['stat', '-x,', '-e', 'instructions', 'true'], { timeout: 10_000 });
    return /^\d+,/m.test(stderr);
  } catch {
    return false;
  }
}

/** `prefix` makes a command during which `perf` counts what these processes do; `read` is the number of it. */
export function countInstructions(pids, directory, event = 'instructions') {
  const file = join(directory, 'perf.csv');
  return {
    prefix: ['perf', 'stat', '-x,', '-e', event, '-o', file, '-p', pids.join(','), '--'],
    async read() {
      const text = await readFile(file, 'utf8');
      const count = Number(new RegExp(`^([\\d.]+),.*${event}`, 'm').exec(text)?.[1]);
      if (!(count > 0)) throw new Error(`perf counted nothing: ${text}`);
      return count;
    },
  };
}

function runAll([program, ...parameters], options) {
  return run(program, parameters, options);
}

function asOptions(headers) {
  return Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
}

/** @param {number[]} sorted */
export function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}
