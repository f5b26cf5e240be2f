// The demo's customer portal: two pages (signed out, signed in) over the token handler's endpoints.
//
// It never holds a token, never writes markup from data (text nodes only), and never shows text that came in
// through the address: an unknown `login_error` gets a general sentence.

import { createCoatroom, errorOf, TokenHandlerError } from './coatroom.js';

const coatroom = createCoatroom();
const $ = (id) => document.getElementById(id);
let clocks = [];

async function start() {
  const loginError = takeLoginError();
  $('sign-in').onclick = busy(() => coatroom.signIn());
  $('sign-out').onclick = busy(() => coatroom.signOut());
  $('refresh').onclick = busy(refresh);
  $('call-api').onclick = busy(callApi);
  $('report').onclick = downloadReport;
  $('order-rows').onclick = followOrder;
  $('notice-close').onclick = () => { $('notice').hidden = true; };
  addEventListener('popstate', markOrder);
  // Another tab may have signed in or out. Asking does not extend the session.
  addEventListener('visibilitychange', () => { if (document.visibilityState === 'visible') showSession(); });
  setInterval(tick, 1000);

  const session = await showSession();
  // The query parameter is a hint only: whoever is signed in has nothing to be told.
  if (loginError && session && !session.is_logged_in) complain(LOGIN_ERRORS[loginError] ?? LOGIN_ERRORS.other);
}

/** Asks who is signed in and shows the page for it. */
async function showSession() {
  try {
    const session = await coatroom.session();
    const wasHidden = $('signed-in').hidden;
    show(session);
    if (session.is_logged_in && wasHidden) await fillHome();
    if (!session.is_logged_in) await showStatus();
    return session;
  } catch (error) {
    explain(error, showSession);
    return null;
  }
}

function show(session) {
  const signedIn = session.is_logged_in;
  $('signed-in').hidden = !signedIn;
  $('signed-out').hidden = signedIn;
  $('user').hidden = !signedIn;
  setClocks(session);
  if (!signedIn) return;
  const claims = session.id_token_claims;
  const name = claims.name ?? claims.preferred_username ?? claims.sub;
  $('user-name').textContent = name;
  $('avatar').textContent = initials(name);
  $('greeting').textContent = `Hello, ${name}`;
  fillFacts('claim-rows', CLAIMS.filter(([claim]) => claim in claims).map(([claim, label]) => [label, claims[claim]]));
  showWhatScriptsSee();
}

async function fillHome() {
  $('photo').onerror = retryPhoto;
  $('photo').src = '/api/photo.svg';
  try {
    const { orders } = await api('/api/orders');
    $('order-rows').replaceChildren(...orders.map(orderRow));
    markOrder();
  } catch (error) {
    $('order-rows').replaceChildren(element('li', { class: 'muted' }, 'The orders could not be loaded.'));
    explain(error, fillHome);
  }
  // A deep link with a fragment comes back from the sign-in with it; the target exists only now.
  if (location.hash) $(decodeFragment(location.hash))?.scrollIntoView();
}

async function refresh() {
  await coatroom.refresh();
  await showSession();
  tell('The tokens are new. Nothing of them came here.');
}

async function callApi() {
  const answer = await api('/api/whoami');
  const { scheme, length, claims } = answer.authorization;
  const rows = [
    ['Authorization', `${scheme} token of ${length} characters`],
    ['Cookies', answer.cookies.length === 0 ? 'none' : answer.cookies.join(', ')],
  ];
  if (claims) {
    rows.push(['Subject', claims.sub], ['Audience', claims.aud], ['Issuer', claims.iss], ['Scopes', claims.scope ?? '–']);
    rows.push(['Expires', new Date(claims.exp * 1000).toLocaleTimeString()]);
  }
  fillFacts('api-rows', rows);
  $('api-json').textContent = JSON.stringify(answer, null, 2);
  $('api-details').hidden = false;
}

/** Downloads pass by cookie alone, without the client's retry: so make sure that the token is alive. */
async function downloadReport(event) {
  if (!tokenIsOver()) return;
  event.preventDefault();
  await attempt(async () => {
    await coatroom.refresh();
    await showSession();
    const { href } = event.target;
    Object.assign(document.createElement('a'), { href, download: '' }).click();
  });
}

