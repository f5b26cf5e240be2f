// The race: many signed-in users whose access tokens have all run out call an API at once, each with many calls, through
// a balancer that gives each call to another replica; and the account of it. In the middle a replica may be killed or
// the store restarted.
//
// It judges by what the provider and the users saw, never by what Coatroom says of itself. With sessions in a store a
// call is made once and has to succeed; with sessions in cookies a call is repeated once after the user's one refresh, as
// the documentation tells clients. Only where something is broken on purpose is a 503 followed by another try.

import { setTimeout as pause } from 'node:timers/promises';

import { until, within } from '../rig/wait.js';

/** The life of access tokens while users sign in, in seconds; then that of the tokens that the race brings. */
const SHORT_LIFE = 5;
const LONG_LIFE = 3_600;
const PATH = '/api/orders';
const OVER = new Set(['session_expired', 'unauthorized']);
/** While something is broken: how long somebody comes again when told to, in milliseconds. */
const PATIENCE = 45_000;
/** An answer that was sent so shortly before its reader died may not have been read, in milliseconds. */
const UNREAD = 250;
export const DELAY = [50, 300];

/** Options for the fleet that a race needs. */
export const fleetOptions = ({ delay = DELAY } = {}) => ({ provider: { accessTokenTtl: SHORT_LIFE, delay } });

/**
 * @param {import('../rig/fleet.js').Fleet} fleet
 * @param {object} form
 * @param {number} form.sessions
 * @param {number} [form.calls] parallel calls of each
 * @param {number} [form.atOnce] users who call at the same time
 * @param {null | 'kill' | 'restart-store' | 'fail-over'} [form.disturbance] what happens when half of the users have begun
 * @param {(line: string) => void} [tell]
 */
export async function race(fleet, { sessions, calls = 20, atOnce = 100, disturbance = null }, tell = () => {}) {
  const isStateless = fleet.settings.session.store === 'cookie';
  const users = Array.from({ length: sessions }, (_, index) => (
    fleet.user(`racer${String(index).padStart(5, '0')}@example.com`, { sockets: calls, timeout: PATIENCE })
  ));
  const startedAt = Date.now();
  await inTurn(users, 8, (user) => user.signIn());
  const signedInAt = Date.now();
  tell(`${sessions} users signed in within ${seconds(signedInAt - startedAt)} s`);
  await until('every access token has run out', () => Date.now() > signedInAt + (SHORT_LIFE + 1) * 1_000, { every: 50 });
  await fleet.outsideProvider.ask('set', { accessTokenTtl: LONG_LIFE });

  const raceAt = Date.now();
  const account = { calls: 0, putOff: 0, outcomes: {}, latencies: [] };
  const disturbed = { at: null, done: null };
  let begun = 0;
  const results = await inTurn(users, atOnce, async (user) => {
    begun += 1;
    if (disturbance && begun === Math.ceil(sessions / 2)) {
      disturbed.done = disturb(fleet, disturbance, disturbed);
      disturbed.done.catch(() => {});
    }
    const outcomes = await Promise.all(Array.from({ length: calls }, () => (
      callOnce(user, { account, isStateless, isPatient: disturbance !== null })
    )));
    // Twenty thousand idle connections are more than the balancer of a test keeps; the next call makes a new one.
    user.close();
    return outcomes;
  });
  await disturbed.done;
  const raced = Date.now() - raceAt;
  tell(`raced for ${seconds(raced)} s`);

  const refreshes = await fleet.refreshesSince(raceAt);
  await fleet.outsideProvider.ask('slow', [0, 0]);
  const lost = [];
  const failures = {};
  let failed = 0;
  await inTurn(users, 16, async (user, index) => {
    const outcomes = [...results[index], ...await outcomesAfterwards(user, { account, isStateless })];
    const isLost = !(await user.session()).is_logged_in || outcomes.slice(calls).some(isOver);
    if (isLost) lost.push(user.name);
    // Of a lost session every call says that it is over, or was answered before.
    for (const outcome of outcomes) {
      if (outcome === '200' || (isLost && isOver(outcome))) continue;
      failed += 1;
      failures[outcome] = (failures[outcome] ?? 0) + 1;
    }
    user.close();
  });
  const sorted = account.latencies.sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  const inFlight = disturbance === 'kill' ? refreshes.filter((entry) => wasInFlight(entry, disturbed.at)).length : 0;
  return {
    sessions,
    calls: account.calls,
    refreshes: refreshes.length,
    refused: refreshes.filter(({ status }) => status !== 200).length,
    failed,
    failures,
    lost: lost.length,
    inFlight,
    putOff: account.putOff,
    seconds: Number(seconds(raced)),
    median: at(0.5),
    p99: at(0.99),
    longest: at(1),
  };
}

