// The demo's customer portal, signed out and signed in, over the token handler's endpoints.
//
// It never holds a token, never writes markup from data (text nodes only), and never shows text that came in
// through the address: an unknown `login_error` gets a general sentence.

import { followCall, showWhatIsSent } from './call.js';
import { setClocks, startClocks } from './clocks.js';
// The library of clients/typescript as it was built; `run.js` puts it here, a project would install it from npm.
import { createCoatroom, errorOf } from './coatroom/index.js';
import { $, busy, fillFacts } from './dom.js';
import { followOrder, markOrder, showOrders, showPhoto } from './orders.js';
import { startStage } from './stage.js';
import { lookForTokens } from './thief.js';
import { allowTrials, reportReturn, startTrials, watchedFetch } from './trial_rows.js';
import { ApiError, knownLoginError, wordsFor, wordsForLogin } from './words.js';

// No refresh ahead of time: the demo shows what happens when a token has run out. Leave both options out elsewhere.
const coatroom = createCoatroom({ refreshAhead: false, fetch: watchedFetch });
let shown = coatroom.state;
let leaving = false;

async function start() {
  const loginError = new URLSearchParams(location.search).get('login_error');
  $('sign-in').onclick = busy(() => coatroom.signIn(), explain);
  $('sign-out').onclick = busy(signOut, explain);
  $('refresh').onclick = busy(refresh, explain);
  $('call-api').onclick = busy(() => followCall(api), explain);
  $('steal').onclick = busy(lookForTokens, explain);
  $('report').onclick = downloadReport;
  $('order-rows').onclick = followOrder;
  $('notice-close').onclick = () => { $('notice').hidden = true; };
  addEventListener('popstate', markOrder);
  startClocks();
  startTrials(coatroom, afterTrial);
  showWhatIsSent();

  // Another tab, another window, the back button, a clock that ran out: the client asks, and tells here.
  coatroom.subscribe(follow);
  // Where a sign-in has just come back, this takes its mark out of the address, so that a reload does not repeat it.
  const callback = await coatroom.handleCallback();
  const state = callback?.state ?? await coatroom.session();
  $('loading').hidden = true;
  if (state.error) explain(state.error, () => coatroom.session());
  $('backstage').hidden = false;
  startStage(explain, () => { if (!shown.user) showStatus(); });
  // The mark is a hint only: whoever is signed in has nothing to be told.
  if (callback?.error && !state.user) notice(wordsForLogin(callback.error), { bad: true });
  reportReturn({ loginError: loginError === null ? null : knownLoginError(loginError), state });
}

/** Shows what has changed, and says so if it was not done here. */
function follow(state) {
  const before = shown;
  show(state);
  if (state.user && state.session.id !== before.session?.id) fillHome();
  if (state.status === 'signed-out' && before.status !== 'signed-out') showStatus();
  // What the page said while nobody could be asked is over.
  if (before.status === 'unknown' && before.error) $('notice').hidden = true;
  if (leaving || before.status === 'unknown' || before.status === state.status) return;
  if (state.user) return notice('You have signed in, in another tab.');
  const words = state.reason === 'signed-out' ? 'You have signed out, in another tab.' : 'Your session has ended. Please sign in again; you will come back to this page.';
  notice(words, { bad: true, action: ['Sign in', () => coatroom.signIn()] });
}

function show(state) {
  const { session, user: claims } = state;
  const signedIn = claims !== null;
  shown = state;
  $('loading').hidden = true;
  $('signed-in').hidden = !signedIn;
  $('signed-out').hidden = state.status !== 'signed-out';
  $('user').hidden = !signedIn;
  $('nav').hidden = !signedIn;
  for (const section of document.querySelectorAll('[data-signed-in]')) section.hidden = !signedIn;
  allowTrials(signedIn);
  setClocks(session);
  if (!signedIn) return forget();
  const name = claims.name ?? claims.preferred_username ?? claims.sub;
  $('user-name').textContent = name;
  $('avatar').textContent = initials(name);
  $('greeting').textContent = `Hello, ${name}`;
  $('ticket-number').textContent = session.id.slice(0, 6);
  $('ticket-number').title = session.id;
  const known = Object.keys(CLAIMS).filter((claim) => claim in claims);
  const names = [...known, ...Object.keys(claims).filter((claim) => !known.includes(claim))];
  fillFacts('claim-rows', names.map((claim) => [CLAIMS[claim] ?? claim, shortly(claim, claims[claim])]));
}

