// The demo's stage hands: they let the API and the provider fail for a moment, so that the page can show what then
// happens. Reached by the page through Coatroom, on the route `/demo/`.
//
// Part of the demo alone; nothing like it belongs to a real installation. It never takes a command or a text from a
// request, only a choice out of `CHOICES`; it never answers to another site, to another host name or beyond
// loopback; and whatever it breaks is whole again after a minute, also if nobody asks for it.

import { createServer } from 'node:http';

import { closeServer, listen } from './provider.js';

const OUTAGE_SECONDS = 60;
const LARGEST_BODY = 1024;
const NONSENSE = { status: 200, type: 'text/html', body: '<h1>Please come back later</h1>' };

/** What may be asked for; the first of each is how things should be. `revoke` is no state: it happens once. */
const CHOICES = {
  api: ['running', 'stopped'],
  provider: ['running', 'stopped', 'confused'],
  token_lifetime: [300, 2],
  revoke: [false, true],
};

/**
 * Starts the control endpoint: `GET /stage` tells how things are, `POST /stage` changes them.
 *
 * `origin` is the application's, the only one that may ask. `provider` and `api` are what `startProvider` and `startApi` answer. `report` hears each change in words.
 */
export async function startControl({ host = '127.0.0.1', port = 0, origin, provider, api, report = () => {} }) {
  const stage = { api: 'running', provider: 'running', token_lifetime: 300 };
  let wholeAt = null;
  let timer;
  let turn = Promise.resolve();

  /** One change after the other: an outage that begins and ends at once would leave something in between. */
  function change(wish) {
    const done = turn.then(() => apply(wish));
    turn = done.catch(() => {});
    return done;
  }

  async function apply({ revoke, ...wish }) {
    const before = { ...stage };
    Object.assign(stage, wish);
    await (stage.api === 'running' ? api.resume() : api.suspend());
    await (stage.provider === 'stopped' ? provider.suspend() : provider.resume());
    provider.settings.tokenFailure = stage.provider === 'confused' ? NONSENSE : null;
    provider.settings.accessTokenTtl = stage.token_lifetime;
    if (revoke) provider.revokeRefreshTokens();

    for (const [what, state] of Object.entries(stage)) if (state !== before[what]) report(sentence(what, state));
    if (revoke) report('the provider revoked all refresh tokens');
    clearTimeout(timer);
    wholeAt = null;
    if (isWhole(stage)) return;
    wholeAt = Date.now() + OUTAGE_SECONDS * 1000;
    timer = setTimeout(() => change(WHOLE).catch((error) => report(error.message)), OUTAGE_SECONDS * 1000);
    timer.unref();
  }

  const server = createServer(async (request, response) => {
    try {
      const refusal = refuse(request, { port: server.address().port, origin });
      if (refusal) return send(response, refusal, { error: 'refused' });
      if (request.method === 'POST') {
        const wish = parse(await readBody(request));
        if (!wish) return send(response, 400, { error: 'invalid_request' });
        await change(wish);
      }
      const seconds = wholeAt === null ? null : Math.max(0, Math.ceil((wholeAt - Date.now()) / 1000));
      return send(response, 200, { ...stage, whole_again_in: seconds });
    } catch {
      return send(response, 500, { error: 'server_error' });
    }
  });
  await listen(server, port, host);
  return {
    port: server.address().port,
    async close() {
      clearTimeout(timer);
      await turn;
      await closeServer(server);
    },
  };
}

/**
 * The status of a refusal, or null. A custom header of its own (Coatroom's ends at Coatroom) makes a browser ask first (a CORS preflight, which nobody here
 * answers), and a foreign name in `Host` would be DNS rebinding.
 */
function refuse({ method, url, headers }, { port, origin }) {
  if (url !== '/stage') return 404;
  if (!['GET', 'POST'].includes(method)) return 405;
  if (!['127.0.0.1', 'localhost'].some((name) => headers.host === `${name}:${port}`)) return 421;
  if (!headers['demo-stage']) return 403;
  if (![origin, undefined].includes(headers.origin)) return 403;
  if (!['same-origin', undefined].includes(headers['sec-fetch-site'])) return 403;
  return null;
}

/** A wish as an object of known names and known values; null for anything else. */
function parse(body) {
  let wish;
  try {
    wish = JSON.parse(body);
  } catch {
    return null;
  }
  if (typeof wish !== 'object' || wish === null || Array.isArray(wish)) return null;
  const known = Object.entries(wish).every(([name, value]) => Object.hasOwn(CHOICES, name) && CHOICES[name].includes(value));
  return known ? wish : null;
}

async function readBody(request) {
  let length = 0;
  const chunks = [];
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LARGEST_BODY) return '';
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function send(response, status, value) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(`${JSON.stringify(value)}\n`);
}

const WHOLE = { api: 'running', provider: 'running', token_lifetime: 300 };

function isWhole(stage) {
  return Object.entries(WHOLE).every(([what, state]) => stage[what] === state);
}

function sentence(what, state) {
  return {
    api: `the API is ${state}`,
    provider: state === 'confused' ? 'the provider answers nonsense' : `the provider is ${state}`,
    token_lifetime: `new access tokens live ${state} seconds`,
  }[what];
}
