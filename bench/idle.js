// What a connection costs that does nothing: opened and never used, and after one request.
//
// Counted is the memory of the server's processes; what the kernel keeps for a socket is the same for every server and
// not in it. A connection that the server closes, or a request that gets no 200, fails the run.

import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { within } from '../e2e/rig/wait.js';
import { family, memory } from './process.js';

const PATH = '/api/small';
const AT_ONCE = 200;
/** For what a server does a little after: accept, read, give memory back. */
const SETTLE = 3_000;

/** `[{subject, connections, base, neverUsed, afterRequest}]`, bytes; the last two per connection. */
export async function idleMemory({ subjects, connections, tell }) {
  const results = [];
  for (const subject of subjects) {
    const result = await measureIdle(subject, connections);
    results.push({ subject: subject.id, connections, ...result });
    tell(`${connections} idle connections, ${subject.id}: ${(result.neverUsed / 1024).toFixed(1)} KB never used, ${(result.afterRequest / 1024).toFixed(1)} KB after a request`);
  }
  return results;
}

async function measureIdle(subject, connections) {
  const { hostname, port } = new URL(subject.url);
  const used = () => memory(family(subject.pid));
  const request = Buffer.from([
    `GET ${PATH} HTTP/1.1`, `host: ${hostname}:${port}`,
    ...Object.entries(subject.headers).map(([name, value]) => `${name}: ${value}`), '', '',
  ].join('\r\n'));
  const sockets = [];
  let closed = 0;
  try {
    const before = used();
    await inBatches(connections, async () => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true });
      await within('a connection opens', new Promise((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      }));
      socket.on('error', () => {});
      socket.on('close', () => { closed += 1; });
      sockets.push(socket);
    });
    await pause(SETTLE);
    const opened = used();
    assertOpen(subject, connections, closed, 'never used');
    let next = 0;
    await inBatches(connections, async () => {
      await within('an answer comes', exchange(sockets[next++], request));
    });
    await pause(SETTLE);
    const after = used();
    assertOpen(subject, connections, closed, 'after a request');
    return { base: before, neverUsed: (opened - before) / connections, afterRequest: (after - before) / connections };
  } finally {
    // A reset leaves no TIME_WAIT behind, of which ten thousand would take the ports of the next server.
    for (const socket of sockets) socket.resetAndDestroy();
  }
}

function assertOpen(subject, connections, closed, when) {
  if (closed > 0) throw new Error(`${subject.title}: ${closed} of ${connections} idle connections were closed (${when})`);
}

/** One request, and its whole answer of a known length. */
function exchange(socket, request) {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (chunk) => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? NaN);
      const isGood = text.startsWith('HTTP/1.1 200 ') && !Number.isNaN(length);
      if (isGood && text.length < end + 4 + length) return;
      socket.off('data', onData);
      if (isGood) resolve();
      else reject(new Error(`an idle connection got ${text.slice(0, 200)}`));
    };
    socket.on('data', onData);
    socket.write(request);
  });
}

async function inBatches(count, work) {
  for (let done = 0; done < count; done += AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - done) }, work));
  }
}
