// The few calls of WebDriver (W3C Recommendation) that the rig makes, over one connection after the other.
//
// WebDriver has one current window, so calls about a window are made one at a time, each after a switch to it. It never
// waits inside of the browser: a script that takes its time is begun and then asked for.

import { request } from 'node:http';

import { until } from '../../rig/wait.js';

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const CALL_TIMEOUT = 30_000;
const SCRIPT_TIMEOUT = 60_000;

/** An answer of the driver that says no; `code` is WebDriver's `error`. */
export class DriverError extends Error {
  constructor({ error, message }) {
    super(`${error}: ${message}`.trim());
    this.code = error;
  }
}

export class WebDriver {
  #port;
  #session;
  #current;
  #last = Promise.resolve();
  #runs = 0;

  constructor(port) {
    this.#port = port;
  }

  /** Starts the browser. Answers the capabilities that it has. */
  async begin(capabilities) {
    const { sessionId, capabilities: granted } = await call(this.#port, 'POST', '/session', { capabilities: { alwaysMatch: capabilities } });
    this.#session = sessionId;
    return granted;
  }

  /** A call about the session; about a window too, if one is given. */
  call(method, path, { body, window } = {}) {
    const made = this.#last.then(async () => {
      if (window && window !== this.#current) {
        await this.#send('POST', '/window', { handle: window });
        this.#current = window;
      }
      return this.#send(method, path, body);
    });
    this.#last = made.catch(() => {});
    return made;
  }

  /** Closes one window; another one is the current one then. */
  async close(window) {
    const [left] = await this.call('DELETE', '/window', { window });
    if (left) await this.call('GET', '/title', { window: left });
  }

  /** Calls `script`, a function that may be async, in the page. Other windows go on meanwhile. */
  async evaluate(window, script, argument) {
    this.#runs += 1;
    const run = this.#runs;
    const execute = (text, ...args) => this.call('POST', '/execute/sync', { window, body: { script: text, args } });
    const begun = await execute(`
      const [run, argument] = arguments;
      window.__runs ??= new Map();
      const tell = (error) => ({problem: error?.stack ? error.name + ': ' + error.message : String(error)});
      try {
        const made = (${script})(argument);
        // What ends at once costs one call, and may leave the page.
        if (typeof made?.then !== 'function') return {value: made};
        window.__runs.set(run, {pending: true});
        made.then((value) => window.__runs.set(run, {value}), (error) => window.__runs.set(run, tell(error)));
        return {pending: true};
      } catch (error) {
        return tell(error);
      }`, run, argument ?? null);
    const ask = 'return window.__runs?.get(arguments[0]) ?? {lost: true};';
    const outcome = !begun.pending ? begun : await until('a script of the page ends', async () => {
      const answer = await execute(ask, run);
      return answer.pending ? null : answer;
    }, { timeout: SCRIPT_TIMEOUT, every: 15 });
    if (outcome.lost) throw new Error('the page was left before its script ended');
    if (outcome.problem !== undefined) throw new Error(outcome.problem);
    return outcome.value ?? undefined;
  }

  /** The id of the first element that `selector` matches. */
  async element(window, selector) {
    return (await this.call('POST', '/element', { window, body: { using: 'css selector', value: selector } }))[ELEMENT];
  }

  #send(method, path, body) {
    return call(this.#port, method, `/session/${this.#session}${path}`, body);
  }
}

function call(port, method, path, body) {
  const text = method === 'POST' ? JSON.stringify(body ?? {}) : undefined;
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, method, path, headers: text ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } : {} }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const { value } = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}');
        if (response.statusCode === 200) resolve(value);
        else reject(new DriverError(value));
      });
    });
    outgoing.setTimeout(CALL_TIMEOUT, () => outgoing.destroy(new Error(`${method} ${path}: no answer of the driver`)));
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}
