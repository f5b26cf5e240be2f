// PostgreSQL in a folder of its own, and SQLite, which is a file.
//
// PostgreSQL refuses to run as root, so root starts it as the user `postgres`; the system's cluster is neither used nor
// touched. It listens on loopback alone and has no Unix socket.

import { execFile } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { freePorts } from '../ports.js';
import { Fatal } from '../wait.js';
import { ServerProcess } from './process.js';

const run = promisify(execFile);
const VERSIONS = '/usr/lib/postgresql';
const NAME = 'coatroom';
const LIMITS = { timeout: 60_000, maxBuffer: 512 * 1024 * 1024 };

/** The folder of PostgreSQL's newest programs, or null. */
export function postgresPrograms() {
  if (!existsSync(VERSIONS)) return null;
  const newest = readdirSync(VERSIONS).filter((name) => /^\d+$/.test(name)).sort((a, b) => b - a)
    .find((name) => existsSync(join(VERSIONS, name, 'bin/initdb')));
  return newest ? join(VERSIONS, newest, 'bin') : null;
}

export async function startPostgres({ behind = async (port) => port }) {
  const programs = postgresPrograms();
  if (!programs) throw new Fatal('no PostgreSQL is installed');
  const [port] = await freePorts(1);
  // Not below the test's own folder, into which nobody else may look.
  const directory = await mkdtemp(join(tmpdir(), 'coatroom-postgres-'));
  const asUser = await unprivileged(directory);
  const data = join(directory, 'data');
  const as = (program, ...words) => run(...asUser(join(programs, program), words), { ...LIMITS, cwd: directory });
  const make = () => as('initdb', '--pgdata', data, '--username', NAME, '--auth', 'trust', '--encoding', 'UTF8', '--no-locale', '--no-sync');
  const client = { ...LIMITS, env: { PATH: process.env.PATH, PGOPTIONS: '-c default_transaction_read_only=off' } };
  const sql = async (text, database = NAME) => {
    const { stdout } = await run(join(programs, 'psql'), [
      '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-h', '127.0.0.1', '-p', String(port), '-U', NAME, '-d', database, '-c', text,
    ], client);
    return stdout.trim();
  };
  const [command, words] = asUser(join(programs, 'postgres'), [
    '-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=',
    '-c', 'max_connections=200', '-c', 'log_min_messages=warning',
  ]);
  const server = new ServerProcess({
    // A fast stop does not wait for clients.
    name: 'postgres', command, words, directory, goodbye: 'SIGINT', isReady: () => sql('SELECT 1', 'postgres'),
  });
  const begin = async () => {
    await make();
    await server.start();
    await sql(`CREATE DATABASE ${NAME}`, 'postgres');
  };
  try {
    await begin();
  } catch (error) {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  const front = await behind(port);
  // At once, without a checkpoint: what counts is in the write-ahead log. SIGKILL would leave its children behind.
  const kill = () => server.kill('SIGQUIT');
  const set = async (value) => {
    await sql(`ALTER SYSTEM SET default_transaction_read_only = ${value}`);
    await sql('SELECT pg_reload_conf()');
  };
  return {
    name: 'postgres',
    store: `postgres://${NAME}@127.0.0.1:${front}/${NAME}`,
    ports: [port],
    start: () => server.start(),
    kill,
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
    async restart() {
      await kill();
      await server.start();
    },
    async wipe() {
      await kill();
      await rm(data, { recursive: true, force: true });
      await begin();
    },
    /** All tables as SQL; bytes are in hexadecimal there. */
    async dump() {
      const { stdout } = await run(join(programs, 'pg_dump'), ['-h', '127.0.0.1', '-p', String(port), '-U', NAME, NAME], client);
      return Buffer.from(stdout);
    },
    command: sql,
    states: { 'read-only': { begin: () => set('on'), end: () => set('off') } },
  };
}

/** A file of this machine: one replica, no server, nothing to restart. */
export async function openSqlite({ directory }) {
  const file = join(directory, 'sessions.sqlite');
  const files = ['', '-wal', '-shm'].map((ending) => `${file}${ending}`);
  const nothing = async () => {};
  return {
    name: 'sqlite',
    store: `sqlite:${file}`,
    ports: [],
    start: nothing,
    stop: nothing,
    kill: nothing,
    restart: nothing,
    /** While no replica runs. */
    wipe: () => Promise.all(files.map((path) => rm(path, { force: true }))),
    dump: async () => Buffer.concat(await Promise.all(files.filter((path) => existsSync(path)).map((path) => readFile(path)))),
    states: {},
  };
}

/** How to run a program as somebody who is not root, who then owns `directory`. */
async function unprivileged(directory) {
  if (process.getuid() !== 0) return (program, words) => [program, words];
  const id = async (flag) => Number((await run('id', [flag, 'postgres'])).stdout);
  chownSync(directory, await id('-u'), await id('-g'));
  return (program, words) => ['setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', '--', program, ...words]];
}
