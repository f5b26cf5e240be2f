// One API as a process of its own, so that it can be killed, stopped and started again.
//
//     node api_process.js PORT FILE
//
// It writes the id of each request into FILE before it does anything else, also when it never gets to answer, and
// answers its own name. It knows nothing of tokens.

import { spawn } from 'node:child_process';
import { openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { request } from './http.js';
import { until, within } from './wait.js';

const WORK = 5;

/** Starts one; `name` is what it answers, `file` in `directory` keeps what it saw over restarts. */
export class ApiProcess {
  #child;
  #exited;

  constructor({ name, port, directory }) {
    Object.assign(this, { name, port, url: `http://127.0.0.1:${port}`, file: join(directory, `${name}.seen`) });
    writeFileSync(this.file, '');
  }

  async start() {
    this.#child = spawn(process.execPath, [import.meta.filename, String(this.port), this.file], { stdio: 'inherit' });
    this.#exited = new Promise((done) => { this.#child.once('exit', done); });
    await until(`${this.name} answers`, async () => (await request(`${this.url}/healthz`, { timeout: 500 })).status === 200, { every: 50 });
  }

  /** SIGKILL, SIGSTOP or SIGCONT to this one process. */
  signal(name) {
    this.#child.kill(name);
  }

  /** Resolves once it is gone. */
  gone() {
    return within(`${this.name} is gone`, this.#exited);
  }

  /** The ids of the requests that it read, in their order. */
  seen() {
    return readFileSync(this.file, 'utf8').split('\n').filter(Boolean);
  }

  async stop() {
    this.signal('SIGCONT');
    this.signal('SIGKILL');
    await this.gone();
  }
}

if (process.argv[1] === import.meta.filename) {
  const [port, file] = process.argv.slice(2);
  const log = openSync(file, 'a');
  createServer(async (incoming, outgoing) => {
    const id = new URL(incoming.url, 'http://api').searchParams.get('id');
    if (id) writeSync(log, `${id}\n`);
    if (id) await pause(WORK);
    outgoing.end(String(port));
  }).listen(Number(port), '127.0.0.1');
}
