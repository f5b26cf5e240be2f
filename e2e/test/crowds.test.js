// Clients that ask and do not take the answer, more of them than files may be open: the health checks answer all the
// while, and a user is served.
//
// The readers come from 127.0.0.2, the user from 127.0.0.1. Every socket that this file opens is destroyed by it.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { startCoatroom } from '../rig/coatroom.js';
import { request } from '../rig/http.js';
import { counted } from '../rig/metrics.js';
import { freePorts } from '../rig/ports.js';
import { until } from '../rig/wait.js';

const READERS = 600;
const FILES = 256;
const LARGE = 64 * 1024 * 1024;

for (const { name, connections, most } of [
  // as many as have places stall at first, and those that wait in front of the user then take their turn
  { name: 'by default', connections: undefined, most: 75_000 },
  { name: 'with a bound for each address', connections: { max_per_address: 20 }, most: 10_000 },
]) {
  test(`${READERS} stalled readers and ${FILES} files: a user is served, ${name}`, { timeout: 150_000 }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'coatroom-crowds-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    const [port, adminPort] = await freePorts(2);
    await mkdir(join(directory, 'dist'));
    await writeFile(join(directory, 'dist/index.html'), '<!doctype html><title>hello</title>');
    // without content: it takes no place on the disk
    await writeFile(join(directory, 'dist/large.bin'), '');
    await truncate(join(directory, 'dist/large.bin'), LARGE);
    const coatroom = await startCoatroom({
      directory,
      wait: 'alive',
      files: FILES,
      secrets: { SECRET: 'only-for-this-test' },
      configuration: {
        listen: `127.0.0.1:${port}`,
        admin: `127.0.0.1:${adminPort}`,
        workers: 2,
        connections,
        apps: {
          shop: {
            url: `http://localhost:${port}`,
            provider: { issuer: 'http://127.0.0.1:9', client_id: 'shop', client_secret: { env: 'SECRET' } },
            routes: { '/': { static: './dist' } },
          },
        },
      },
    });
    t.after(() => coatroom.stop());
    const sockets = [];
    t.after(() => sockets.forEach((socket) => socket.destroy()));

    for (let number = 0; number < READERS; number += 1) sockets.push(stalledReader(port));
    await until('every place is taken', async () => {
      const open = await counted(coatroom, 'coatroom_connections_open');
      return connections?.max_per_address ? open === connections?.max_per_address : open > 50;
    }, { timeout: 20_000 });

    // the health checks are asked as long as the user waits
    const checks = [];
    let isServed = false;
    const checking = (async () => {
      while (!isServed) {
        const start = Date.now();
        const { status } = await request(`${coatroom.admin}/healthz`, { timeout: 2_000 });
        checks.push({ status, took: Date.now() - start });
        await new Promise((next) => { setTimeout(next, 100); });
      }
    })();
    const start = Date.now();
    const answer = await request(`http://localhost:${port}/`, { timeout: most }).finally(() => { isServed = true; });
    const took = Date.now() - start;
    await checking;
    t.diagnostic(`the user waited ${took} ms; ${checks.length} health checks took at most ${Math.max(0, ...checks.map((check) => check.took))} ms`);
    assert.equal(answer.status, 200);
    assert.ok(checks.every(({ status, took: time }) => status === 200 && time < 1_000));

    const reason = connections?.max_per_address ? 'address' : 'write_timeout';
    assert.ok((await counted(coatroom, 'coatroom_connections_cut_total', { reason })) > 0);
    assert.doesNotMatch(coatroom.log(), /cannot accept connections|Too many open files/);

    // and afterwards nothing is left of them
    sockets.forEach((socket) => socket.destroy());
    await until('all of them are gone', async () => (await counted(coatroom, 'coatroom_connections_open')) <= 1, { timeout: 20_000 });
    assert.equal((await request(`http://localhost:${port}/`)).status, 200);
  });
}

/** Asks for something large, and takes nothing of it. */
function stalledReader(port) {
  const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
  socket.on('error', () => {});
  socket.pause();
  socket.write(`GET /large.bin HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`);
  return socket;
}
