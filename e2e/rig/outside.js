// What is outside of Coatroom, each in a process of its own: `startOutside('provider', …)` and `startOutside('api', …)`.
// The provider keeps a log of its token requests: when each began, when it was answered, and whether anybody was left to
// hear the answer.
//
// It changes nothing in what provider and API answer; it only makes the token endpoint as slow as it is told to.

import { fork } from 'node:child_process';

import { within } from './wait.js';

const PATIENCE = 60_000;

/**
 * @param {'provider' | 'api'} kind
 * @param {object} options of `startProvider` or `startApi`, as far as they are plain data
 * @returns `{pid, port, ask(question, value), close()}`; see `QUESTIONS` below
 */
export async function startOutside(kind, options = {}) {
  const child = fork(import.meta.filename, ['--outside', kind, JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const waiting = new Map();
  let last = 0;
  const exited = new Promise((done) => { child.once('exit', done); });
  const orphaned = () => child.kill('SIGKILL');
  process.once('exit', orphaned);
  exited.then(() => {
    process.off('exit', orphaned);
    for (const { reject } of waiting.values()) reject(new Error(`the ${kind} process ended`));
  });
  child.on('message', ({ id, value, problem }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (problem) reject(new Error(problem));
    else resolve(value);
  });
  const answerTo = (id) => within(`the ${kind} process answers`, new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
  }), PATIENCE);
  const { port } = await answerTo(0);
  return {
    pid: child.pid,
    port,
    ask(question, value) {
      last += 1;
      child.send({ id: last, question, value });
      return answerTo(last);
    },
    async close() {
      child.kill('SIGTERM');
      await within(`the ${kind} process ends`, exited, 5_000).catch(() => child.kill('SIGKILL'));
    },
  };
}

if (process.argv[2] === '--outside') {
  const [kind, options] = [process.argv[3], JSON.parse(process.argv[4])];
  try {
    const { port, questions } = kind === 'provider' ? await provider(options) : await api(options);
    process.on('message', async ({ id, question, value }) => {
      try {
        process.send({ id, value: await questions[question](value) });
      } catch (error) {
        process.send({ id, problem: error.message });
      }
    });
    process.on('disconnect', () => process.exit());
    process.send({ id: 0, value: { port } });
  } catch (error) {
    process.send({ id: 0, problem: error.stack });
  }
}

async function api(options) {
  const { startApi } = await import('../../demo/api.js');
  const { port, requests } = await startApi(options);
  return { port, questions: { requests: () => requests.length } };
}

async function provider({ delay: first = [0, 0], ...options }) {
  const { startProvider } = await import('../../demo/provider.js');
  const log = [];
  const ofSocket = new WeakMap();
  let delay = first;
  const wait = (share) => new Promise((done) => {
    const [least, most] = delay;
    const milliseconds = (least + Math.random() * (most - least)) * share;
    if (milliseconds < 1) done();
    else setTimeout(done, milliseconds);
  });
  const around = async (context, next) => {
    if (context.method !== 'POST' || context.path !== '/token') return next();
    const { socket } = context.req;
    const entry = { begun: Date.now(), answered: null, hungUp: null, grant: null, status: null, error: null };
    log.push(entry);
    // A peer that dies ends its connections: before the answer, or soon after it.
    if (!ofSocket.has(socket)) {
      ofSocket.set(socket, []);
      socket.once('close', () => {
        for (const asked of ofSocket.get(socket)) asked.hungUp = Date.now();
      });
    }
    ofSocket.get(socket).push(entry);
    // Half of the time before anything is decided, half of it when all is decided and nobody knows.
    await wait(0.5);
    await next();
    await wait(0.5);
    entry.grant = context.oidc?.params?.grant_type ?? null;
    entry.status = context.status;
    entry.error = context.body?.error ?? null;
    context.res.once('finish', () => { entry.answered = Date.now(); });
  };
  const running = await startProvider({ ...options, around });
  // Tokens, to search for in what must not hold them. Only tests look at them.
  const issued = [];
  running.provider.on('grant.success', ({ body }) => {
    for (const kind of ['access_token', 'refresh_token', 'id_token']) if (body?.[kind]) issued.push(body[kind]);
  });
  const questions = {
    /** Changes the provider's settings, such as `accessTokenTtl`. */
    set(settings) {
      Object.assign(running.settings, settings);
    },
    /** `[least, most]` milliseconds that a token request takes from now on. */
    slow(range) {
      delay = range;
    },
    /** The token requests since the given time. */
    log: (since = 0) => log.filter(({ begun }) => begun >= since),
    issued: () => issued,
    revokeRefreshTokens: () => running.revokeRefreshTokens(),
    suspend: () => running.suspend(),
    resume: () => running.resume(),
  };
  return { port: running.port, questions };
}
