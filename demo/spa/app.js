// The demo's customer portal, signed out and signed in, over the token handler's endpoints.
//
// It never holds a token, never writes markup from data (text nodes only), and never shows text that came in
// through the address: an unknown `login_error` gets a general sentence.

import { followCall, showWhatIsSent } from './call.js';
import { setClocks, startClocks, tokenIsOver } from './clocks.js';
import { createCoatroom, errorOf, TokenHandlerError } from './coatroom.js';
import { $, busy, fillFacts } from './dom.js';
import { followOrder, markOrder, showOrders, showPhoto } from './orders.js';
import { startStage } from './stage.js';
import { lookForTokens } from './thief.js';
import { allowTrials, reportReturn, startTrials, watchedFetch } from './trial_rows.js';
import { knownLoginError, wordsFor, wordsForLogin } from './words.js';

const coatroom = createCoatroom({ fetch: watchedFetch });
let shown = { is_logged_in: false, session: null };

async function start() {
  const loginError = takeLoginError();
  $('sign-in').onclick = busy(() => coatroom.signIn(), explain);
  $('sign-out').onclick = busy(() => coatroom.signOut(), explain);
  $('refresh').onclick = busy(refresh, explain);
  $('call-api').onclick = busy(() => followCall(api), explain);
  $('steal').onclick = busy(lookForTokens, explain);
  $('report').onclick = downloadReport;
  $('order-rows').onclick = followOrder;
  $('notice-close').onclick = () => { $('notice').hidden = true; };
  addEventListener('popstate', markOrder);
  // Another tab, another window, the back button: asking does not extend the session.
  coatroom.onChange(lookAgain);
  addEventListener('visibilitychange', () => { if (document.visibilityState === 'visible') lookAgain(); });
  addEventListener('pageshow', ({ persisted }) => { if (persisted) lookAgain(); });
  startClocks(lookAgain);
  startTrials(coatroom, afterTrial);
  showWhatIsSent();

  const session = await showSession();
  $('backstage').hidden = false;
  startStage(explain, () => { if (!shown.is_logged_in) showStatus(); });
  // The query parameter is a hint only: whoever is signed in has nothing to be told.
  if (loginError !== null && session && !session.is_logged_in) notice(wordsForLogin(loginError), { bad: true });
  reportReturn({ loginError, session });
}

/** Asks who is signed in and shows the page for it. */
async function showSession() {
  try {
    const session = await coatroom.session();
    const isOther = session.session?.id !== shown.session?.id;
    show(session);
    if (session.is_logged_in && isOther) await fillHome();
    if (!session.is_logged_in) await showStatus();
    return session;
  } catch (error) {
    explain(error, showSession);
    return null;
  } finally {
    $('loading').hidden = true;
  }
}

/** The session may have changed elsewhere, or run out: says so if it did. */
async function lookAgain() {
  const before = shown;
  const session = await showSession();
  if (!session || before.is_logged_in === session.is_logged_in) return;
  if (session.is_logged_in) return notice('You have signed in, in another tab.');
  notice('Your session has ended: it ran out, or you signed out in another tab.', {
    bad: true, action: ['Sign in', () => coatroom.signIn()],
  });
}

function show(session) {
  const signedIn = session.is_logged_in;
  shown = session;
  $('signed-in').hidden = !signedIn;
  $('signed-out').hidden = signedIn;
  $('user').hidden = !signedIn;
  $('nav').hidden = !signedIn;
  for (const section of document.querySelectorAll('[data-signed-in]')) section.hidden = !signedIn;
  allowTrials(signedIn);
  setClocks(session);
  if (!signedIn) return forget();
  const claims = session.id_token_claims;
  const name = claims.name ?? claims.preferred_username ?? claims.sub;
  $('user-name').textContent = name;
  $('avatar').textContent = initials(name);
  $('greeting').textContent = `Hello, ${name}`;
  $('ticket-number').textContent = session.session.id.slice(0, 6);
  $('ticket-number').title = session.session.id;
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
  await coatroom.refresh();
  await showSession();
  notice('The tokens are new. Nothing of them came here.');
}

/** Downloads pass by cookie alone, without the client's retry: so make sure that the token is alive. */
function downloadReport(event) {
  if (!tokenIsOver()) return;
  event.preventDefault();
  const { href } = event.currentTarget;
  coatroom.refresh().then(showSession).then(() => {
    Object.assign(document.createElement('a'), { href, download: '' }).click();
  }).catch(explain);
}

async function showStatus() {
  const response = await fetch('/public/status').catch(() => null);
  const status = response?.ok ? await response.json() : null;
  $('status-dot').className = `dot ${status ? 'open' : 'shut'}`;
  $('status-text').textContent = status ? `The shop is ${status.status}.` : 'The shop does not answer right now.';
}

/** An answer of the API with its JSON, or an error that `explain` understands. */
async function api(url, options = { headers: { accept: 'application/json' } }) {
  const refreshes = tokenIsOver();
  const response = await coatroom.fetch(url, options);
  if (refreshes) show(await coatroom.session());
  if (response.ok) return { response, body: await response.json() };
  throw (await errorOf(response)) ?? new TokenHandlerError({ status: response.status, code: 'api_error' });
}

/** What a trial has changed shows on the page: new clocks, or the end of the session. */
async function afterTrial(_trial, error) {
  await showSession();
  if (error && wordsFor(error, { signedIn: shown.is_logged_in }).action === 'sign-in') explain(error);
}

/** Says in plain words what went wrong, and offers what helps. */
function explain(error, again) {
  const { text, action } = wordsFor(error, { signedIn: shown.is_logged_in });
  if (action === 'sign-in') {
    show({ is_logged_in: false, session: null });
    showStatus();
    return notice(text, { bad: true, action: ['Sign in', () => coatroom.signIn()] });
  }
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

/** Takes the mark of a failed sign-in out of the address, so that a reload does not repeat it. */
function takeLoginError() {
  const url = new URL(location.href);
  const code = url.searchParams.get('login_error');
  if (code === null) return null;
  url.searchParams.delete('login_error');
  history.replaceState(null, '', url);
  return knownLoginError(code);
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
