// `node load/idle.js [--connections N] [--batch N]`: how much memory one idle connection holds, by what
// happened on it before: nothing, a TLS handshake, one request. Prints a table, judges nothing.
//
// Each row is a fresh process of the real binary. Memory is what the kernel says the process has resident (`VmRSS`);
// what the kernel itself holds for a socket is not in it. The figure is the growth between a warmed-up process and the
// same process with all connections open and quiet, divided by their number. Every connection must still be open at the
// end and answer a request: a server that closed them would look thrifty.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as secure } from 'node:tls';
import { parseArgs, promisify } from 'node:util';
import { execFile } from 'node:child_process';

import { BINARY } from '../rig/coatroom.js';
import { freePorts } from '../rig/ports.js';

const { values } = parseArgs({
  options: { connections: { type: 'string', default: '10000' }, batch: { type: 'string', default: '200' } },
});
const connections = Number(values.connections);
const batch = Number(values.batch);
const WARM_UP = 50;
/** How long the process is left alone before it is measured. */
const QUIET = 5_000;

const directory = await mkdtemp(join(tmpdir(), 'coatroom-idle-'));
const upstream = createServer((_, response) => response.end('{"orders":[]}'));
upstream.keepAliveTimeout = 60_000;
upstream.listen(0, '127.0.0.1');
await once(upstream, 'listening');
try {
  await prepare();
  console.log(`${connections} connections, ${cpus().length} × ${cpus()[0].model.trim()}, Linux, Node ${process.versions.node}`);
  for (const [name, options] of [
    ['never used', { tls: false, request: false }],
    ['idle after an API call', { tls: false, request: true, path: '/api/' }],
    ['idle after a file', { tls: false, request: true, path: '/' }],
    ['TLS: nothing sent', { tls: true, request: false, handshake: false }],
    ['TLS: after the handshake', { tls: true, request: false, handshake: true }],
    ['TLS: idle after an API call', { tls: true, request: true, handshake: true, path: '/api/' }],
  ]) console.log(`${name.padEnd(28)}  ${await measured(options)}`);
} finally {
  upstream.close();
  upstream.closeAllConnections();
  await rm(directory, { recursive: true, force: true });
}

/** Keys, a certificate, and a page. */
async function prepare() {
  const run = (...parameters) => promisify(execFile)(BINARY, parameters, { cwd: directory, timeout: 20_000 });
  const { stdout: key } = await run('keygen');
  await writeFile(join(directory, 'agent.key'), key, { mode: 0o600 });
  const { stdout: proxyKey } = await run('keygen', '--proxy', '--key', 'agent.key');
  await writeFile(join(directory, 'proxy.key'), proxyKey, { mode: 0o600 });
  await run('dev-cert');
  await mkdir(join(directory, 'dist'));
  await writeFile(join(directory, 'dist/index.html'), '<!doctype html><title>a page</title>');
}

/** Bytes for each connection, as text. */
async function measured({ tls, request, handshake = tls, path = '/' }) {
  const [port, admin] = await freePorts(2);
  const scheme = tls ? 'https' : 'http';
  await writeFile(join(directory, 'coatroom.yaml'), [
    `listen: 127.0.0.1:${port}`,
    `connections: {max: ${connections + batch}}`,
    `admin: 127.0.0.1:${admin}`,
    ...(tls ? ['tls: {certificate: {file: dev-cert.pem}, key: {file: dev-key.pem}}'] : []),
    'keys: [{file: proxy.key}]',
    'apps:',
    '  shop:',
    `    url: ${scheme}://localhost:${port}`,
    '    routes:',
    `      /api/: {upstream: "http://127.0.0.1:${upstream.address().port}", auth: none}`,
    '      /: {static: dist}',
    '',
  ].join('\n'));
  const child = spawn(BINARY, ['serve', '--config', 'coatroom.yaml'], {
    cwd: directory, env: { PATH: process.env.PATH, COATROOM_LOG: 'warn' }, stdio: ['ignore', 'ignore', 'inherit'],
  });
  const exited = once(child, 'exit');
  const sockets = [];
  try {
    for (let tries = 0; ; tries += 1) {
      if (child.exitCode !== null || tries > 400) throw new Error('coatroom does not start');
      const answer = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined);
      if (answer?.status === 200) break;
      await pause(25);
    }
    // Whatever is made once is made now.
    for (let index = 0; index < WARM_UP; index += 1) {
      const socket = await opened(port, tls);
      await called(socket, port, path);
      socket.destroy();
    }
    await pause(QUIET);
    const before = await resident(child.pid);
    while (sockets.length < connections) {
      const next = Array.from({ length: Math.min(batch, connections - sockets.length) }, async () => {
        const socket = await opened(port, handshake);
        sockets.push(socket);
        if (request) await called(socket, port, path);
      });
      await Promise.all(next);
    }
    await pause(QUIET);
    const after = await resident(child.pid);
    await alive(sockets, child.pid, port, handshake || !tls, path);
    return `${String(Math.round((after - before) / connections)).padStart(6)} bytes each  (${megabytes(before)} -> ${megabytes(after)})`;
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGTERM');
    if (!await Promise.race([exited, pause(30_000)])) child.kill('SIGKILL');
  }
}

async function opened(port, handshake) {
  const socket = handshake
    ? secure({ port, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
    : connect({ port, host: '127.0.0.1' });
  await once(socket, handshake ? 'secureConnect' : 'connect');
  socket.on('error', () => {});
  return socket;
}

/** One request, and the whole of its answer. */
async function called(socket, port, path) {
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`);
  let text = '';
  while (!/\r\n\r\n[^]*(\[\]|<\/title>)/.test(text)) {
    const [chunk] = await once(socket, 'data', { signal: AbortSignal.timeout(20_000) });
    text += chunk.toString('latin1');
  }
  if (!text.startsWith('HTTP/1.1 200')) throw new Error(`a request was answered with ${text.split('\r\n')[0]}`);
}

/** Every connection is still there, and every hundredth answers. */
async function alive(sockets, pid, port, canAsk, path) {
  const closed = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length;
  if (closed > 0) throw new Error(`${closed} connections were closed by process ${pid}`);
  for (let index = 0; canAsk && index < sockets.length; index += 100) await called(sockets[index], port, path);
}

/** What the process has in memory, in bytes. */
async function resident(pid) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)[1]) * 1024;
}

function megabytes(bytes) {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