/** An image passes by cookie alone too: any call refreshes, then the image is asked for once more. */
async function retryPhoto() {
  $('photo').onerror = null;
  try {
    await api('/api/orders');
    $('photo').src = '/api/photo.svg?again';
  } catch {
    // The list of orders has failed in the same way, and says so.
  }
}

async function showStatus() {
  const response = await fetch('/public/status').catch(() => null);
  const status = response?.ok ? await response.json() : null;
  $('status-dot').className = `dot ${status ? 'open' : 'shut'}`;
  $('status-text').textContent = status ? `The shop is ${status.status}.` : 'The shop does not answer right now.';
}

/** JSON of the API, or an error that `explain` understands. */
async function api(url) {
  const refreshes = tokenIsOver();
  const response = await coatroom.fetch(url, { headers: { accept: 'application/json' } });
  if (refreshes) setClocks(await coatroom.session());
  if (response.ok) return response.json();
  throw (await errorOf(response)) ?? new TokenHandlerError({ status: response.status, code: 'api_error' });
}

// --- Clocks -------------------------------------------------------------------------------------------------------

function setClocks(session) {
  const asked = performance.now();
  const values = session.is_logged_in
    ? { access_token_expires_in: session.access_token_expires_in, ...session.session }
    : {};
  const before = new Map(clocks.map((clock) => [clock.key, clock]));
  clocks = Object.keys(CLOCKS).filter((key) => typeof values[key] === 'number').map((key) => ({
    key,
    seconds: values[key],
    asked,
    full: Math.max(values[key], before.get(key)?.full ?? 0),
  }));
  $('clock-rows').replaceChildren(...clocks.map((clock) => {
    const [label, hint] = CLOCKS[clock.key];
    clock.time = element('span', { class: 'time' });
    clock.bar = element('progress', { max: clock.full, 'aria-label': label });
    return element('li', { title: hint }, element('div', { class: 'line' }, element('span', {}, label), clock.time), clock.bar);
  }));
  tick();
}

function tick() {
  for (const clock of clocks) {
    const left = secondsLeft(clock);
    clock.bar.value = left;
    clock.time.textContent = left > 0 ? duration(left) : CLOCKS[clock.key][2];
    clock.time.classList.toggle('over', left <= 0);
  }
}

function secondsLeft({ seconds, asked }) {
  return Math.max(0, Math.round(seconds - (performance.now() - asked) / 1000));
}

/** Whether the access token is about to be refused, as far as this page knows. */
function tokenIsOver() {
  const token = clocks.find(({ key }) => key === 'access_token_expires_in');
  return token !== undefined && secondsLeft(token) <= 5;
}

