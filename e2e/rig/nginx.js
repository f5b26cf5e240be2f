// nginx in front of several replicas, with the very settings that docs/operations.md recommends: they are read out of
// that page; only addresses are put in, and a header that tells which replica answered.
//
// It runs unprivileged as one process in the test's folder (no daemon, no master process, its own log and temporary
// files) and is ended by its id. It keeps no connection to a replica open and knows no sticky sessions.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import { Fatal, until, within } from './wait.js';

const BINARY = process.env.NGINX_BIN ?? ['/usr/sbin/nginx', '/usr/bin/nginx'].find((path) => existsSync(path)) ?? 'nginx';
const PAGE = join(import.meta.dirname, '../../docs/operations.md');
/** A header of every answer: the address of the replica that gave it. */
export const SERVED_BY = 'x-served-by';
const STOP_TIMEOUT = 5_000;

/**
 * @param {object} options
 * @param {string} options.directory an empty folder is made in it
 * @param {number} options.port
 * @param {string[]} options.replicas `address:port` of each
 * @param {(configuration: string) => string} [options.configure] last word on the configuration
 */
export async function startNginx({ directory, port, replicas, configure = (text) => text }) {
  const folder = join(directory, 'nginx');
  await mkdir(join(folder, 'temporary'), { recursive: true });
  const file = join(folder, 'nginx.conf');
  const text = configure(configurationOf({ folder, port, replicas, documented: await documentedSettings() }));
  await writeFile(file, text);

  const errors = [];
  const child = spawn(BINARY, ['-p', folder, '-c', file, '-e', 'stderr'], { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.on('data', (chunk) => errors.push(chunk));
  let ended;
  const exited = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? code));
    child.once('error', (error) => done(error.message));
  });
  const orphaned = () => child.kill('SIGKILL');
  process.once('exit', orphaned);
  exited.then((how) => {
    ended = how;
    process.off('exit', orphaned);
  });

  const nginx = {
    pid: child.pid,
    /** What nginx complained about so far. */
    errors: () => Buffer.concat(errors).toString('utf8'),
    async stop() {
      if (ended !== undefined) return;
      child.kill('SIGTERM');
      await within('nginx stops', exited, STOP_TIMEOUT).catch(() => child.kill('SIGKILL'));
      await within('nginx is gone', exited, STOP_TIMEOUT);
    },
  };
  try {
    await until('nginx listens', () => {
      if (ended !== undefined) throw new Fatal(`nginx ended (${ended}): ${nginx.errors()}`);
      return connects(port);
    }, { timeout: 10_000, every: 50 });
  } catch (error) {
    await nginx.stop();
    throw error;
  }
  return nginx;
}

/** The one `nginx` block of docs/operations.md: what belongs into nginx's `http { … }`. */
async function documentedSettings() {
  const blocks = [...(await readFile(PAGE, 'utf8')).matchAll(/^```nginx\n(.*?)^```$/gms)];
  if (blocks.length !== 1) throw new Error(`${blocks.length} nginx blocks in docs/operations.md, expected one`);
  return blocks[0][1];
}

function configurationOf({ folder, port, replicas, documented }) {
  const servers = replicas.map((replica) => `server ${replica} max_fails=0;`).join('\n  ');
  const settings = [
    [/(server 10\.[\d.:]+ max_fails=0;\s*)+/, `${servers}\n`],
    [/listen 443 ssl http2;/, `listen 127.0.0.1:${port};`],
    [/^\s*ssl_certificate(_key)? .*\n/gm, ''],
    [/^\s*server_name .*\n/gm, ''],
  ].reduce((text, [pattern, replacement]) => {
    if (text.search(pattern) < 0) throw new Error(`docs/operations.md: nothing in the nginx block matches ${pattern}`);
    return text.replace(pattern, replacement);
  }, documented);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${folder}/temporary/${kind};`);
  return [
    'daemon off;',
    // One process, so that its id is all there is to end.
    'master_process off;',
    `pid ${folder}/nginx.pid;`,
    'error_log stderr warn;',
    'events { worker_connections 4096; }',
    'http {',
    '  access_log off;',
    ...temporary,
    `  add_header ${SERVED_BY} $upstream_addr always;`,
    settings,
    '}',
    '',
  ].join('\n');
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
