// One server of the benchmark: its configuration filled in, started, waited for, ended by its id; and what it has
// used of the machine, as the kernel counts it.
//
// It never ends a process it did not start, and never measures one that is not the server's own or its children.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import { Fatal, until, within } from '../e2e/rig/wait.js';

const CONFIG = join(import.meta.dirname, 'config');
const STOP_TIMEOUT = 10_000;

/** Goes when the benchmark itself is cut short. */
const running = new Set();
process.once('exit', () => {
  for (const child of running) child.kill('SIGTERM');
});

/** Fills `{{NAME}}` in a file of `config/` and writes it to `target`. */
export async function fillIn(name, values, target) {
  const text = await readFile(join(CONFIG, name), 'utf8');
  const filled = text.replace(/\{\{([A-Z_]+)\}\}/g, (_, key) => {
    if (values[key] === undefined) throw new Error(`bench/config/${name}: nothing to fill in for ${key}`);
    return values[key];
  });
  await writeFile(target, filled);
  return target;
}

/**
 * Starts a server and answers when `port` accepts connections.
 *
 * @param {object} options
 * @param {string} options.name for messages and the file of its output
 * @param {string} options.directory
 * @param {string[]} options.command
 * @param {number} options.port
 * @param {Record<string, string>} [options.environment]
 */
export async function startServer({ name, directory, command: [program, ...parameters], port, environment = {} }) {
  const outputFile = join(directory, `${name}.out`);
  // A file, so that nobody has to read what it writes while it is measured.
  const output = openSync(outputFile, 'a');
  const child = spawn(program, parameters, {
    cwd: directory, stdio: ['ignore', output, output], env: { PATH: process.env.PATH, ...environment },
    // A session of its own, as a service has: Linux shares processor time between sessions first.
    detached: true,
  });
  closeSync(output);
  let ended;
  const exited = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? code));
    child.once('error', (error) => done(error.message));
  });
  running.add(child);
  exited.then((how) => {
    ended = how;
    running.delete(child);
  });
  const tail = () => readFileSync(outputFile, 'utf8').slice(-2_000);
  const server = {
    pid: child.pid,
    output: tail,
    async stop() {
      if (ended !== undefined) return;
      child.kill('SIGTERM');
      await within(`${name} stops`, exited, STOP_TIMEOUT).catch(() => child.kill('SIGKILL'));
      await within(`${name} is gone`, exited, STOP_TIMEOUT);
    },
  };
  try {
    await until(`${name} listens`, () => {
      if (ended !== undefined) throw new Fatal(`${name} ended (${ended}): ${tail()}`);
      return connects(port);
    }, { timeout: 20_000, every: 50 });
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** The process and all its descendants. */
export function family(root) {
  const parents = new Map();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const fields = statOf(Number(entry));
    if (fields) parents.set(Number(entry), Number(fields[1]));
  }
  const found = [root];
  // It grows while it is walked.
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
}

/** Seconds of CPU, user and system, of all threads of these processes so far. */
export function cpuSeconds(pids) {
  let nanoseconds = 0;
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      // What the scheduler counted, exact; user and system time in `stat` are the same sum in steps of 10 ms.
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    }
  }
  return nanoseconds / 1e9;
}

/** Bytes of memory that are these processes' own: what they share is counted once (proportional set size). */
export function memory(pids) {
  let bytes = 0;
  for (const pid of pids) {
    bytes += Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) * 1024;
  }
  return bytes;
}

/** The fields of /proc/PID/stat from the third on (proc_pid_stat(5)); nothing if the process is gone. */
function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