/** Nothing of a user stays on the page after the session. */
function forget() {
  for (const id of ['claim-rows', 'order-rows', 'loot-rows', 'loot-verdict', 'token-rows', 'header-rows']) $(id).replaceChildren();
  for (const id of ['user-name', 'avatar', 'ticket-number']) $(id).textContent = '';
  for (const id of ['answer-rows', 'api-rows']) fillFacts(id, [['Nothing yet', 'Press the button.']]);
  $('greeting').textContent = 'Hello';
  $('photo').removeAttribute('src');
  $('api-details').hidden = true;
}

async function fillHome() {
  showPhoto(() => api('/api/orders'));
  try {
    const { body } = await api('/api/orders');
    showOrders(body.orders);
  } catch (error) {
    showOrders(null);
    explain(error, fillHome);
  }
  // A deep link with a fragment comes back from the sign-in with it; the target exists only now.
  if (location.hash) $(decodeFragment(location.hash))?.scrollIntoView();
}

async function refresh() {
  const { error } = await coatroom.refresh();
  if (error) throw error;
  if (shown.user) notice('The tokens are new. Nothing of them came here.');
}

/** Downloads pass by cookie alone, without the client's retry: so make sure that the token is alive. */
function downloadReport(event) {
  const left = shown.session.accessTokenExpiresAt - Date.now();
  if (left > 5_000) return;
  event.preventDefault();
  const { href } = event.currentTarget;
  coatroom.refresh().then(({ error }) => {
    if (error) throw error;
    Object.assign(document.createElement('a'), { href, download: '' }).click();
  }).catch(explain);
}

async function signOut() {
  leaving = true;
  try {
    await coatroom.signOut();
  } finally {
    leaving = false;
  }
}

async function showStatus() {
  const response = await fetch('/public/status').catch(() => null);
  const status = response?.ok ? await response.json() : null;
  $('status-dot').className = `dot ${status ? 'open' : 'shut'}`;
  $('status-text').textContent = status ? `The shop is ${status.status}.` : 'The shop does not answer right now.';
}

/** An answer of the API with its JSON, or an error that `explain` understands. */
async function api(url, options = { headers: { accept: 'application/json' } }) {
  const response = await coatroom.fetch(url, options);
  if (response.ok) return { response, body: await response.json() };
  throw (await errorOf(response)) ?? new ApiError(response.status);
}

/** What a trial has changed shows on the page: new clocks, or the end of the session. */
async function afterTrial(_trial, error) {
  await coatroom.session();
  if (error && wordsFor(error, { signedIn: shown.user !== null }).action === 'sign-in') explain(error);
}

/** Says in plain words what went wrong, and offers what helps. */
function explain(error, again) {
  // Left for the provider, and came back by the back button: nothing went wrong.
  if (error.code === 'came_back') return;
  const { text, action } = wordsFor(error, { signedIn: shown.user !== null });
  if (action === 'sign-in') return notice(text, { bad: true, action: ['Sign in', () => coatroom.signIn()] });
  return notice(text, { bad: true, action: action === 'again' && again ? ['Try again', again] : null });
}

function notice(words, { bad = false, action = null } = {}) {
  $('notice-text').textContent = words;
  $('notice').classList.toggle('bad', bad);
  $('notice').hidden = false;
  $('notice-action').hidden = !action;
  if (!action) return;
  $('notice-action').textContent = action[0];
  $('notice-action').onclick = busy(async () => {
    $('notice').hidden = true;
    await action[1]();
  }, explain);
}

function decodeFragment(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return '';
  }
}

function initials(name) {
  const words = name.split(/\s+/).filter(Boolean);
  return [words[0], words.length > 1 ? words.at(-1) : ''].map((word) => (word ? [...word][0].toUpperCase() : '')).join('');
}

function shortly(claim, value) {
  if (['exp', 'iat', 'auth_time'].includes(claim) && typeof value === 'number') return new Date(value * 1000).toLocaleString();
  return typeof value === 'object' ? JSON.stringify(value) : value;
}

const CLAIMS = {
  name: 'Name',
  email: 'E-mail',
  email_verified: 'E-mail verified',
  preferred_username: 'User name',
  sub: 'Subject',
  iss: 'Issuer',
  aud: 'Audience',
  iat: 'Issued',
  exp: 'ID token expires',
  auth_time: 'Signed in',
  sid: 'Provider’s session',
};

start();
