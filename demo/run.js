// Starts the demo: an OpenID Provider, an API and Coatroom with a single-page application, all on loopback.
//
//   node run.js                            until ctrl-C
//   node run.js --https                    the same on https://localhost:8443, for Safari among others
//   node run.js --check [--screenshot F]   a headless Chromium clicks through everything; then it exits
//   --port N     another port for the application          --binary F   another Coatroom binary
//   --verbose    Coatroom's log on the terminal
//
// It never listens beyond this machine, never waits without a bound, and ends only what it started.

import { spawn } from 'node:child_process';
import { closeSync, cpSync, existsSync, openSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { get as getTls } from 'node:https';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { startApi } from './api.js';
import { startControl } from './control.js';
import { startProvider } from './provider.js';
import { settle, STATE, Trouble } from './settings.js';
import * as terminal from './terminal.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const LOG = join(STATE, 'coatroom.log');
const LIBRARY = join(HERE, '..', 'clients', 'typescript', 'dist');

const READY_MILLISECONDS = 20_000;
const STOP_MILLISECONDS = 5_000;
const CHECK_MILLISECONDS = 120_000;

/** Somebody pressed ctrl-C. */
class Interruption extends Error {}

async function main() {
  const running = [];
  const interrupted = interruption();
  try {
    const options = read(process.argv.slice(2));
    const demo = await start(options, running, interrupted);
    if (options.check) {
      await Promise.race([check(demo, options), demo.exited, interrupted, tooLong(CHECK_MILLISECONDS, 'The check')]);
    } else {
      const [config, log] = [demo.config, LOG].map((file) => relative(process.cwd(), file));
      terminal.greeting({ url: demo.url, config, log: options.verbose ? 'below' : log, https: options.https });
      await Promise.race([demo.exited, interrupted]);
    }
    return 0;
  } catch (error) {
    if (error instanceof Interruption) return process.argv.includes('--check') ? 130 : 0;
    if (error instanceof Trouble) terminal.failed(error.message);
    else console.error(error);
    return 1;
  } finally {
    for (const stop of running.reverse()) await stop();
  }
}

function read(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        check: { type: 'boolean', default: false },
        screenshot: { type: 'string' },
        https: { type: 'boolean', default: false },
        port: { type: 'string' },
        binary: { type: 'string', default: join(HERE, '..', 'target', 'release', 'coatroom') },
        verbose: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new Trouble(error.message);
  }
  if (values.port === undefined) return values;
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Trouble('--port takes a number from 1 to 65535');
  return { ...values, port };
}

/** Starts everything, and pushes onto `running` how to stop each. `exited` of the answer fails if Coatroom exits. */
async function start(options, running, interrupted) {
  const binary = resolve(options.binary);
  if (!existsSync(binary)) {
    throw new Trouble(`There is no ${relative(process.cwd(), binary)} yet. Build it first:\n\n  cargo build --release`);
  }
  takeLibrary();
  terminal.title('The Coatroom demo');
  const settings = await settle({ binary, https: options.https, port: options.port });
  const { url, ports, clientSecret } = settings;
  // What happens before everything is up is Coatroom looking for the provider: nothing to look at.
  let watched = false;
  const watch = (show) => (...facts) => { if (watched) show(...facts); };
  const part = async (name, address, work) => {
    const from = performance.now();
    const made = await work();
    terminal.started(name, address, performance.now() - from);
    return made;
  };

  const provider = await part('OpenID Provider', `http://127.0.0.1:${ports.provider}`, () => startProvider({
    port: ports.provider,
    clientSecret,
    redirectUris: [`${url}/auth/callback`],
    postLogoutRedirectUris: [`${url}/auth/logout/callback`],
    refreshTokenTtl: 24 * 60 * 60,
    tellRefreshTokenLife: true,
    stylesheet: readFileSync(join(HERE, 'provider.css'), 'utf8'),
    observe: watch((request) => terminal.request('provider', request, request.grant_type ?? '')),
  }));
  running.push(provider.close);
  const api = await part('API', `http://127.0.0.1:${ports.api}`, () => startApi({
    port: ports.api,
    observe: watch((request) => terminal.request('api', request, whatCame(request))),
  }));
  running.push(api.close);
  const control = await startControl({ port: ports.control, origin: url, provider, api, report: watch(terminal.event) });
  running.push(control.close);

  const coatroom = await part('Coatroom', url, async () => {
    const child = startCoatroom(binary, settings.config, options);
    running.push(child.stop);
    await Promise.race([readiness(settings, options), child.exited, interrupted]);
    return child;
  });
  watched = !options.check;
  return { ...settings, exited: coatroom.exited };
}

