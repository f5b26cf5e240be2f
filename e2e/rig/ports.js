// Free ports of the loopback address, chosen before anything starts: redirect URIs contain them.
//
// A port is never held: another process may take it before its owner binds it. So they come from below the range that
// the system takes for outgoing connections, of which a load test makes thousands.

import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

const FIRST = 20_000;
const LAST = 32_000;
const TRIES = 100;

/** `count` different free ports of 127.0.0.1. */
export async function freePorts(count) {
  const servers = [];
  while (servers.length < count) servers.push(await listening());
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function listening() {
  for (let tries = 1; ; tries += 1) {
    try {
      return await listeningAt(randomInt(FIRST, LAST));
    } catch (error) {
      if (error.code !== 'EADDRINUSE' || tries === TRIES) throw error;
    }
  }
}

function listeningAt(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
