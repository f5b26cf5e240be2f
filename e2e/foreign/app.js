// A foreign single-page application: it shows who is signed in, and has a button for everything a client does.
// With `callback: agent` it never meets an authorization response; as callback page it posts `login/end` itself.
//
// It never gates what it shows on anything but `session` and `login/end`, and never puts a token anywhere.

import { AgentError, TokenHandlerClient } from './client.js';

const setting = (name) => document.querySelector(`meta[name=${name}]`).content;
const element = (id) => document.getElementById(id);
const RETURN_TO = 'foreign-return-to';
const callback = setting('callback');

const client = new TokenHandlerClient({ agent: setting('agent'), api: setting('api') });
// For the console, and for whoever drives this page.
Object.assign(window, { client, AgentError });

element('sign-in-link').href = `${client.agent}/login?return_to=${encodeURIComponent(here())}`;
element('sign-in').addEventListener('click', () => attempt(signIn));
element('sign-out').addEventListener('click', () => attempt(signOut));
element('refresh').addEventListener('click', () => attempt(() => client.refresh()));
element('call-api').addEventListener('click', () => attempt(async () => (await client.callApi('/orders')).json()));
attempt(load);

async function load() {
  const url = location.href;
  if (location.pathname.startsWith(callback) && TokenHandlerClient.isAuthorizationResponse(url)) {
    // A framework that runs effects twice posts twice: `/signed-in-twice` does it on purpose.
    const times = location.pathname === `${callback}-twice` ? 2 : 1;
    const sessions = await Promise.all(Array.from({ length: times }, () => client.endLogin(url)));
    history.replaceState(null, '', sessionStorage.getItem(RETURN_TO) ?? '/');
    sessionStorage.removeItem(RETURN_TO);
    show(sessions.at(-1));
    return sessions;
  }
  const session = await client.session();
  show(session);
  const failure = new URLSearchParams(location.search).get('login_error');
  if (failure && !session.is_logged_in) say('failed', `sign-in failed: ${failure}`);
  return undefined;
}

async function signIn() {
  sessionStorage.setItem(RETURN_TO, here());
  location.assign(await client.startLogin({ return_to: here() }));
}

async function signOut() {
  location.assign((await client.signOut()) ?? '/');
}

/** Runs an action of the user and writes what came of it, or the code it failed with, to the page. */
async function attempt(action) {
  try {
    const result = await action();
    if (result !== undefined) element('result').textContent = JSON.stringify(result, null, 1);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    say('failed', `${error.status} ${error.code}`);
  }
}

function show(session) {
  if (session.is_logged_in) say('signed-in', `signed in as ${session.id_token_claims.sub}`);
  else say('signed-out', 'signed out');
}

function say(state, text) {
  const status = element('status');
  status.dataset.state = state;
  status.textContent = text;
}

function here() {
  return location.pathname + location.search + location.hash;
}