/** Why the result is not what it has to be; empty when it is. */
export function objections(result, { disturbance = null } = {}) {
  const found = [];
  const mayLose = disturbance === 'kill' ? result.inFlight : 0;
  if (result.failed > 0) found.push(`${result.failed} calls failed: ${JSON.stringify(result.failures)}`);
  if (result.lost > mayLose) found.push(`${result.lost} sessions were lost, at most ${mayLose} may be`);
  if (disturbance === null && result.refreshes !== result.sessions) {
    found.push(`${result.refreshes} refreshes reached the provider for ${result.sessions} sessions`);
  }
  if (disturbance !== null && result.refreshes < result.sessions - result.lost) found.push(`only ${result.refreshes} refreshes`);
  if (disturbance === null && result.refused > 0) found.push(`the provider refused ${result.refused} refreshes`);
  return found;
}

async function callOnce(user, { account, isStateless, isPatient }) {
  const since = Date.now();
  account.calls += 1;
  for (;;) {
    const { outcome, wait } = await attempt(user, isStateless);
    if (isPatient && wait > 0 && Date.now() - since < PATIENCE) {
      account.putOff += 1;
      await pause(wait * 1_000);
      continue;
    }
    account.latencies.push(Date.now() - since);
    account.outcomes[outcome] = (account.outcomes[outcome] ?? 0) + 1;
    return outcome;
  }
}

function attempt(user, isStateless) {
  return outcomeOf(() => (isStateless ? user.call(PATH) : user.script('GET', PATH)));
}

async function outcomeOf(work) {
  try {
    const answer = await work();
    const wait = answer.status === 503 ? Number(answer.headers['retry-after']) : 0;
    return { outcome: [answer.status, answer.headers?.['token-handler-error']].filter(Boolean).join(' '), wait };
  } catch (error) {
    return { outcome: error.code ?? error.message, wait: 0 };
  }
}

/** One more call, and one more refresh: whether the provider still knows the session shows there only. */
async function outcomesAfterwards(user, { account, isStateless }) {
  const call = await callOnce(user, { account, isStateless, isPatient: false });
  const { outcome } = await within('the last refresh is decided', outcomeOf(() => user.refresh()), PATIENCE);
  return [call, outcome];
}

function isOver(outcome) {
  return OVER.has(outcome.split(' ')[1]);
}

async function disturb(fleet, disturbance, disturbed) {
  if (disturbance === 'kill') {
    const victim = fleet.replicas.at(-1);
    // In the middle of a refresh, if there is one.
    await until('a token request is under way', async () => (
      (await fleet.outsideProvider.ask('log', Date.now() - 2_000)).some(({ answered, hungUp }) => !answered && !hungUp)
    ), { every: 5, timeout: 2_000 }).catch(() => {});
    disturbed.at = Date.now();
    await victim.kill();
  } else if (disturbance === 'restart-store') {
    disturbed.at = Date.now();
    await fleet.store.restart();
  } else {
    disturbed.at = Date.now();
    await fleet.store.failOver();
  }
}

/** Whether the one who asked may have died before it could keep the answer. */
function wasInFlight({ begun, answered, hungUp }, killedAt) {
  if (begun > killedAt || hungUp === null || hungUp < killedAt - UNREAD) return false;
  return answered === null || (answered >= killedAt - UNREAD && hungUp - answered < UNREAD + 1_000);
}

/** `work` for each, so many at the same time; the results in order. */
export async function inTurn(items, atOnce, work) {
  const results = Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next;
      next += 1;
      results[index] = await work(items[index], index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}

function seconds(milliseconds) {
  return (milliseconds / 1_000).toFixed(1);
}
