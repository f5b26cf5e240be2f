// The four clocks of a session, running down between two looks at `/auth/session`.
//
// It never asks and never decides anything: the client does that, when a clock that ends the session has run out.

import { $, duration, element } from './dom.js';

// Name in the session's JSON, where the session of the client has its end → label, explanation, words at zero.
const CLOCKS = {
  access_token_expires_in: ['accessTokenExpiresAt', 'Access token', 'The API takes it for so long; then the next call refreshes.', 'refresh due'],
  idle_expires_in: ['idleExpiresAt', 'Idle limit', 'Ends the session so long after the last sign of you.', 'ended'],
  expires_in: ['expiresAt', 'Absolute limit', 'Ends the session then, whatever you do.', 'ended'],
  provider_expires_in: ['providerExpiresAt', 'Provider’s limit', 'The provider itself ends it then.', 'ended'],
};
const NOT_TOLD = ['not told by the provider', 'It may end the session at any time.'];

let clocks = [];

export function startClocks() {
  setInterval(tick, 1000);
}

export function setClocks(session) {
  const before = new Map(clocks.map((clock) => [clock.key, clock]));
  clocks = !session ? [] : Object.entries(CLOCKS).map(([key, [name]]) => {
    const end = session[name];
    return { key, end, full: Math.max(end ? secondsLeft({ end }) : 0, before.get(key)?.full ?? 0) };
  });
  $('clock-rows').replaceChildren(...clocks.map(row));
  tick();
}

function row(clock) {
  const [, label, hint] = CLOCKS[clock.key];
  const told = clock.end !== null;
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
  for (const clock of clocks) {
    if (clock.end === null) continue;
    const [, , , atZero] = CLOCKS[clock.key];
    const left = secondsLeft(clock);
    clock.bar.value = left;
    clock.time.textContent = left > 0 ? duration(left) : atZero;
    clock.time.classList.toggle('over', left <= 0);
  }
}

function secondsLeft({ end }) {
  return Math.max(0, Math.round((end - Date.now()) / 1000));
}
