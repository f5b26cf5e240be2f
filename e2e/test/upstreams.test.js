// One route with three API processes, of which one is killed and one hangs, under steady load: what of it a client gets
// to see.
//
// A call that was sent is never sent again: it fails if the process that has it dies. A call that was not sent yet
// never fails as long as one process answers.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

import { ApiProcess } from '../rig/api_process.js';
import { BINARY, startCoatroom } from '../rig/coatroom.js';
import { request } from '../rig/http.js';
import { counted } from '../rig/metrics.js';
import { freePorts } from '../rig/ports.js';
import { until } from '../rig/wait.js';

const CLIENTS = 12;
const TIMEOUT = 120_000;
const HANGS_FOR = 1_000;

async function world(t) {
  const directory = await mkdtemp(join(tmpdir(), 'coatroom-e2e-'));
  t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  const [port, adminPort, ...ports] = await freePorts(5);
  return { directory, port, adminPort, ports, url: `http://localhost:${port}` };
}

/** No provider answers: everybody may call `/api/`. */
function configuration({ url, port, adminPort }, route) {
  return {
    listen: `127.0.0.1:${port}`,
    admin: `127.0.0.1:${adminPort}`,
    workers: 2,
    apps: {
      shop: {
        url,
        provider: { issuer: 'http://127.0.0.1:1', client_id: 'shop', client_secret: { env: 'SECRET' } },
        routes: { '/api/': { auth: 'none', ...route } },
      },
    },
  };
}

async function start(t, place, route) {
  const coatroom = await startCoatroom({
    directory: place.directory, configuration: configuration(place, route), secrets: { SECRET: 's' }, wait: 'alive',
  });
  t.after(() => coatroom.stop());
  return coatroom;
}

/** Clients that call one after the other, each over a connection of its own, until `stop`. */
class Load {
  calls = [];
  #stopped = false;
  #clients;

  constructor({ port, url }) {
    this.#clients = Array.from({ length: CLIENTS }, async (_, client) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      for (let number = 0; !this.#stopped; number += 1) {
        const call = { id: `${client}-${number}`, began: performance.now() };
        call.answer = await get({ agent, port, host: new URL(url).host, path: `/api/?id=${call.id}` });
        call.ended = performance.now();
        this.calls.push(call);
      }
      agent.destroy();
    });
  }

  async stop() {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  /** The calls that were under way at any time from `from` to `to`. */
  during(from, to) {
    return this.calls.filter(({ began, ended }) => ended >= from && began < to);
  }

  /** Those that had nothing to do with what came before or after. */
  within(from, to) {
    return this.calls.filter(({ began, ended }) => began >= from && ended < to);
  }
}

function get({ agent, port, host, path }) {
  return new Promise((resolve) => {
    const outgoing = http.get({ agent, host: '127.0.0.1', port, path, headers: { host } }, (incoming) => {
      let text = '';
      incoming.on('data', (chunk) => { text += chunk; });
      incoming.on('end', () => resolve({ status: incoming.statusCode, text }));
      incoming.on('error', () => resolve({ status: 0, text }));
    });
    outgoing.setTimeout(20_000, () => outgoing.destroy(new Error('no answer')));
    outgoing.on('error', (error) => resolve({ status: 0, text: error.message }));
  });
}

const failed = (calls) => calls.filter(({ answer }) => answer.status !== 200);

