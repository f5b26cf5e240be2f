// The real binary: writes its configuration, makes its key, starts it, waits until it is ready, stops it by its id.
//
// It never changes a default of the binary silently: whatever a test runs with stands in the coatroom.yaml it wrote.
// It never ends a process it did not start.

import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

import { request } from './http.js';
import { Fatal, until, within } from './wait.js';

/** The binary under test. */
export const BINARY = resolve(process.env.COATROOM_BIN ?? join(import.meta.dirname, '../../target/release/coatroom'));
const START_TIMEOUT = 20_000;
const STOP_TIMEOUT = 5_000;

/**
 * Starts `coatroom serve` in `directory` and answers when it is ready.
 *
 * @param {object} options
 * @param {string} options.directory holds configuration, key and whatever the configuration names
 * @param {object} options.configuration what is written to coatroom.yaml; without `keys` a key is made
 * @param {Record<string, string>} [options.secrets] environment variables that the configuration refers to
 * @param {'ready' | 'alive'} [options.wait] `alive` when a part, such as the provider, is missing on purpose
 * @param {number} [options.files] how many files it may have open
 */
export async function startCoatroom({ directory, configuration, secrets = {}, wait = 'ready', files }) {
  if (!configuration.keys) await makeKey(join(directory, 'coatroom.key'));
  const file = await writeConfiguration(directory, { keys: [{ file: 'coatroom.key' }], ...configuration });

  const log = [];
  const serve = [BINARY, 'serve', '--config', file];
  const [command, ...words] = files ? ['/bin/sh', '-c', `ulimit -n ${files} && exec "$@"`, 'sh', ...serve] : serve;
  const child = spawn(command, words, {
    cwd: directory,
    env: { PATH: process.env.PATH, COATROOM_LOG: process.env.COATROOM_LOG ?? 'info', RUST_BACKTRACE: '1', ...secrets },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.on('data', (chunk) => log.push(chunk));
  child.stderr.on('data', (chunk) => log.push(chunk));
  const exited = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? code));
    child.once('error', (error) => done(error.message));
  });
  let ended;
  // When the tests themselves are cut short, their server goes with them.
  const orphaned = () => child.kill('SIGKILL');
  process.once('exit', orphaned);
  exited.then((how) => {
    ended = how;
    process.off('exit', orphaned);
  });

  const coatroom = {
    pid: child.pid,
    admin: `http://${configuration.admin}`,
    /** Everything it wrote so far. */
    log: () => Buffer.concat(log).toString('utf8'),
    /** Sends a signal and waits for nothing. */
    signal: (name) => child.kill(name),
    /** Resolves once it is gone. */
    gone: () => within('coatroom is gone', exited, STOP_TIMEOUT),
    /** SIGTERM; resolves with the exit code once it is gone. */
    async terminate() {
      child.kill('SIGTERM');
      return within('coatroom stops', exited, 30_000);
    },
    async stop() {
      if (ended !== undefined) return;
      child.kill('SIGTERM');
      await within('coatroom stops', exited, STOP_TIMEOUT).catch(() => child.kill('SIGKILL'));
      await within('coatroom is gone', exited, STOP_TIMEOUT);
    },
  };
  const probe = wait === 'ready' ? '/readyz' : '/healthz';
  try {
    await until(`coatroom answers ${probe}`, async () => {
      if (ended !== undefined) throw new Fatal(`coatroom ended (${ended}):\n${coatroom.log()}`);
      const { status, text } = await request(`${coatroom.admin}${probe}`, { timeout: 2_000 });
      if (status !== 200) throw new Error(`${status} ${text}`);
      return true;
    }, { timeout: START_TIMEOUT, every: 50 });
  } catch (error) {
    await coatroom.stop();
    if (!(error instanceof Fatal)) error.message += `\n${coatroom.log()}`;
    throw error;
  }
  return coatroom;
}

/** `coatroom keygen` into a file that nobody else may read. */
export async function makeKey(file) {
  if (!existsSync(BINARY)) throw new Error(`no binary at ${BINARY}: build it, or set COATROOM_BIN`);
  const { stdout: key } = await promisify(execFile)(BINARY, ['keygen'], { timeout: START_TIMEOUT });
  await writeFile(file, key, { mode: 0o600 });
}

/** Writes `coatroom.yaml` into `directory`, whole or not at all. Answers its path. */
export async function writeConfiguration(directory, configuration) {
  const file = join(directory, 'coatroom.yaml');
  await writeFile(`${file}.new`, typeof configuration === 'string' ? configuration : toYaml(configuration));
  await rename(`${file}.new`, file);
  return file;
}

/** The block style of YAML for what a configuration is made of: maps, lists, strings, numbers, booleans. */
function toYaml(value, indent = '') {
  if (Array.isArray(value)) return value.map((item) => `${indent}- ${toYaml(item, `${indent}  `).trimStart()}`).join('');
  if (value === null || typeof value !== 'object') return `${indent}${JSON.stringify(value)}\n`;
  return Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => {
      const name = /^[a-z_][a-z0-9_]*$/.test(key) ? key : JSON.stringify(key);
      const isScalar = item === null || typeof item !== 'object';
      return isScalar ? `${indent}${name}: ${JSON.stringify(item)}\n` : `${indent}${name}:\n${toYaml(item, `${indent}  `)}`;
    })
    .join('');
}
