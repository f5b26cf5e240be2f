// What happens when the access token has run out, in every engine: many tabs at once, a tab that slept, a replica that
// is gone. The provider rotates refresh tokens and ends everything when a used one comes again.
//
// The two replicas share a key and nothing else, so what keeps the number of refreshes at one is the client. No test
// waits for a fixed time: each waits for the refusal that it needs.

import assert from 'node:assert/strict';

import { eachEngine } from '../engine_rig.js';
import { expired } from '../page.js';

/** A token that lives shortly, and a client that waits until it is told that it is over. */
const SHORT = { accessTokenTtl: 3, client: { refreshAhead: false } };

eachEngine('5 tabs with 20 calls each at the moment of expiry cost one refresh', SHORT, async (rig) => {
  const tabs = [await rig.openSignedIn()];
  while (tabs.length < 5) tabs.push(await rig.openApp());
  await expired(tabs[0]);
  rig.provider.settings.accessTokenTtl = 300;
  // As over a real network: the other tabs do not get away with asking when all is done.
  rig.provider.settings.tokenDelay = 300;

  const statuses = (await Promise.all(tabs.map((tab) => tab.evaluate(twentyCalls)))).flat();
  assert.deepEqual(statuses, Array(100).fill(200), 'no call failed');
  assert.deepEqual(rig.refreshes.map(({ status, error }) => [status, error ?? null]), [[200, null]], 'one refresh token request');
  const posted = await Promise.all(rig.replicas.map((replica) => replica.answers('refresh')));
  assert.equal(posted[0] + posted[1], 1, 'and nobody asked Coatroom for another');
  for (const tab of tabs) assert.equal(await tab.evaluate(async () => (await window.client.session()).status), 'signed-in');
});

eachEngine('a tab that slept past expiry wakes up and calls, and refreshes only if nobody else did', SHORT, async (rig) => {
  const awake = await rig.openSignedIn();
  const sleeper = await rig.openApp();
  await sleeper.sleep();
  await expired(awake);
  assert.equal(rig.refreshes.length, 0);
  await sleeper.wake();
  assert.deepEqual(await sleeper.evaluate(twentyCalls), Array(20).fill(200));
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  assert.equal(await sleeper.evaluate(() => document.getElementById('status').dataset.state), 'signed-in');

  await sleeper.sleep();
  await expired(awake);
  rig.provider.settings.accessTokenTtl = 300;
  assert.deepEqual(await awake.evaluate(twentyCalls), Array(20).fill(200));
  await sleeper.wake();
  assert.deepEqual(await sleeper.evaluate(twentyCalls), Array(20).fill(200));
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200, 200]);
});

eachEngine('5 tabs that look ahead refresh once before the token runs out', { accessTokenTtl: 8 }, async (rig) => {
  const tabs = [await rig.openSignedIn()];
  while (tabs.length < 5) tabs.push(await rig.openApp());
  rig.provider.settings.accessTokenTtl = 300;
  const left = () => Promise.all(tabs.map((tab) => tab.evaluate(() => window.client.state.session.accessTokenExpiresAt - Date.now())));
  await tabs[0].until('each tab knows of new tokens', async () => (await left()).every((milliseconds) => milliseconds > 100_000));
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  assert.deepEqual((await Promise.all(tabs.map((tab) => tab.evaluate(twentyCalls)))).flat(), Array(100).fill(200));
  assert.equal(rig.refreshes.length, 1);
});

eachEngine('a session that ended while a tab slept is signed out there when it wakes', SHORT, async (rig) => {
  const sleeper = await rig.openSignedIn();
  const awake = await rig.openApp();
  await sleeper.sleep();
  await expired(awake);
  rig.provider.revokeRefreshTokens();
  await sleeper.wake();
  assert.equal(await sleeper.evaluate(async () => (await window.client.fetch(window.orders).catch((error) => error)).status), 401);
  for (const tab of [sleeper, awake]) await tab.waitFor('#status[data-state=signed-out]');
});

/** Runs in the page: the statuses of twenty calls at once, or why there is none. */
function twentyCalls() {
  return Promise.all(Array.from({ length: 20 }, () => window.client.fetch(window.orders).then(
    ({ status }) => status,
    (error) => `${error.name}: ${error.message}`,
  )));
}
