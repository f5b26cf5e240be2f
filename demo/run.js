// Starts the demo: an OpenID Provider, an API and Coatroom with a single-page application, all on loopback.
//
//   node run.js                            until ctrl-C
//   node run.js --check [--screenshot F]   a headless Chromium signs in, looks around, signs out; then it exits
//   --binary F   another Coatroom binary   --verbose   Coatroom's log on the terminal
//
// It never listens beyond this machine, never waits without a bound, and ends only what it started.

import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { startApi } from './api.js';
import { listen, startProvider } from './provider.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const STATE = join(HERE, '.state');
const LOG = join(STATE, 'coatroom.log');
const CONFIG = join(HERE, 'coatroom.yaml');

// The same numbers as in coatroom.yaml.
const APP = 'http://localhost:8080';
const READY = 'http://127.0.0.1:9090/readyz';
const PORTS = { application: 8080, admin: 9090, provider: 9000, api: 5001 };

const READY_MILLISECONDS = 20_000;
const STOP_MILLISECONDS = 5_000;
const CHECK_MILLISECONDS = 120_000;

/** A failure that needs words, not a stack. */
class Trouble extends Error {}

/** Somebody pressed ctrl-C. */
class Interruption extends Error {}

const { values: options } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    screenshot: { type: 'string' },
    binary: { type: 'string', default: join(HERE, '..', 'target', 'release', 'coatroom') },
    verbose: { type: 'boolean', default: false },
  },
});

async function main() {
  const running = [];
  const interrupted = interruption();
  try {
    const { exited } = await start(running, interrupted);
    if (options.check) {
      await Promise.race([check(), exited, interrupted, tooLong(CHECK_MILLISECONDS, 'The check')]);
    } else {
      console.log(GREETING);
      await Promise.race([exited, interrupted]);
    }
    return 0;
  } catch (error) {
    if (error instanceof Interruption) return options.check ? 130 : 0;
    console.error(error instanceof Trouble ? `\n${error.message}\n` : error);
    return 1;
  } finally {
    for (const stop of running.reverse()) await stop();
  }
}

/** Starts the three, and pushes onto `running` how to stop each. `exited` of the answer fails if Coatroom exits. */
async function start(running, interrupted) {
  const binary = resolve(options.binary);
  if (!existsSync(binary)) {
    throw new Trouble(`There is no ${relative(process.cwd(), binary)} yet. Build it first:\n\n  cargo build --release`);
  }
  await assertPortsAreFree();
  const clientSecret = makeState(binary);

  const provider = await startProvider({ port: PORTS.provider, clientSecret });
  running.push(provider.close);
  const api = await startApi({ port: PORTS.api });
  running.push(api.close);

  const coatroom = startCoatroom(binary);
  running.push(coatroom.stop);
  await Promise.race([readiness(), coatroom.exited, interrupted]);
  return coatroom;
}

async function assertPortsAreFree() {
  for (const [what, port] of Object.entries(PORTS)) {
    const probe = createServer();
    try {
      await listen(probe, port, '127.0.0.1');
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
      throw new Trouble(`Port ${port} on 127.0.0.1 is taken, and the demo needs it (${what}).\n`
        + 'Is the demo running in another terminal? Stop what uses the port and try again.');
    }
    await new Promise((done) => { probe.close(done); });
  }
}

/** Secrets of this demo, made once: the client's, and the key that seals the cookies. */
function makeState(binary) {
  mkdirSync(STATE, { recursive: true, mode: 0o700 });
  const secretFile = join(STATE, 'client-secret');
  if (!existsSync(secretFile)) writeFileSync(secretFile, randomBytes(32).toString('base64url'), { mode: 0o600 });

  const keyFile = join(STATE, 'coatroom.key');
  if (!existsSync(keyFile)) {
    const { status, stdout, stderr, error } = spawnSync(binary, ['keygen'], { timeout: 10_000 });
    if (status !== 0) throw new Trouble(`\`coatroom keygen\` failed: ${error?.message ?? stderr}`);
    writeFileSync(keyFile, stdout, { mode: 0o600 });
  }
  return readFileSync(secretFile, 'utf8');
}

function startCoatroom(binary) {
  const log = options.verbose ? 'inherit' : openSync(LOG, 'w', 0o600);
  // A group of its own: ctrl-C reaches this process alone, which then stops the others in order.
  const child = spawn(binary, ['serve', '--config', CONFIG], { stdio: ['ignore', log, log], detached: true });
  if (typeof log === 'number') closeSync(log);

  let stopping = false;
  const gone = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? `exit code ${code}`));
    child.once('error', (error) => done(error.message));
  });
  const exited = gone.then((why) => {
    if (!stopping) throw new Trouble(`Coatroom has stopped (${why}).\n${lastLines()}`);
  });
  // Whoever awaits it hears of it; nobody awaits it while stopping.
  exited.catch(() => {});

  async function stop() {
    stopping = true;
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS);
    await gone;
    clearTimeout(timer);
  }
  return { exited, stop };
}

/** Answers when Coatroom says it is ready and the application's page is there. */
async function readiness() {
  const deadline = Date.now() + READY_MILLISECONDS;
  let last;
  while (Date.now() < deadline) {
    try {
      const answers = await Promise.all([READY, `${APP}/`].map((url) => fetch(url, { signal: AbortSignal.timeout(2_000) })));
      last = answers.map(({ url, status }) => `${url}: ${status}`).join(', ');
      if (answers.every(({ ok }) => ok)) return;
    } catch (error) {
      last = error.cause?.code ?? error.message;
    }
    await new Promise((done) => { setTimeout(done, 100); });
  }
  throw new Trouble(`Coatroom is not ready after ${READY_MILLISECONDS / 1000} seconds (${last}).\n${lastLines()}`);
}

async function check() {
  const { checkDemo } = await import('./check.js');
  await checkDemo({ url: APP, screenshot: options.screenshot && resolve(options.screenshot) });
  console.log('The demo works.');
}

/** A promise that fails at ctrl-C; a second one changes nothing, since stopping has a bound. */
function interruption() {
  const interrupted = new Promise((_done, fail) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => fail(new Interruption(signal)));
  });
  // It may come while nobody waits for it.
  interrupted.catch(() => {});
  return interrupted;
}

function tooLong(milliseconds, what) {
  return new Promise((_done, fail) => {
    setTimeout(() => fail(new Trouble(`${what} took longer than ${milliseconds / 1000} seconds`)), milliseconds).unref();
  });
}

function lastLines() {
  if (options.verbose) return '';
  const lines = readFileSync(LOG, 'utf8').trimEnd().split('\n').slice(-20);
  return `The end of ${relative(process.cwd(), LOG)}:\n\n${lines.join('\n')}`;
}

const GREETING = `
  The demo is running.

    Open        ${APP}
    Sign in as  any name with any password, for example alice

  Behind it: an OpenID Provider on port ${PORTS.provider}, an API on port ${PORTS.api},
  Coatroom's health on ${READY}.
  Its log is demo/.state/coatroom.log; the configuration is demo/coatroom.yaml.

  Stop everything with ctrl-C.
`;

// Not only the exit code: a check that took too long leaves a browser, which ends with this process.
process.exit(await main());
