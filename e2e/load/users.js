// Many signed-in users who call an API all the time, each as a correct single-page application does, and the account of
// how they fared.
//
// A call counts as failed when anything but a 2xx is left after what the documentation lets a client repeat (see
// `rig/user.js`); nothing else is ever repeated, and no failure is forgiven. Never more than one call of a user at a
// time.

import { setTimeout as pause } from 'node:timers/promises';

import { Fatal } from '../rig/wait.js';

/** What users do, by share. */
const OPERATIONS = [
  { share: 0.7, method: 'GET', path: '/api/orders' },
  { share: 0.25, method: 'POST', path: '/api/echo', body: '{"a":"b"}', type: 'application/json' },
  { share: 0.05, method: 'GET', path: '/auth/session' },
];
const OVER = new Set(['session_expired', 'unauthorized']);

export class Load {
  #stopped = false;
  #loops = [];
  #users;
  #rate;
  #latencies = [];

  /** `failures`: `{at, phase, what, outcome}` of each. */
  account = {
    calls: 0, failed: 0, refreshes: 0, putOff: 0, deferredAndSucceeded: 0, signedOut: 0, failures: [],
  };

  /** What happens around the users: told beside a failure. */
  phase = 'steady';

  /**
   * @param {object} options
   * @param {(name: string, options: object) => import('../rig/user.js').User} options.makeUser
   * @param {number} options.count users
   * @param {number} options.rate calls per second of all users together, at most
   */
  constructor({ makeUser, count, rate }) {
    this.#rate = rate;
    const onEvent = (event) => {
      if (event === 'refresh put off') this.account.putOff += 1;
      else this.account.refreshes += 1;
      if (event === 'deferred refresh succeeded') this.account.deferredAndSucceeded += 1;
    };
    this.#users = Array.from({ length: count }, (_, index) => makeUser(`user${index}`, { onEvent }));
  }

  async signIn() {
    for (const user of this.#users) await user.signIn();
  }

  start() {
    this.#loops = this.#users.map((user, index) => this.#use(user, index));
  }

  /** Whether every user has had new tokens since that time. */
  haveAllRefreshedSince(time) {
    if (this.#stopped) throw new Fatal('a user was signed out');
    return this.#users.every(({ refreshedAt }) => refreshedAt > time);
  }

  /** No new calls; those under way are finished. Then everybody is asked whether they are still signed in. */
  async stop() {
    this.#stopped = true;
    await Promise.all(this.#loops);
    for (const user of this.#users) {
      const answer = await user.agent('GET', '/session');
      if (answer.status !== 200) this.#fail('GET /auth/session', `${answer.status} in the end`);
      else if (!answer.json().is_logged_in) this.account.signedOut += 1;
    }
  }

  /** Milliseconds that calls took, refreshes and waiting included. */
  latencies() {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    return { median: at(0.5), p99: at(0.99), longest: at(1) };
  }

  async #use(user, index) {
    const every = (1_000 * this.#users.length) / this.#rate;
    let next = performance.now() + (every * index) / this.#users.length;
    while (!this.#stopped) {
      const now = performance.now();
      if (next > now) await pause(next - now);
      next = Math.max(next + every, performance.now());
      await this.#callOnce(user);
    }
  }

  #fail(what, outcome, phase = this.phase) {
    this.account.failed += 1;
    this.account.failures.push({ at: new Date().toISOString(), phase, what, outcome });
  }

  async #callOnce(user) {
    const { method, path, body, type } = pick(Math.random());
    const { account } = this;
    account.calls += 1;
    const startedAt = performance.now();
    const phase = this.phase;
    const fail = (outcome) => this.#fail(`${method} ${path}`, outcome, phase);
    try {
      const answer = await user.call(path, { method, body, type });
      const code = answer.headers?.['token-handler-error'];
      if (answer.status < 200 || answer.status > 299) fail(`${answer.status} ${code ?? ''} ${answer.url ?? ''}`.trim());
      else if (path === '/auth/session' && !answer.json().is_logged_in) fail('is_logged_in: false');
      else if (path === '/api/echo' && answer.json().body !== body) fail('another body came back');
      if (OVER.has(code)) this.#stopped = true;
    } catch (error) {
      fail(error.code ?? error.message);
    }
    this.#latencies.push(Math.round(performance.now() - startedAt));
  }
}

function pick(random) {
  let sum = 0;
  return OPERATIONS.find(({ share }) => (sum += share) > random) ?? OPERATIONS[0];
}
