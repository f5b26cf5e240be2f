// Free ports of the loopback address, chosen before anything starts: redirect URIs contain them.
//
// A port is never held: another process may take it before its owner binds it. The window is a second on loopback.

import { createServer } from 'node:net';

/** `count` different free ports of 127.0.0.1. */
export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => listening()));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function listening() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}
