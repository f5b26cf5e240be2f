// Where the parts of the demo listen, and the files that they need: secrets, keys, and the configuration with the
// addresses of this run.
//
// `coatroom.yaml` is the configuration that people read and that is used as it stands whenever it can be. It is
// copied into `.state` with other numbers only where a port is taken, or for HTTPS. No secret is ever in it.

import { spawnSync } from 'node:child_process';
import { randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { listen } from './provider.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const CONFIG = join(HERE, 'coatroom.yaml');
export const STATE = join(HERE, '.state');

// The same numbers as in coatroom.yaml.
const WRITTEN = { application: 8080, admin: 9090, provider: 9000, api: 5001, control: 5002 };
const HTTPS_PORT = 8443;
const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

/** A failure that needs words, not a stack. */
export class Trouble extends Error {}

/**
 * Makes what is missing and answers where everything is: `{url, ports, config, clientSecret, tls}`.
 *
 * The application's port must be free, since its number is what people open; the others move out of the way.
 */
export async function settle({ binary, https = false, port }) {
  const ports = { ...WRITTEN, application: port ?? (https ? HTTPS_PORT : WRITTEN.application) };
  if (!await isFree(ports.application)) {
    throw new Trouble(`Port ${ports.application} on 127.0.0.1 is taken. Is the demo running in another terminal?\n`
      + `Stop what uses the port, or choose another one:\n\n  node demo/run.js ${https ? '--https ' : ''}--port ${ports.application + 1}`);
  }
  for (const part of ['admin', 'provider', 'api', 'control']) {
    if (!await isFree(ports[part])) ports[part] = await freePort();
  }

  mkdirSync(STATE, { recursive: true, mode: 0o700 });
  const clientSecret = secretOf(join(STATE, 'client-secret'), () => randomBytes(32).toString('base64url'));
  secretOf(join(STATE, 'coatroom.key'), () => run(binary, ['keygen']));
  const tls = https ? certificate(binary) : null;
  const url = `${https ? 'https' : 'http'}://localhost:${ports.application}`;
  return { url, ports, clientSecret, tls, config: configuration({ ports, url, tls }) };
}

/** The file itself, or a copy of it with the addresses of this run. */
function configuration({ ports, url, tls }) {
  if (!tls && Object.entries(WRITTEN).every(([part, number]) => ports[part] === number)) return CONFIG;
  const moved = new Map(Object.entries(WRITTEN).map(([part, number]) => [String(number), ports[part]]));
  let text = readFileSync(CONFIG, 'utf8')
    .replace(`http://localhost:${WRITTEN.application}`, url)
    .replace(/127\.0\.0\.1:(\d+)/g, (_match, number) => `127.0.0.1:${moved.get(number)}`)
    // Relative paths start at the folder of the file.
    .replaceAll('.state/', '')
    .replaceAll('./spa', '../spa');
  if (tls) text = text.replace(/^keys:/m, 'tls: {certificate: {file: dev-cert.pem}, key: {file: dev-key.pem}}\nkeys:');
  const file = join(STATE, 'coatroom.yaml');
  writeFileSync(file, text);
  return file;
}

/** A certificate for `localhost` of this machine's own authority, made by Coatroom and kept until its last day. */
function certificate(binary) {
  const [ca, cert, key] = ['dev-ca.pem', 'dev-cert.pem', 'dev-key.pem'].map((name) => join(STATE, name));
  if (![ca, cert, key].every(existsSync) || isOver(cert)) run(binary, ['dev-cert', '--force', '--out', STATE]);
  return { ca, cert, key };
}

function isOver(file) {
  return Date.parse(new X509Certificate(readFileSync(file)).validTo) < Date.now() + DAY_MILLISECONDS;
}

/** A secret of this demo, made once, for its owner only. */
function secretOf(file, make) {
  if (!existsSync(file)) writeFileSync(file, make(), { mode: 0o600 });
  return readFileSync(file, 'utf8');
}

function run(binary, command) {
  const { status, stdout, stderr, error } = spawnSync(binary, command, { encoding: 'utf8', timeout: 10_000 });
  if (status !== 0) throw new Trouble(`\`coatroom ${command[0]}\` failed:\n\n${(error?.message ?? stderr).trim()}`);
  return stdout;
}

async function isFree(port) {
  const probe = createServer();
  try {
    await listen(probe, port, '127.0.0.1');
  } catch (error) {
    if (error.code === 'EADDRINUSE') return false;
    throw error;
  }
  await closed(probe);
  return true;
}

async function freePort() {
  const probe = createServer();
  await listen(probe, 0, '127.0.0.1');
  const { port } = probe.address();
  await closed(probe);
  return port;
}

function closed(server) {
  return new Promise((done) => { server.close(done); });
}
