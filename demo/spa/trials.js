// "What goes wrong": errors of the token handler, each really produced and shown as it came.
//
// Every step is an answer that this page has received; a trial counts as seen only when the announced status and
// code were among them. What a trial breaks it mends again, also when it fails half-way.

import { setStage } from './stage.js';

export const HEADER = { 'token-handler-version': '1' };
const SHORT_LIFE = { token_lifetime: 2 };
const NORMAL_LIFE = { token_lifetime: 300 };
const OVER_THE_LIMIT = 300 * 1024;
const MOST_TRIES = 5;

/**
 * `status` and `code`: what will be seen. `spa`: what a SPA does about it. `needs`: `session` where nothing can be
 * shown without one. `run` gets `{client, raw, say, go, wait}`; see `trial_rows.js`.
 */
export const TRIALS = [
  {
    group: 'Your session',
    id: 'unauthorized',
    status: 401,
    code: 'unauthorized',
    title: 'Nobody is signed in',
    what: 'One call that leaves the cookies at home.',
    spa: 'offers the sign-in',
    run: ({ raw }) => raw('/api/orders', { credentials: 'omit' }),
  },
  {
    group: 'Your session',
    id: 'access_token_expired',
    status: 401,
    code: 'access_token_expired',
    title: 'The access token is over',
    what: 'The provider issues one that lives 2 seconds; the call comes too late.',
    spa: 'refreshes and repeats the call once; nobody notices',
    needs: 'session',
    async run({ client, say, wait }) {
      await mended(SHORT_LIFE, NORMAL_LIFE, () => refreshed(client));
      await wait(Math.ceil((client.state.session.accessTokenExpiresAt - Date.now()) / 1000) + 1);
      say('One call of the page, three requests of its client:');
      await client.fetch('/api/orders');
    },
  },
  {
    group: 'Your session',
    id: 'session_expired',
    status: 401,
    code: 'session_expired',
    title: 'The provider ends the session',
    what: 'It revokes the refresh token. The access token lives on until it is over, and then nothing helps.',
    spa: 'offers the sign-in and comes back to this page',
    needs: 'session',
    async run({ client, say }) {
      await setStage({ revoke: true });
      say('The provider has revoked every refresh token.');
      await client.fetch('/api/orders');
      await client.refresh();
    },
  },
  {
    group: 'The request',
    id: 'csrf_rejected',
    status: 403,
    code: 'csrf_rejected',
    title: 'The custom header is missing',
    what: 'The cookies came along, the header did not: as a form on a sibling site would send it.',
    spa: 'has nothing to do: a bug, or an attack that failed',
    needs: 'session',
    run: ({ raw }) => raw('/api/echo', { method: 'POST', body: 'amount=1000', headers: {} }),
  },
  {
    group: 'The request',
    id: 'invalid_request',
    status: 400,
    code: 'invalid_request',
    title: 'A parameter that nobody allows',
    what: 'The sign-in is started with “colour=green”.',
    spa: 'fixes the call: a bug',
    run: ({ raw }) => raw('/auth/login/start', { method: 'POST', body: new URLSearchParams({ colour: 'green' }) }),
  },
  {
    group: 'The request',
    id: 'not_found',
    status: 404,
    code: 'not_found',
    title: 'No such endpoint',
    what: 'Coatroom’s own 404 carries a code; the API’s 404 is passed on and has none.',
    spa: 'tells the two apart by the header “token-handler-error”',
    async run({ raw, signedIn }) {
      await raw('/auth/no-such-endpoint');
      if (signedIn()) await raw('/api/no-such-order');
    },
  },
  {
    group: 'The request',
    id: 'method_not_allowed',
    status: 405,
    code: 'method_not_allowed',
    title: 'The wrong method',
    what: 'A refresh by GET, as an image on a foreign page would try it.',
    spa: 'fixes the call: a bug',
    run: ({ raw }) => raw('/auth/refresh'),
  },
  {
    group: 'The request',
    id: 'payload_too_large',
    status: 413,
    code: 'payload_too_large',
    title: 'Too much of it',
    what: '300 KiB, where the route takes 256.',
    spa: 'sends less',
    needs: 'session',
    run: ({ raw }) => raw('/api/echo', { method: 'POST', body: 'x'.repeat(OVER_THE_LIMIT) }),
  },
  {
    group: 'The API',
    id: 'upstream_unavailable',
    status: 502,
    code: 'upstream_unavailable',
    title: 'The API is stopped',
    what: 'Nobody listens on its port; then it is started again.',
    spa: 'says so and tries later; the session stays',
    needs: 'session',
    async run({ client, say }) {
      say('The API is being stopped.');
      await mended({ api: 'stopped' }, { api: 'running' }, () => client.fetch('/api/orders'));
      say('The API runs again.');
      await client.fetch('/api/orders');
    },
  },
  {
    group: 'The API',
    id: 'upstream_timeout',
    status: 504,
    code: 'upstream_timeout',
    title: 'The API is too slow',
    what: 'It thinks for 3 seconds, and this route waits for one.',
    spa: 'says so and tries later',
    needs: 'session',
    run: ({ client }) => client.fetch('/api/slow'),
  },
  {
    group: 'The provider',
    id: 'provider_unavailable',
    status: 503,
    code: 'provider_unavailable',
    title: 'The provider is stopped',
    what: 'Calls to the API go on; only the refresh has to wait. Then it is started again.',
    spa: 'keeps the user signed in and tries later',
    needs: 'session',
    async run({ client, say }) {
      say('The provider is being stopped.');
      await mended({ provider: 'stopped' }, { provider: 'running' }, async () => {
        await client.fetch('/api/orders');
        await client.refresh();
        await client.session();
      });
      say('The provider runs again.');
      await patiently(() => refreshed(client));
    },
  },
  {
    group: 'The provider',
    id: 'provider_error',
    status: 502,
    code: 'provider_error',
    title: 'The provider answers nonsense',
    what: 'Its token endpoint answers a page of HTML with status 200.',
    spa: 'keeps the user signed in and tries later',
    needs: 'session',
    async run({ client, say }) {
      await mended({ provider: 'confused' }, { provider: 'running' }, () => client.refresh());
      say('The provider answers properly again.');
      await patiently(() => refreshed(client));
    },
  },
  {
    group: 'The sign-in',
    id: 'login_state_invalid',
    status: 400,
    code: 'login_state_invalid',
    title: 'A sign-in of another browser',
    what: 'The provider’s answer to a sign-in that this browser never began is posted.',
    spa: 'starts over',
    run: ({ raw }) => raw('/auth/login/end', { method: 'POST', body: new URLSearchParams({ code: 'stale', state: 'of-another-browser' }) }),
  },
  {
    group: 'The sign-in',
    id: 'old_callback',
    status: 303,
    code: null,
    title: 'An old callback link',
    what: 'The same as a link, as from the history or a bookmark. This leaves the page.',
    spa: 'has nothing to do: Coatroom leads into the app, or to one fresh sign-in',
    leaves: true,
    run: ({ go }) => go(() => location.assign('/auth/callback?code=stale&state=of-another-browser')),
  },
  {
    group: 'The sign-in',
    id: 'access_denied',
    status: 303,
    code: 'access_denied',
    title: 'You cancel at the provider',
    what: 'This leaves for the provider’s login form: press “Cancel” there.',
    spa: 'asks for the session first, and then says what happened',
    leaves: true,
    run: ({ client, go }) => go(() => client.signIn({ returnTo: '/#wrong', prompt: 'login' })),
  },
];

/** A refresh that has to succeed: by itself it never throws, and leaves what stood against it in the state. */
async function refreshed(client) {
  const { error } = await client.refresh();
  if (error) throw error;
}

/** A 503 says how long to wait: a client that waits is let in. */
async function patiently(attempt) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (error.status !== 503 || tries === MOST_TRIES) throw error;
      await new Promise((over) => { setTimeout(over, (error.retryAfter ?? 1) * 1_000); });
    }
  }
}

/** Work while something is broken; mended in any case. */
async function mended(broken, whole, work) {
  await setStage(broken);
  try {
    return await work();
  } finally {
    await setStage(whole);
  }
}
