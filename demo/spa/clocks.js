// The four clocks of a session, running down between two looks at `/auth/session`.
//
// It never asks on its own: whoever starts it is told when a clock that ends the session has run out.

import { $, duration, element } from './dom.js';

// Name in the session's JSON → label, explanation, words at zero, whether the session ends with it.
const CLOCKS = {
  access_token_expires_in: ['Access token', 'The API takes it for so long; then the next call refreshes.', 'refresh due', false],
  idle_expires_in: ['Idle limit', 'Ends the session so long after the last sign of you.', 'ended', true],
  expires_in: ['Absolute limit', 'Ends the session then, whatever you do.', 'ended', true],
  provider_expires_in: ['Provider’s limit', 'The provider itself ends it then.', 'ended', true],
};
const NOT_TOLD = ['not told by the provider', 'It may end the session at any time.'];

let clocks = [];
let onEnd = () => {};

export function startClocks(whenEnded) {
  onEnd = whenEnded;
  setInterval(tick, 1000);
}

export function setClocks(session) {
  const asked = performance.now();
  const values = session.is_logged_in
    ? { access_token_expires_in: session.access_token_expires_in, ...session.session }
    : {};
  const before = new Map(clocks.map((clock) => [clock.key, clock]));
  clocks = !session.is_logged_in ? [] : Object.keys(CLOCKS).map((key) => {
    const seconds = typeof values[key] === 'number' ? values[key] : null;
    return { key, seconds, asked, full: Math.max(seconds ?? 0, before.get(key)?.full ?? 0) };
  });
  $('clock-rows').replaceChildren(...clocks.map(row));
  tick();
}

/** Whether the access token is about to be refused, as far as this page knows. */
export function tokenIsOver() {
  const token = clocks.find(({ key }) => key === 'access_token_expires_in');
  return token !== undefined && token.seconds !== null && secondsLeft(token) <= 5;
}

function row(clock) {
  const [label, hint] = CLOCKS[clock.key];
  const told = clock.seconds !== null;
  clock.time = element('span', { class: told ? 'time' : 'time untold' }, told ? '' : NOT_TOLD[0]);
  const line = element('div', { class: 'line' }, element('span', { class: 'label' }, label), clock.time);
  const made = element('li', { 'data-clock': clock.key }, line);
  if (told) {
    clock.bar = element('progress', { max: Math.max(1, clock.full), 'aria-label': label });
    made.append(clock.bar);
  }
  made.append(element('p', { class: 'hint' }, told ? hint : NOT_TOLD[1]));
  return made;
}

function tick() {
  let ended = false;
  for (const clock of clocks) {
    if (clock.seconds === null) continue;
    const [, , atZero, ends] = CLOCKS[clock.key];
    const left = secondsLeft(clock);
    clock.bar.value = left;
    clock.time.textContent = left > 0 ? duration(left) : atZero;
    clock.time.classList.toggle('over', left <= 0);
    // Not where the answer itself said zero: asking again would say the same.
    if (ends && left <= 0 && clock.seconds > 0 && !clock.told) {
      clock.told = true;
      ended = true;
    }
  }
  if (ended) onEnd();
}

function secondsLeft({ seconds, asked }) {
  return Math.max(0, Math.round(seconds - (performance.now() - asked) / 1000));
}
