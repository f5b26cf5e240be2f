// The users of a soak run: each signs in, calls, refreshes, asks for the session, signs out, here or everywhere, and signs
// in again, for as long as it takes.
//
// Outside of the times in which something is broken on purpose nothing may be refused. Within them a 503 (or a broken
// connection) is only put off; being signed out is a loss at any time, unless the user did it.

import { setTimeout as pause } from 'node:timers/promises';

import { until } from '../rig/wait.js';

const OVER = new Set(['session_expired', 'unauthorized']);
const NOTICE = 5_000;
const SAME_SECOND = 1_100;

export class Crowd {
  /** `failures` holds the first few, to be told. */
  account = {
    calls: 0, refreshes: 0, 'sign-ins': 0, 'sign-outs': 0, everywhere: 0, 'put off': 0, failed: 0, lost: 0, failures: [], losses: [],
  };

  /** What is broken at the moment, or null. */
  fault = null;

  #isOver = false;
  #members;
  #loops = [];

  /**
   * @param {object} options
   * @param {import('../rig/fleet.js').Fleet} options.fleet
   * @param {number} options.count users
   * @param {number} options.rate operations per second of all users together, at most
   */
  constructor({ fleet, count, rate }) {
    this.fleet = fleet;
    this.every = (1_000 * count) / rate;
    const onEvent = (event) => {
      if (event.endsWith('succeeded')) this.account.refreshes += 1;
      else this.account['put off'] += 1;
    };
    this.#members = Array.from({ length: count }, (_, index) => ({
      user: fleet.user(`soaker${index}@example.com`, { onEvent }), isIn: false, last: [],
    }));
    this.isStateful = fleet.settings.session.store !== 'cookie';
  }

  async begin() {
    for (const member of this.#members) await this.#signIn(member);
    this.#loops = this.#members.map((member) => this.#live(member));
  }

  /** Nobody begins anything any more; then everybody is asked whether they are where they think they are. */
  async end() {
    this.#isOver = true;
    await Promise.all(this.#loops);
    for (const member of this.#members) if (member.isIn) await this.#call(member);
    return this.account;
  }

  /** Whether a user who is in gets an answer: after a fault. */
  async isWell() {
    const { user } = this.#members.find(({ isIn }) => isIn) ?? this.#members[0];
    return (await user.session()) !== null;
  }

  async #live(member) {
    while (!this.#isOver) {
      const startedAt = performance.now();
      await this.#once(member);
      await pause(Math.max(0, this.every - (performance.now() - startedAt)));
    }
  }

  #once(member) {
    if (!member.isIn) return this.#signIn(member);
    const chance = Math.random();
    if (chance < 0.85) return this.#call(member);
    if (chance < 0.93) return this.#judged(member, 'session', () => member.user.agent('GET', '/session'));
    if (chance < 0.97) return this.#judged(member, 'refresh', () => member.user.refresh());
    if (chance < 0.995 || !this.isStateful) return this.#signOut(member);
    return this.#signOutEverywhere(member);
  }

  #call(member) {
    this.account.calls += 1;
    return this.#judged(member, 'call', () => member.user.call('/api/orders'));
  }

  async #signIn(member) {
    await this.#attempted('sign-in', async () => {
      await member.user.signIn();
      member.isIn = true;
      this.#remember(member, 'sign-in', 'done');
      this.account['sign-ins'] += 1;
    });
  }

  async #signOut(member) {
    // whatever comes of it: what was begun may have happened
    member.isIn = false;
    const answer = await this.#judged(member, 'logout', () => member.user.agent('POST', '/logout'));
    if (answer?.status !== 200) return;
    this.account['sign-outs'] += 1;
    await this.#attempted('logout at the provider', () => member.user.leaveProvider(answer));
  }

  /** The same user in another browser is out, too, at whichever replica it asks. */
  async #signOutEverywhere(member) {
    if (this.fault) return;
    const other = this.fleet.user(member.user.name);
    await this.#attempted('logout everywhere', async () => {
      await other.signIn();
      // whatever comes of it: what was begun may have happened
      member.isIn = false;
      const answer = await member.user.agent('POST', '/logout', 'everywhere=true');
      if (answer.status !== 200) throw new Error(`logout everywhere: ${answer.status}`);
      await until('the other browser is signed out, too', async () => !(await other.session()).is_logged_in, { timeout: NOTICE });
      this.account.everywhere += 1;
    });
    other.close();
    // A sign-in of the very second of it is taken for one that it was to end.
    await pause(SAME_SECOND);
  }

  async #attempted(what, work) {
    const before = this.fault;
    try {
      await work();
    } catch (error) {
      this.#refused(what, error.message, before);
    }
  }

  async #judged(member, what, ask) {
    const before = this.fault;
    try {
      const answer = await ask();
      this.#remember(member, what, answer.status);
      const code = answer.headers?.['token-handler-error'];
      const isOut = OVER.has(code) || (what === 'session' && answer.status === 200 && !answer.json().is_logged_in);
      if (isOut) {
        member.isIn = false;
        this.account.lost += 1;
        this.account.losses.push(`${new Date().toISOString()} ${member.user.name} ${what}: ${code ?? 'is_logged_in: false'} (${this.fault ?? 'nothing broken'}) after ${member.last.join(', ')}`);
      } else if (answer.status !== 200) {
        this.#refused(what, [answer.status, code].filter(Boolean).join(' '), before);
      }
      return answer;
    } catch (error) {
      this.#remember(member, what, error.code ?? error.message);
      this.#refused(what, error.code ?? error.message, before);
      return undefined;
    }
  }

  /** What a member met last, to be told when it is signed out. */
  #remember(member, what, outcome) {
    const at = new Date().toISOString().slice(11, 23);
    member.last = [...member.last.slice(-7), `${at} ${what} ${outcome}`];
  }

  #refused(what, outcome, before) {
    if (before ?? this.fault) {
      this.account['put off'] += 1;
      return;
    }
    this.account.failed += 1;
    this.#note(what, outcome);
  }

  #note(what, outcome) {
    if (this.account.failures.length < 20) this.account.failures.push(`${new Date().toISOString()} ${what}: ${outcome} (${this.fault ?? 'nothing broken'})`);
  }
}