function duration(seconds) {
  const two = (number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// --- Orders and their addresses -----------------------------------------------------------------------------------

function orderRow({ id, item, date, state, amount }) {
  const link = element('a', { href: `/orders/${encodeURIComponent(id)}#orders` },
    element('span', { class: 'item' }, item),
    element('span', { class: 'amount' }, `€ ${amount}`),
    element('span', { class: 'small muted' }, `${id} · ${date}`),
    element('span', { class: 'small muted amount' }, state));
  return element('li', {}, link);
}

function followOrder(event) {
  const link = event.target.closest('a');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, '', link.href);
  markOrder();
}

function markOrder() {
  for (const link of $('order-rows').querySelectorAll('a')) {
    if (link.pathname === location.pathname) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function decodeFragment(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return '';
  }
}

// --- What scripts can read ----------------------------------------------------------------------------------------

function showWhatScriptsSee() {
  const cookies = document.cookie.split(';').map((pair) => pair.split('=')[0].trim()).filter(Boolean);
  const stored = [...Object.keys(localStorage), ...Object.keys(sessionStorage)];
  fillFacts('script-rows', [
    ['Cookies', cookies.join(', ') || 'none'],
    ['Storage', stored.join(', ') || 'nothing'],
    ['Your claims', 'yes, told by the token handler'],
  ]);
}

// --- Words --------------------------------------------------------------------------------------------------------

/** Says in plain words what went wrong, and offers what helps. */
function explain(error, again) {
  if (!(error instanceof TokenHandlerError)) {
    return complain('The server does not answer. Are you online?', again && ['Try again', again]);
  }
  if (error.status === 401 && error.code !== 'api_error') {
    const words = error.code === 'session_expired' ? 'Your session has ended.' : 'You are signed out.';
    show({ is_logged_in: false });
    showStatus();
    return complain(`${words} Please sign in again; you will come back to this page.`, ['Sign in', () => coatroom.signIn()]);
  }
  const wait = error.retryAfter ? ` Please try again in ${error.retryAfter} seconds.` : ' Please try again in a moment.';
  const still = $('signed-in').hidden ? '' : ' You are still signed in.';
  const words = {
    401: 'The shop does not accept your sign-in. Sign out and in again.',
    403: 'This request was refused for your safety. Reload the page and try again.',
    429: `That was a little fast.${wait}`,
    502: `The shop does not answer as it should.${wait}`,
    503: `The service is taking a break.${still}${wait}`,
    504: `The shop takes too long to answer.${wait}`,
  }[error.status] ?? 'Something went wrong on our side.';
  return complain(words, again && ['Try again', again]);
}

function complain(words, action) { notice(words, true, action); }
function tell(words) { notice(words, false); }

function notice(words, bad, action) {
  $('notice-text').textContent = words;
  $('notice').classList.toggle('bad', bad);
  $('notice').hidden = false;
  $('notice-action').hidden = !action;
  if (action) {
    $('notice-action').textContent = action[0];
    $('notice-action').onclick = busy(async () => {
      $('notice').hidden = true;
      await action[1]();
    });
  }
}

/** Takes the mark of a failed sign-in out of the address, so that a reload does not repeat it. */
function takeLoginError() {
  const url = new URL(location.href);
  const code = url.searchParams.get('login_error');
  if (code === null) return null;
  url.searchParams.delete('login_error');
  history.replaceState(null, '', url);
  return Object.hasOwn(LOGIN_ERRORS, code) ? code : 'other';
}

// --- Small things -------------------------------------------------------------------------------------------------

/** A click handler that cannot run twice at once and explains its failure. */
function busy(work) {
  return async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    await attempt(work);
    button.disabled = false;
  };
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    explain(error);
  }
}

function fillFacts(id, rows) {
  $(id).replaceChildren(...rows.flatMap(([term, value]) => [element('dt', {}, term), element('dd', {}, String(value))]));
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function initials(name) {
  const words = name.split(/\s+/).filter(Boolean);
  return [words[0], words.length > 1 ? words.at(-1) : ''].map((word) => (word ? [...word][0].toUpperCase() : '')).join('');
}

const CLAIMS = [
  ['name', 'Name'],
  ['email', 'E-mail'],
  ['preferred_username', 'User name'],
  ['sub', 'Subject'],
  ['iss', 'Signed in at'],
];

// Name in the session's JSON → label, explanation, words at zero.
const CLOCKS = {
  access_token_expires_in: ['Access token', 'How long the API accepts the current token', 'the next call refreshes it'],
  idle_expires_in: ['Without activity', 'The session ends when nobody uses it for so long', 'ended'],
  expires_in: ['Session', 'The session ends then, whatever happens', 'ended'],
  provider_expires_in: ['At the provider', 'The provider ends it then', 'ended'],
};

const LOGIN_ERRORS = {
  access_denied: 'You cancelled the sign-in. Nothing has changed.',
  login_required: 'The provider wants you to sign in again.',
  interaction_required: 'The provider wants to ask you something first. Please sign in again.',
  consent_required: 'The provider needs your consent. Please sign in again.',
  temporarily_unavailable: 'The sign-in service is taking a break. Please try again in a moment.',
  login_state_invalid: 'That sign-in took too long, or began in another browser. Please start again.',
  provider_error: 'The sign-in service did not answer as it should. Please try again.',
  provider_unavailable: 'The sign-in service cannot be reached right now. Please try again in a moment.',
  store_unavailable: 'The service is taking a break. Please try again in a moment.',
  other: 'The sign-in did not work. Please try again.',
};

start();