/** Copies the client library beside the pages, which import it: `static` serves one folder, and no link out of it. */
function takeLibrary() {
  if (!existsSync(join(LIBRARY, 'index.js'))) {
    const folder = relative(process.cwd(), dirname(LIBRARY)) || '.';
    throw new Trouble(`The client library is not built yet. Build it first:\n\n  npm --prefix ${folder} ci && npm --prefix ${folder} run build`);
  }
  const isForTheBrowser = (file) => file === LIBRARY || /\.js(\.map)?$/.test(file);
  cpSync(LIBRARY, join(HERE, 'spa', 'coatroom'), { recursive: true, filter: isForTheBrowser });
}

function whatCame({ token, cookies }) {
  return `${token ? 'with a token' : 'without a token'}, ${cookies ? 'with a COOKIE' : 'no cookie'}`;
}

function startCoatroom(binary, config, options) {
  const log = options.verbose ? 'inherit' : openSync(LOG, 'w', 0o600);
  // A group of its own: ctrl-C reaches this process alone, which then stops the others in order.
  const child = spawn(binary, ['serve', '--config', config], { stdio: ['ignore', log, log], detached: true });
  if (typeof log === 'number') closeSync(log);

  let stopping = false;
  const gone = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? `exit code ${code}`));
    child.once('error', (error) => done(error.message));
  });
  const exited = gone.then((why) => {
    if (!stopping) throw new Trouble(`Coatroom has stopped (${why}).\n${lastLines(options)}`);
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
async function readiness({ url, ports, tls }, options) {
  const deadline = Date.now() + READY_MILLISECONDS;
  const ca = tls && readFileSync(tls.ca);
  let last;
  while (Date.now() < deadline) {
    try {
      const addresses = [`http://127.0.0.1:${ports.admin}/readyz`, `${url}/`];
      const statuses = await Promise.all(addresses.map((address) => statusOf(address, ca)));
      last = addresses.map((address, at) => `${address}: ${statuses[at]}`).join(', ');
      if (statuses.every((status) => status === 200)) return;
    } catch (error) {
      last = error.code ?? error.message;
    }
    await new Promise((done) => { setTimeout(done, 100); });
  }
  throw new Trouble(`Coatroom is not ready after ${READY_MILLISECONDS / 1000} seconds (${last}).\n${lastLines(options)}`);
}

function statusOf(address, ca) {
  return new Promise((done, fail) => {
    const ask = address.startsWith('https:') ? getTls : get;
    const options = { timeout: 2_000, ...(ca && { ca }) };
    ask(address, options, (response) => {
      response.resume();
      done(response.statusCode);
    }).once('error', fail).once('timeout', function stop() { this.destroy(new Error('no answer')); });
  });
}

async function check({ url, tls, ports }, { screenshot }) {
  const { checkDemo } = await import('./check.js');
  console.log();
  const from = performance.now();
  await checkDemo({
    url,
    provider: `http://127.0.0.1:${ports.provider}`,
    certificate: tls && readFileSync(tls.cert),
    screenshot: screenshot && resolve(screenshot),
    report: terminal.passed,
  });
  console.log(`\n  The demo works. ${terminal.dim(`${((performance.now() - from) / 1000).toFixed(1)} s`)}\n`);
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

function lastLines({ verbose }) {
  if (verbose) return '';
  const lines = readFileSync(LOG, 'utf8').trimEnd().split('\n').slice(-20);
  return `The end of ${relative(process.cwd(), LOG)}:\n\n${lines.join('\n')}`;
}

// Not only the exit code: a check that took too long leaves a browser, which ends with this process.
process.exit(await main());
