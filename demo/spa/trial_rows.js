// Shows the trials of `trials.js`, runs one at a time, and writes down every answer as it comes.

import { CoatroomError, errorOf } from './coatroom/index.js';
import { $, element } from './dom.js';
import { HEADER, TRIALS } from './trials.js';
import { wordsFor } from './words.js';

// A trial that leaves the page notes its name here, so that the page can say where it came back. No secret, and gone
// with the first look.
const MARK = 'demo:trial';

// Fixed columns: an answer that makes one longer moves nothing in the other.
const COLUMNS = [['Your session', 'The request'], ['The API', 'The provider', 'The sign-in']];

let watcher = null;
let running = false;
let signedIn = false;

/** `fetch` for the client: whoever watches hears of every answer. */
export async function watchedFetch(url, options) {
  const response = await fetch(url, options);
  const { pathname, search } = new URL(url, location.href);
  await watcher?.(pathname + search, options?.method ?? 'GET', response);
  return response;
}

/** `after` is called when a trial has ended, with the error that it ended with, or null. */
export function startTrials(client, after) {
  const columns = COLUMNS.map((groups) => element('div', { class: 'column' }, ...groups.map((group) => groupOf(group, client, after))));
  $('trials').replaceChildren(...columns);
}

/** Trials that need a session wait for one. */
export function allowTrials(isSignedIn) {
  signedIn = isSignedIn;
  for (const { id, needs } of TRIALS) {
    const shut = needs === 'session' && !signedIn;
    const button = $(`try-${id}`);
    button.setAttribute('aria-disabled', String(shut));
    button.textContent = shut ? 'Sign in first' : 'Try it';
  }
}

/** Back from a trial that left the page: says where it came back, and whether a session is there. */
export function reportReturn({ loginError, state }) {
  const id = sessionStorage.getItem(MARK);
  sessionStorage.removeItem(MARK);
  const trial = TRIALS.find((one) => one.id === id);
  if (!trial || state.status === 'unknown') return;
  const log = logOf(trial);
  const mark = loginError === null ? '' : `?login_error=${loginError}`;
  const { responseStatus, redirectCount } = performance.getEntriesByType('navigation')[0];
  log.step(`Back at ${location.pathname}${mark}${location.hash}`, responseStatus || null, loginError);
  // A browser counts redirects only where none of them led to another site.
  if (redirectCount > 0) log.say(`Redirected here ${redirectCount === 1 ? 'once' : `${redirectCount} times`}.`);
  log.say(state.user ? 'GET /auth/session says: signed in.' : 'GET /auth/session says: signed out.');
  if (trial.code === null ? loginError === null : loginError === trial.code) log.outcome(true);
  else log.outcome(false, trial.id === 'access_denied' ? 'You did not cancel.' : undefined);
  $(`trial-${trial.id}`).scrollIntoView({ block: 'center' });
}

function groupOf(group, client, after) {
  const trials = TRIALS.filter((trial) => trial.group === group);
  return element('section', { class: 'group', 'aria-label': group },
    element('h3', {}, group),
    element('ul', {}, ...trials.map((trial) => rowOf(trial, client, after))));
}

function rowOf(trial, client, after) {
  const { id, status, code, title, what, spa } = trial;
  const button = element('button', { class: 'button quiet', type: 'button', id: `try-${id}`, 'aria-describedby': `title-${id}` }, 'Try it');
  button.onclick = async () => {
    if (running || button.getAttribute('aria-disabled') === 'true') return;
    running = true;
    button.setAttribute('aria-busy', 'true');
    const error = await attempt(trial, client);
    button.removeAttribute('aria-busy');
    running = false;
    await after(trial, error);
  };
  return element('li', { class: 'trial', id: `trial-${id}` },
    element('div', { class: 'trial-head' },
      element('p', { class: 'what' }, element('b', { class: 'number' }, String(status)), ' ', element('code', {}, code ?? 'into the app')),
      button),
    element('h4', { id: `title-${id}` }, title),
    element('p', {}, what),
    element('p', { class: 'small spa' }, element('span', { class: 'muted' }, 'The SPA '), `${spa}.`),
    element('ol', { class: 'steps', id: `steps-${id}`, 'aria-live': 'polite' }));
}

async function attempt(trial, client) {
  const log = logOf(trial);
  const seen = [];
  watcher = async (url, method, response) => {
    const { code, sentence, error } = await wordOf(response);
    seen.push(`${response.status} ${code}`);
    log.step(`${method} ${url}`, response.status, code, sentence);
    // The client answers this one itself, by a refresh; no user hears of it.
    if (!error || code === 'access_token_expired') return;
    log.say(`A user reads: “${wordsFor(error, { signedIn: signedIn && error.status !== 401 }).text}”`);
  };
  let failure = null;
  try {
    await trial.run({
      client,
      signedIn: () => signedIn,
      raw: (url, options = {}) => watchedFetch(url, { headers: HEADER, signal: AbortSignal.timeout(20_000), ...options }),
      say: log.say,
      wait: (seconds) => countdown(log, seconds),
      go: async (leave) => {
        sessionStorage.setItem(MARK, trial.id);
        await leave();
      },
    });
  } catch (error) {
    failure = error;
  }
  watcher = null;
  if (failure && !(failure instanceof CoatroomError)) {
    sessionStorage.removeItem(MARK);
    log.outcome(false, `The trial broke off: ${failure.message}`);
    return failure;
  }
  if (trial.leaves) {
    if (failure) sessionStorage.removeItem(MARK);
    return failure;
  }
  log.outcome(seen.includes(`${trial.status} ${trial.code}`));
  return failure;
}

/** What an answer says about itself, without taking its body away from whoever asked. */
async function wordOf(response) {
  const error = await errorOf(response);
  if (!error) return { code: null, sentence: response.ok ? '' : 'The API’s own answer, passed on.', error };
  return { code: error.code, sentence: error.detail, error };
}

async function countdown(log, seconds) {
  const line = log.say('');
  for (let left = seconds; left > 0; left -= 1) {
    line.textContent = `Waiting until the token is over: ${left} s`;
    await new Promise((done) => { setTimeout(done, 1000); });
  }
  line.textContent = 'The token is over.';
}

function logOf({ id }) {
  const steps = $(`steps-${id}`);
  steps.replaceChildren();
  delete $(`trial-${id}`).dataset.outcome;
  const add = (...children) => {
    const line = element('li', {}, ...children);
    steps.append(line);
    return line;
  };
  return {
    step(request, status, code, sentence = '') {
      const line = element('div', { class: 'request' }, element('code', {}, request));
      if (status !== null) line.append(element('span', { class: `badge ${status < 400 ? 'good' : 'bad'}` }, String(status)));
      if (code) line.append(element('code', {}, code));
      add(line, ...(sentence ? [element('p', { class: 'small' }, sentence)] : []));
    },
    say: (words) => add(element('p', { class: 'small say' }, words)).firstChild,
    outcome(asSaid, words = asSaid ? 'Seen, as announced.' : 'Not what was announced.') {
      $(`trial-${id}`).dataset.outcome = asSaid ? 'seen' : 'other';
      add(element('p', { class: 'small outcome' }, words));
    },
  };
}
