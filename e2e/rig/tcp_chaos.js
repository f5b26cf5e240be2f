// A proxy of bytes that stands in front of a store or a provider and does to its callers what networks and broken
// machines do. It knows no protocol; `chaos.js` is the one that knows HTTP.
//
// It never changes bytes that it passes on, and what it does it does to connections that are open already, too.

import { connect, createServer } from 'node:net';

import { freePorts } from './ports.js';

/**
 * `slow`: each chunk comes `delay` later. `refuse`: nobody listens, what is open is reset. `reset`: accepted, and reset
 * at the first byte. `half-close`: the caller hears the end of the stream after its request, the target never sees it.
 * `truncate`: an answer ends after its first bytes. `black hole`: connections open, and nothing ever comes back.
 *
 * @typedef {'pass' | 'slow' | 'refuse' | 'reset' | 'half-close' | 'truncate' | 'black hole'} TcpFault
 */
export const TCP_FAULTS = ['refuse', 'reset', 'half-close', 'truncate', 'black hole', 'slow'];
const FIRST_BYTES = 3;

/**
 * @param {object} options
 * @param {number} options.target the loopback port of the target
 * @param {number} [options.port] where callers expect it; default a free one
 * @param {number} [options.delay] milliseconds, for `slow`
 */
export async function startTcpChaos({ target, port, delay = 500 }) {
  const at = port ?? (await freePorts(1))[0];
  const open = new Set();
  let fault = 'pass';
  let accepted = 0;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (caller) => {
    accepted += 1;
    const behind = connect({ host: '127.0.0.1', port: target, allowHalfOpen: true, noDelay: true });
    const pair = { caller, behind };
    open.add(pair);
    for (const socket of [caller, behind]) {
      socket.on('error', () => end(pair));
      socket.on('close', () => end(pair));
    }
    forward(caller, behind, (chunk) => toTarget(pair, chunk));
    forward(behind, caller, (chunk) => toCaller(pair, chunk));
  });

  const end = (pair) => {
    if (!open.delete(pair)) return;
    pair.caller.destroy();
    pair.behind.destroy();
  };
  const resetAll = () => {
    for (const pair of [...open]) {
      pair.caller.resetAndDestroy();
      end(pair);
    }
  };
  const write = (socket, chunk) => {
    if (!socket.destroyed && !socket.writableEnded) socket.write(chunk);
  };
  const forward = (from, to, pass) => {
    from.on('data', pass);
    from.on('end', () => {
      if (fault !== 'black hole') later(() => to.end());
    });
  };
  const later = (work) => (fault === 'slow' ? setTimeout(work, delay) : work());

  function toTarget(pair, chunk) {
    switch (fault) {
      case 'black hole': return;
      case 'reset': pair.caller.resetAndDestroy(); return end(pair);
      case 'half-close': pair.caller.end(); return;
      default: return later(() => write(pair.behind, chunk));
    }
  }

  function toCaller(pair, chunk) {
    switch (fault) {
      case 'black hole': return;
      case 'half-close': return;
      case 'reset': pair.caller.resetAndDestroy(); return end(pair);
      case 'truncate':
        pair.caller.end(chunk.subarray(0, FIRST_BYTES));
        pair.behind.destroy();
        return;
      default: return later(() => write(pair.caller, chunk));
    }
  }

  const listen = () => new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, '127.0.0.1', () => {
      server.off('error', reject);
      resolve();
    });
  });
  const refuse = () => new Promise((resolve) => {
    server.close(() => resolve());
    resetAll();
  });

  await listen();
  return {
    port: at,
    /** Connections that were accepted so far. */
    get accepted() {
      return accepted;
    },
    /**
     * Does this from now on. What hung so far is reset when it passes again, as after a restart.
     *
     * @param {TcpFault} next
     */
    async become(next) {
      const before = fault;
      fault = next;
      if (next === 'refuse' && before !== 'refuse') await refuse();
      else if (next !== 'refuse' && before === 'refuse') await listen();
      else if (before === 'black hole' || before === 'half-close') resetAll();
    },
    async stop() {
      if (fault !== 'refuse') await refuse();
    },
  };
}
