// One server process, of a store or a provider: started in a folder of its own, waited for, ended by its id.
//
// It never daemonises, never ends a process that it did not start, and leaves none behind when the tests are cut short.

import { spawn } from 'node:child_process';

import { Fatal, until, within } from '../wait.js';

const START_TIMEOUT = 30_000;
const STOP_TIMEOUT = 15_000;
/** When the tests themselves are cut short, their servers go with them. */
const RUNNING = new Set();
process.once('exit', () => {
  for (const child of RUNNING) child.kill('SIGKILL');
});

export class ServerProcess {
  #child;
  #exited;
  #ended = 'never started';
  #output = [];

  /**
   * @param {object} options
   * @param {string} options.name for messages
   * @param {string} options.command
   * @param {string[]} options.words its arguments
   * @param {string} options.directory where it runs
   * @param {() => Promise<unknown>} options.isReady truthy once it serves; throws until then
   * @param {NodeJS.Signals} [options.goodbye] what makes it end in order
   * @param {Record<string, string>} [options.env] in place of this process' environment
   */
  constructor({ name, command, words, directory, isReady, goodbye = 'SIGTERM', env = process.env }) {
    Object.assign(this, { name, command, words, directory, isReady, goodbye, env });
  }

  get pid() {
    return this.#child?.pid;
  }

  get isRunning() {
    return this.#ended === undefined;
  }

  async start() {
    if (this.isRunning) return;
    const child = spawn(this.command, this.words, { cwd: this.directory, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#ended = undefined;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => this.#output.push(chunk));
    RUNNING.add(child);
    this.#exited = new Promise((done) => {
      child.once('exit', (code, signal) => done(signal ?? code));
      child.once('error', (error) => done(error.message));
    }).then((how) => {
      this.#ended = how;
      RUNNING.delete(child);
    });
    await until(`${this.name} serves`, () => {
      if (!this.isRunning) throw new Fatal(`${this.name} ended (${this.#ended}): ${this.output().slice(-2_000)}`);
      return this.isReady();
    }, { timeout: START_TIMEOUT, every: 50 });
  }

  /** In order: it writes what it still has to write. */
  stop() {
    return this.#end(this.goodbye);
  }

  /** As a machine that loses its power would, but for what the kernel has not written yet. */
  kill(signal = 'SIGKILL') {
    return this.#end(signal);
  }

  /** What it wrote over all its starts. */
  output() {
    return Buffer.concat(this.#output).toString('utf8');
  }

  async #end(signal) {
    if (!this.isRunning) return;
    this.#child.kill(signal);
    await within(`${this.name} ends`, this.#exited, STOP_TIMEOUT).catch(() => this.#child.kill('SIGKILL'));
    await within(`${this.name} is gone`, this.#exited, STOP_TIMEOUT);
  }
}
