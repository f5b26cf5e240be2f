// Rolling restarts under load: a client that opens a new connection for every request never notices one.
//
// By descriptor hand-over the next process is started beside the one before; by socket activation a stand-in for systemd
// keeps the socket. Every request must be answered with 200, over connections of its own. This file ends only processes
// that it started.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { BINARY } from '../rig/coatroom.js';
import { freePorts } from '../rig/ports.js';
import { until } from '../rig/wait.js';

const RESTARTS = 5;
const CLIENTS = 8;
/** Requests between two restarts, at least. */
const BETWEEN = 400;

let directory;
let upstream;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'coatroom-restart-'));
  upstream = createServer((_, response) => response.end('ok'));
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const run = (...parameters) => promisify(execFile)(BINARY, parameters, { cwd: directory, timeout: 20_000 });
  await writeFile(join(directory, 'agent.key'), (await run('keygen')).stdout, { mode: 0o600 });
  await writeFile(join(directory, 'proxy.key'), (await run('keygen', '--proxy', '--key', 'agent.key')).stdout, { mode: 0o600 });
});

after(async () => {
  upstream.close();
  upstream.closeAllConnections();
  await rm(directory, { recursive: true, force: true });
});

test('five restarts by hand-over lose no request, with the same and with other numbers of cores', { timeout: 120_000 }, async (t) => {
  const [port, admin] = await freePorts(2);
  const started = [];
  t.after(() => started.forEach(({ child }) => child.kill('SIGKILL')));
  /** Starts a process beside the one before; resolves when that one is gone and this one is ready. */
  async function next(workers) {
    const file = await configuration(port, admin, [`workers: ${workers}`, 'handover: handover.sock']);
    const process = start(BINARY, ['serve', '--config', file]);
    const previous = started.at(-1);
    started.push(process);
    await ready(admin, () => previous === undefined || /the sockets of the process before were taken over/.test(process.log()));
    if (previous) assert.deepEqual(await previous.exited, [0, null], previous.log());
  }
  await next(2);
  const load = new Load(port);
  for (const workers of [2, 1, 3, 2, 2].slice(0, RESTARTS)) {
    await load.more(BETWEEN);
    await next(workers);
  }
  await load.more(BETWEEN);
  await load.stop();
  t.diagnostic(load.summary());
  assert.deepEqual(load.failures, []);
  assert.ok(load.count >= (RESTARTS + 1) * BETWEEN);
});

test('a process that takes the sockets and then fails changes nothing', { timeout: 60_000 }, async (t) => {
  const [port, admin, other] = await freePorts(3);
  const first = start(BINARY, ['serve', '--config', await configuration(port, admin, ['handover: handover.sock'])]);
  t.after(() => first.child.kill('SIGKILL'));
  await ready(admin);
  const load = new Load(port);
  // Its own admin port is in use, which shows only after the sockets came.
  const blocker = createServer().listen(other, '127.0.0.1');
  await once(blocker, 'listening');
  const second = start(BINARY, ['serve', '--config', await configuration(port, other, ['handover: handover.sock'])]);
  assert.deepEqual(await second.exited, [1, null]);
  assert.match(second.log(), /already in use/);
  await load.more(BETWEEN);
  await load.stop();
  blocker.close();
  assert.deepEqual(load.failures, []);
  first.child.kill('SIGTERM');
  assert.deepEqual(await first.exited, [0, null]);
});

