// The corpus of raw requests through the real binary to servers with parsers of their own: each of them has to log the
// messages that the corpus says, no more and no fewer, and with the same bodies.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { startCoatroom } from '../rig/coatroom.js';
import { requests } from '../rig/framing/corpus.js';
import { UPSTREAMS } from '../rig/framing/upstreams.js';
import { freePorts } from '../rig/ports.js';
import { until } from '../rig/wait.js';

/** Ends the connection, whatever stood before it; the empty line behind it is one that servers leave out. */
const LAST = Buffer.from('GET /last HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n\r\n');

for (const upstream of UPSTREAMS) {
  test(`no framing makes ${upstream.name} read other messages than we sent`, { timeout: 300_000 }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'coatroom-framing-'));
    t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
    const [port, adminPort, upstreamPort, nothing] = await freePorts(4);
    const server = await upstream.start({ port: upstreamPort, directory });
    t.after(() => server.stop());
    const coatroom = await startCoatroom({
      directory,
      configuration: configuration({ port, adminPort, upstreamPort, nothing }),
      secrets: { SHOP_CLIENT_SECRET: 'not used' },
      wait: 'alive',
    });
    t.after(() => coatroom.stop());

    const cases = await requests();
    const statuses = [];
    for (const [index, { bytes }] of cases.entries()) {
      statuses.push(statusesOf(await exchange(port, Buffer.concat([bytes, LAST]))));
      // what is logged before this belongs to the case
      await exchange(port, Buffer.from(`GET /behind-${index} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n\r\n`));
    }
    const log = await until('the last message is logged', async () => {
      const lines = await server.log();
      return lines.includes(`GET /behind-${cases.length - 1}`) && lines;
    });

    const wrong = [];
    let [from, messages] = [0, 0];
    for (const [index, { name, read, statuses: expected }] of cases.entries()) {
      const to = log.indexOf(`GET /behind-${index}`);
      const logged = log.slice(from, to);
      from = to + 1;
      messages += logged.length;
      const known = read.filter((line) => !upstream.refuses.test(line));
      const same = JSON.stringify(logged) === JSON.stringify(known);
      const answered = known.length < read.length || JSON.stringify(statuses[index]) === JSON.stringify(expected);
      if (!same || !answered) wrong.push({ name, logged, known, statuses: statuses[index], expected });
    }
    assert.deepEqual(wrong, []);
    assert.equal(from, log.length, 'nothing was logged behind the last case');
    assert.ok(cases.length > 300 && messages > 150, `${cases.length} cases, ${messages} messages`);
    t.diagnostic(`${upstream.name}: ${cases.length} cases, ${messages} messages logged, ${wrong.length} of them otherwise than sent`);
  });
}

function configuration({ port, adminPort, upstreamPort, nothing }) {
  const upstream = `http://127.0.0.1:${upstreamPort}`;
  return {
    listen: `127.0.0.1:${port}`,
    admin: `127.0.0.1:${adminPort}`,
    apps: {
      shop: {
        url: 'https://shop.example',
        provider: { issuer: `http://127.0.0.1:${nothing}`, client_id: 'shop', client_secret: { env: 'SHOP_CLIENT_SECRET' } },
        routes: { '/api/': { upstream }, '/': { upstream, auth: 'none' } },
      },
    },
  };
}

/** Sends bytes, then the end of the stream; all that comes back. */
function exchange(port, bytes) {
  return new Promise((done) => {
    const answer = [];
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.end(bytes));
    socket.on('data', (chunk) => answer.push(chunk));
    // it may be refused before all of it is read
    socket.on('error', () => {});
    socket.on('close', () => done(Buffer.concat(answer).toString('latin1')));
  });
}

const statusesOf = (answer) => [...answer.matchAll(/HTTP\/1\.[01] (\d{3})/g)].map(([, status]) => Number(status));
