// SIGTERM: what is in flight is finished, what was sent before it is answered, nothing new is taken, and the process
// ends well.
//
// This file never kills a process but the one that it started.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';

import { request } from '../rig/http.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

// Below the listening socket's backlog, and more than a process takes in one go.
const MANY = 400;

scenario('a request in flight is answered after SIGTERM, and the process exits with 0', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const slow = page.evaluate(async () => {
    const response = await fetch('/api/slow', { headers: { 'token-handler-version': '1' } });
    return { status: response.status, body: await response.json() };
  });
  await until('the API has the request', async () => rig.api.requests.some(({ url }) => url.startsWith('/slow')));
  const stopped = rig.coatroom.terminate();
  await until('readiness says that it drains', async () => {
    const { status } = await request(`${rig.coatroom.admin}/readyz`, { timeout: 1_000 }).catch(() => ({ status: 503 }));
    return status === 503;
  });
  const answer = await slow;
  assert.equal(answer.status, 200);
  assert.ok(answer.body.slept_milliseconds > 0);
  assert.equal(await stopped, 0);
  assert.match(rig.coatroom.log(), /stopping/);
});

for (const [connections, open] of [
  ['connections that nobody had taken yet', async () => []],
  ['connections that had been used before', async (port) => Promise.all(Array.from({ length: MANY }, () => used(port)))],
]) {
  scenario(`requests that were sent before SIGTERM are answered, over ${connections}`, {}, async (rig) => {
    const { port } = new URL(rig.url);
    const kept = await open(port);
    // A process that is held cannot look at anything: what is sent to it waits in the kernel, as it does for a moment on
    // a busy machine. Then SIGTERM comes, and it is let go.
    rig.coatroom.signal('SIGSTOP');
    const sent = await Promise.all(Array.from({ length: MANY }, (_, index) => (kept[index] ? send(kept[index], port) : sendFresh(port))));
    const stopped = rig.coatroom.terminate();
    rig.coatroom.signal('SIGCONT');
    const counts = {};
    for (const outcome of await Promise.all(sent.map(({ answer }) => answer))) counts[outcome] = (counts[outcome] ?? 0) + 1;
    assert.deepEqual(counts, { 'HTTP/1.1 200 OK': MANY });
    assert.equal(await stopped, 0);
  });
}

/** A connection over which one request was answered. */
async function used(port) {
  const socket = connect({ port, host: '127.0.0.1' });
  const answered = once(socket, 'data');
  await once(socket, 'connect');
  socket.write(headOf(port));
  await answered;
  return socket;
}

async function sendFresh(port) {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  return send(socket, port);
}

/** Sends a POST; resolves when it is in the kernel. `answer`: the first line of the answer, or how it failed. */
function send(socket, port) {
  let text = '';
  const answer = new Promise((settle) => {
    socket.on('data', (chunk) => { text += chunk.toString('latin1'); });
    socket.on('error', (error) => settle(error.code));
    socket.on('close', () => settle(text.split('\r\n')[0] || 'closed without an answer'));
  });
  return new Promise((resolve) => {
    socket.write(headOf(port), () => resolve({ answer }));
  });
}

function headOf(port) {
  return [
    'POST /auth/login/start HTTP/1.1', `Host: localhost:${port}`, `Origin: http://localhost:${port}`,
    'token-handler-version: 1', 'Content-Length: 0', '', '',
  ].join('\r\n');
}