test('five restarts by socket activation lose no request', { timeout: 120_000 }, async (t) => {
  const [port, admin] = await freePorts(2);
  const file = await configuration(port, admin, []);
  await writeFile(file, (await configurationText(port, admin, [])).replace(/^listen: .*$/m, 'listen: systemd:coatroom'));
  const holder = start('perl', [join(import.meta.dirname, '../rig/socket_holder.pl'), String(port), 'coatroom', BINARY, 'serve', '--config', file], 'pipe');
  let running;
  let exits = 0;
  createInterface({ input: holder.child.stdout }).on('line', (line) => {
    const [what, pid, status] = line.split(' ');
    if (what === 'started') running = Number(pid);
    if (what === 'exited') {
      assert.equal(status, '0', holder.log());
      running = undefined;
      exits += 1;
    }
  });
  t.after(() => {
    if (running) process.kill(running, 'SIGKILL');
    holder.child.kill('SIGKILL');
  });
  holder.child.stdin.write('\n');
  await ready(admin);
  const load = new Load(port);
  for (let restart = 1; restart <= RESTARTS; restart += 1) {
    await load.more(BETWEEN);
    process.kill(running, 'SIGTERM');
    await until('the process is gone', async () => exits === restart, { timeout: 40_000, every: 10 });
    holder.child.stdin.write('\n');
    await ready(admin);
  }
  await load.more(BETWEEN);
  await load.stop();
  t.diagnostic(load.summary());
  assert.deepEqual(load.failures, []);
  const last = running;
  process.kill(last, 'SIGTERM');
  await until('the last process is gone', async () => exits === RESTARTS + 1, { timeout: 40_000, every: 10 });
});

/** Clients that open a connection for each request, until they are stopped. */
class Load {
  count = 0;
  failures = [];
  slowest = 0;
  #stopped = false;
  #clients;

  constructor(port) {
    this.#clients = Array.from({ length: CLIENTS }, () => this.#client(port));
  }

  /** Resolves after so many more requests. */
  async more(count) {
    const goal = this.count + count;
    await until(`${count} more requests are answered`, async () => this.count >= goal, { timeout: 60_000, every: 5 });
  }

  async stop() {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  summary() {
    return `${this.count} requests over as many connections, ${this.failures.length} failed, the slowest took ${Math.round(this.slowest)} ms`;
  }

  async #client(port) {
    while (!this.#stopped) {
      const begin = performance.now();
      const outcome = await once200(port).catch((error) => error.code ?? error.message);
      this.slowest = Math.max(this.slowest, performance.now() - begin);
      this.count += 1;
      if (outcome !== 'ok') this.failures.push(outcome);
    }
  }
}

function once200(port) {
  return new Promise((resolve, reject) => {
    const call = request({ port, host: '127.0.0.1', path: '/api/', agent: false, timeout: 30_000, headers: { host: `localhost:${port}` } });
    call.on('error', reject);
    call.on('timeout', () => call.destroy(new Error('no answer in 30 s')));
    call.on('response', async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve(response.statusCode === 200 ? text : `status ${response.statusCode}`);
    });
    call.end();
  });
}

async function configuration(port, admin, lines) {
  const file = join(directory, `coatroom-${admin}.yaml`);
  await writeFile(file, await configurationText(port, admin, lines));
  return file;
}

async function configurationText(port, admin, lines) {
  return [
    `listen: 127.0.0.1:${port}`,
    `admin: 127.0.0.1:${admin}`,
    'keys: [{file: proxy.key}]',
    ...lines,
    'apps:',
    '  shop:',
    `    url: http://localhost:${port}`,
    `    routes: {/api/: {upstream: "http://127.0.0.1:${upstream.address().port}", auth: none}}`,
    '',
  ].join('\n');
}

function start(program, parameters, stdin = 'ignore') {
  const child = spawn(program, parameters, { cwd: directory, env: { PATH: process.env.PATH, COATROOM_LOG: 'info' }, stdio: [stdin, 'pipe', 'pipe'] });
  const log = [];
  child.stdout.on('data', (chunk) => log.push(chunk));
  child.stderr.on('data', (chunk) => log.push(chunk));
  return { child, exited: once(child, 'exit'), log: () => Buffer.concat(log).toString('utf8') };
}

async function ready(admin, condition = () => true) {
  await until('coatroom is ready', async () => {
    if (!condition()) return false;
    const { status } = await fetch(`http://127.0.0.1:${admin}/readyz`, { signal: AbortSignal.timeout(2_000) });
    return status === 200;
  }, { timeout: 20_000, every: 20 });
}