for (const { name, settings } of [
  { name: 'with health checks', settings: { health_check: { path: '/healthz', interval: '250ms', timeout: '250ms', unhealthy_threshold: 1 } } },
  { name: 'by what calls meet alone', settings: {} },
]) {
  test(`of three apis one is killed and one hangs, ${name}: no call fails that was not sent`, { timeout: TIMEOUT }, async (t) => {
    const place = await world(t);
    const apis = place.ports.map((port, index) => new ApiProcess({ name: `api-${index}`, port, directory: place.directory }));
    for (const api of apis) {
      await api.start();
      t.after(() => api.stop());
    }
    const [killed, hung, well] = apis;
    const coatroom = await start(t, place, {
      upstream: apis.map(({ url }) => url), timeout: `${HANGS_FOR}ms`, connect_timeout: '1s', ...settings,
    });
    const load = new Load(place);
    t.after(() => load.stop());
    const phases = [];
    const phase = (what) => phases.push({ what, at: performance.now() });

    phase('all are well');
    await pause(2_000);
    phase('one is being killed');
    killed.signal('SIGKILL');
    await killed.gone();
    phase('one is gone');
    await pause(3_000);
    phase('and one hangs');
    hung.signal('SIGSTOP');
    await pause(5_000);
    phase('both are back');
    hung.signal('SIGCONT');
    await killed.start();
    const back = performance.now();
    for (const api of [killed, hung]) {
      const before = api.seen().length;
      await until(`${api.name} is called again`, () => api.seen().length > before + 10, { timeout: 30_000 });
    }
    t.diagnostic(`both are called again after ${Math.round(performance.now() - back)} ms`);
    phase('all are called again');
    await pause(1_000);
    await load.stop();

    const calls = (what, of = 'within') => {
      const index = phases.findIndex((one) => one.what === what);
      return load[of](phases[index].at, phases[index + 1]?.at ?? performance.now());
    };
    const tell = (what, of) => t.diagnostic(`${what}: ${of.length} calls, ${failed(of).length} failed`);
    for (const what of ['all are well', 'one is gone', 'all are called again']) {
      tell(`while ${what}`, calls(what));
      assert.deepEqual(failed(calls(what)), [], what);
      assert.ok(calls(what).length > 100, what);
    }
    // Those that it had when it was killed, and at most one of each client.
    const cut = failed(calls('one is being killed', 'during'));
    tell('under way when one was killed', calls('one is being killed', 'during'));
    assert.ok(cut.length <= CLIENTS, `${cut.length} calls were cut`);

    // Every failure while one hangs is a call that this one was given; it reads them when it goes on.
    const overdue = failed(calls('and one hangs', 'during'));
    tell('while one hangs', calls('and one hangs', 'during'));
    for (const { id, answer } of overdue) {
      assert.equal(answer.status, 504, id);
      await until(`${id} was sent to the one that hung`, () => hung.seen().includes(id));
    }
    assert.ok(overdue.length <= 4 * CLIENTS, `${overdue.length} calls waited for the one that hung`);

    // Nothing was ever sent twice.
    const all = apis.flatMap((api) => api.seen());
    assert.equal(new Set(all).size, all.length, 'each call was seen once');
    assert.ok(await counted(coatroom, 'coatroom_upstream_ejections_total', { upstream: killed.url }) >= 1);
    assert.ok(well.seen().length > 0);
    if (settings.health_check) {
      await until('all are healthy again', async () => (
        await counted(coatroom, 'coatroom_upstream_healthy')) === 3);
      const { parts } = (await request(`${coatroom.admin}/readyz`)).json();
      const [part] = Object.keys(parts).filter((key) => key.startsWith('upstream '));
      assert.equal(parts[part].state, 'ready', part);
    }
  });
}

test('a private authority that is replaced on disk is trusted without a restart', { timeout: TIMEOUT }, async (t) => {
  const place = await world(t);
  for (const name of ['ours', 'others']) {
    await mkdir(join(place.directory, name));
    await promisify(execFile)(BINARY, ['dev-cert', 'api.localhost'], { cwd: join(place.directory, name) });
  }
  const read = (name) => readFile(join(place.directory, 'ours', name));
  const api = createTlsServer({ cert: await read('dev-cert.pem'), key: await read('dev-key.pem') }, (_, answer) => answer.end('hi'));
  const [apiPort] = place.ports;
  await new Promise((done) => { api.listen(apiPort, '127.0.0.1', done); });
  t.after(() => api.close());
  const ca = join(place.directory, 'ca.pem');
  await copyFile(join(place.directory, 'others', 'dev-ca.pem'), ca);
  const coatroom = await start(t, place, {
    upstream: `https://127.0.0.1:${apiPort}`, upstream_tls: { ca: { file: 'ca.pem' }, server_name: 'api.localhost' },
  });
  const call = () => request(`http://127.0.0.1:${place.port}/api/`, { headers: { host: new URL(place.url).host } });

  assert.equal((await call()).status, 502);
  assert.match(coatroom.log(), /the tls handshake failed: invalid peer certificate/);
  await copyFile(join(place.directory, 'ours', 'dev-ca.pem'), ca);
  await until('the new authority is trusted', async () => (await call()).status === 200);
  await copyFile(join(place.directory, 'others', 'dev-ca.pem'), ca);
  await until('and no longer', async () => (await call()).status === 502);
});
