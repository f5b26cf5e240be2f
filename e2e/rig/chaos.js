// A proxy that stands in front of a provider or an API and does to its callers what networks and broken servers do.
//
// It speaks HTTP/1.1 on loopback, keeps no connection to the target open, and counts every request that reached it,
// whatever it did with it. It never changes a request or an answer that it passes on.

import { createServer, request as forward } from 'node:http';

import { within } from './wait.js';

/**
 * What is done to a request. `stop` ends as a server does that is told to: what is in flight is answered, then nobody
 * can connect, and nothing is counted. `cut` breaks the answer off in its body; `lose` takes the target's whole answer
 * and never passes it on.
 *
 * @typedef {'pass' | 'stop' | 'hang' | 'reset' | 'cut' | 'lose' | {status: number, body?: string, type?: string}} Fault
 */

/**
 * @param {object} options
 * @param {number} options.port where callers expect the target
 * @param {number} options.target the loopback port of the target
 */
export async function startChaos({ port, target }) {
  const requests = [];
  let fault = 'pass';
  let concerns = () => true;
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url.split('?')[0];
    const done = concerns(path) ? fault : 'pass';
    requests.push({ method: incoming.method, path, fault: done, at: Date.now() });
    apply(done, incoming, outgoing, chaos.target);
  });
  // What hangs is let hang: the other side has the deadline.
  server.requestTimeout = 0;

  const listen = () => new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const cut = () => new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
  const finish = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    const idle = setInterval(() => server.closeIdleConnections(), 10);
    await within('requests in flight are finished', closed).finally(() => clearInterval(idle));
  };

  const chaos = {
    /** The loopback port to pass to; may change. */
    target,
    /** Every request that arrived, oldest first: `{method, path, fault, at}`. */
    requests,
    /**
     * Does this to every request from now on, or to those whose path `only` accepts.
     *
     * @param {Fault} next
     * @param {(path: string) => boolean} [only]
     */
    async become(next, only = () => true) {
      const before = fault;
      fault = next;
      concerns = only;
      if (before === 'stop') {
        if (next !== 'stop') await listen();
      } else if (next === 'stop') {
        await (before === 'pass' ? finish() : cut());
      } else if (next === 'pass') {
        // Whoever hung so far gets a new connection, as after a restart.
        server.closeAllConnections();
      }
    },
    async stop() {
      if (fault !== 'stop') await cut();
    },
  };
  await listen();
  return chaos;
}

function apply(fault, incoming, outgoing, target) {
  if (fault === 'hang') {
    incoming.resume();
  } else if (fault === 'reset') {
    // A reset before the request is read whole is what a crashed process makes.
    incoming.socket.resetAndDestroy();
  } else if (typeof fault === 'object') {
    const { status, body = '', type = 'text/plain' } = fault;
    incoming.resume();
    incoming.on('end', () => {
      outgoing.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
    });
  } else {
    pass(incoming, outgoing, target, fault);
  }
}

function pass(incoming, outgoing, target, fault) {
  const { method, url, rawHeaders } = incoming;
  const passed = forward({ host: '127.0.0.1', port: target, method, path: url, headers: rawHeaders, agent: false });
  passed.on('response', (answer) => {
    if (fault === 'lose') {
      answer.resume();
      answer.on('end', () => incoming.socket.resetAndDestroy());
      return;
    }
    outgoing.writeHead(answer.statusCode, answer.rawHeaders);
    if (fault === 'cut') {
      answer.once('data', (chunk) => outgoing.write(chunk.subarray(0, 1), () => incoming.socket.resetAndDestroy()));
    } else {
      answer.pipe(outgoing);
    }
  });
  passed.on('error', () => incoming.socket.destroy());
  outgoing.on('close', () => passed.destroy());
  incoming.pipe(passed);
}
