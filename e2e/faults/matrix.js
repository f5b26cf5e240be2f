// Every fault, and what users see while it lasts, how soon all works again after it, and whether somebody was signed out.
//
// Each fault has users of its own, signed in before it. It judges two things only: that nobody is signed out who did not
// sign out (but where the store lost its data, or the provider's answer with the only good refresh token was lost), and
// that everything works again. What is answered meanwhile it writes down.

import { setTimeout as pause } from 'node:timers/promises';

import { request } from '../rig/http.js';
import { TCP_FAULTS } from '../rig/tcp_chaos.js';
import { until } from '../rig/wait.js';

const SHORT_LIFE = 3;
const LONG_LIFE = 3_600;
const RECOVERY_LIMIT = 60_000;
const COPY_LIMIT = 12_000;
const PATH = '/api/orders';
/** Of a script that has a copy of somebody's cookies. */
const COPIED = { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin', 'token-handler-version': '1' };
export const FLEET = { breakable: true, durable: true, provider: { delay: [0, 0] }, providerSettings: { timeout: '3s' } };

const NAMES = {
  refuse: 'refuses connections',
  reset: 'resets connections',
  'half-close': 'closes its side and says nothing',
  truncate: 'breaks its answers off',
  'black hole': 'takes everything and never answers',
  slow: 'is slow (500 ms each way)',
};

/** `mayLose`: who may be signed out, `nobody`, `everybody`, or only those whose tokens were refreshed meanwhile. */
export function faultsOf(fleet) {
  const { store, storeChaos, providerChaos, outsideProvider } = fleet;
  const nobody = { mayLose: 'nobody' };
  const found = [];
  if (storeChaos.length > 0) {
    for (const fault of TCP_FAULTS) {
      found.push({ at: 'store', name: NAMES[fault], ...nobody, begin: () => fleet.breakStore(fault), end: () => fleet.breakStore('pass') });
    }
  }
  const NAME_OF_STATE = { 'read-only': 'is read-only', full: 'is full' };
  for (const [state, { begin, end }] of Object.entries(store?.states ?? {})) {
    found.push({ at: 'store', name: NAME_OF_STATE[state] ?? state, ...nobody, begin, end });
  }
  if (store?.ports.length > 0) {
    found.push({ at: 'store', name: 'is down', ...nobody, begin: store.kill, end: store.start });
    found.push({ at: 'store', name: 'is restarted', ...nobody, ...meanwhile(() => store.restart()) });
    if (store.failOver) found.push({ at: 'store', name: 'fails over', ...nobody, ...meanwhile(() => store.failOver()) });
    found.push({ at: 'store', name: 'is restarted empty', mayLose: 'everybody', begin: () => store.wipe(), end: async () => {} });
  }
  for (const fault of TCP_FAULTS) {
    // Its answer has the only refresh token that is good from then on.
    const mayLose = fault === 'truncate' ? 'the refreshed' : 'nobody';
    found.push({ at: 'provider', name: NAMES[fault], mayLose, begin: () => providerChaos.become(fault), end: () => providerChaos.become('pass') });
  }
  found.push({
    at: 'provider',
    name: 'answers token requests with 503',
    ...nobody,
    begin: () => outsideProvider.ask('set', { tokenFailure: { status: 503 } }),
    end: () => outsideProvider.ask('set', { tokenFailure: null }),
  });
  return found;
}

/**
 * One fault from its beginning to the recovery.
 *
 * @param {import('../rig/fleet.js').Fleet} fleet
 * @param {ReturnType<typeof faultsOf>[number]} fault
 * @param {number} index to tell the users of one fault from those of another
 */
export async function observe(fleet, fault, index) {
  const user = (name) => fleet.user(`${name}${index}@example.com`);
  const [caller, asker, leaver] = ['caller', 'asker', 'leaver'].map(user);
  const [stale, refresher] = ['stale', 'refresher'].map(user);
  const [newcomer, arriver] = ['newcomer', 'arriver'].map(user);
  const life = (accessTokenTtl) => fleet.outsideProvider.ask('set', { accessTokenTtl });

  await life(LONG_LIFE);
  for (const one of [caller, asker, leaver]) await one.signIn();
  await life(SHORT_LIFE);
  for (const one of [stale, refresher]) await one.signIn();
  const signedInAt = Date.now();
  await until('the access tokens have run out', () => Date.now() > signedInAt + (SHORT_LIFE + 1) * 1_000, { every: 50 });
  await life(LONG_LIFE);
  const copy = leaver.cookies(PATH).join('; ');
  const callback = await arriver.passForms((await arriver.startSignIn()).url);

  await fault.begin();
  const [call, staleCall, session, refresh, logout, start, arrival] = await Promise.all([
    seen(() => caller.script('GET', PATH)),
    seen(() => stale.script('GET', PATH)),
    seen(() => asker.agent('GET', '/session')),
    seen(() => refresher.agent('POST', '/refresh')),
    seen(() => leaver.agent('POST', '/logout')),
    seen(() => newcomer.agent('POST', '/login/start', 'return_to=/')),
    seen(() => arriver.navigate('GET', callback)),
  ]);
  await fault.end();

  const endedAt = Date.now();
  const problems = [];
  const staying = { caller, asker, stale, refresher };
  const last = {};
  const isWell = async (name, one) => {
    last[name] = await outcomeOf(() => one.call(PATH));
    const { is_logged_in: isSignedIn } = await one.session();
    // Signed out is an answer, too: what is waited for is that there is one.
    return last[name] === '200' ? isSignedIn : /^401 (session_expired|unauthorized)/.test(last[name]) && !isSignedIn;
  };
  let recovery = null;
  while (recovery === null && Date.now() - endedAt < RECOVERY_LIMIT) {
    const well = await Promise.all(Object.entries(staying).map(([name, one]) => isWell(name, one).catch(() => false)));
    if (well.every(Boolean)) recovery = Date.now() - endedAt;
    else await pause(100);
  }
  if (recovery === null) problems.push(`not recovered within ${RECOVERY_LIMIT / 1_000} s: ${JSON.stringify(last)}`);
  const lost = Object.keys(staying).filter((name) => last[name] !== '200');
  const allowed = { nobody: [], 'the refreshed': ['stale', 'refresher'], everybody: Object.keys(staying) }[fault.mayLose];
  const wrongly = lost.filter((name) => !allowed.includes(name));
  if (wrongly.length > 0) problems.push(`lost: ${wrongly.join(', ')}`);

  // Who was told that they are signed out is; who was told to come again can.
  const isToldSo = logout.outcome === '200';
  if (!isToldSo) await outcomeOf(() => leaver.agent('POST', '/logout'));
  if ((await leaver.session()).is_logged_in) problems.push('somebody who signed out is signed in');
  const copyLives = isToldSo ? await lifeOf(() => outcomeOf(() => (
    request(`${fleet.url}${PATH}`, { headers: { ...COPIED, cookie: copy, origin: fleet.url } })
  )), endedAt) : 0;
  await newcomer.signIn().catch((error) => problems.push(`no sign-in afterwards: ${error.message}`));
  return {
    at: fault.at, fault: fault.name, mayLose: fault.mayLose, call, staleCall, session, refresh, logout, start, arrival,
    recovery, lost: lost.length, copyLives, problems,
  };
}

/** For how long after `since` it passes, in milliseconds: zero if not even once, null if longer than anybody waits. */
async function lifeOf(call, since) {
  let last = 0;
  while (Date.now() - since < COPY_LIMIT || last === 0) {
    if (await call() !== '200') return last;
    last = Date.now() - since;
    if (last >= COPY_LIMIT) break;
    await pause(250);
  }
  return null;
}

/** What is begun and not waited for before users are looked at. */
function meanwhile(work) {
  let under;
  return {
    async begin() {
      under = work();
      under.catch(() => {});
    },
    end: () => under,
  };
}

async function seen(work) {
  const startedAt = performance.now();
  const outcome = await outcomeOf(work);
  return { outcome, milliseconds: Math.round(performance.now() - startedAt) };
}

async function outcomeOf(work) {
  try {
    const { status, headers, json } = await work();
    const location = headers?.location && new URL(headers.location, 'http://none.invalid').searchParams.get('login_error');
    const code = headers?.['token-handler-error'] ?? location;
    const isOut = headers?.['content-type'] === 'application/json' && json()?.is_logged_in === false;
    return [status, code, isOut && 'signed out'].filter(Boolean).join(' ');
  } catch (error) {
    return error.code ?? error.message;
  }
}
