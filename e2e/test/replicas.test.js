// Two replicas with one key behind nginx without sticky sessions: any request may go to either. And what that costs
// when an answer is lost, which docs/operations.md tells under "Several replicas".
//
// Which replica served what is never guessed: it is read from the counters of each. Nothing here stores anything that
// the replicas share but the key file.

import assert from 'node:assert/strict';

import { callApi, callApiOnce, postToAgent, session, status } from '../rig/page_actions.js';
import { passKnownUser, passLoginAndConsent } from '../rig/provider_pages.js';
import { ReplicaRig } from '../rig/replica_rig.js';
import { holdTokenRequests, scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

const replicas = (name, options, body) => scenario(name, { Rig: ReplicaRig, ...options }, body);

replicas('a sign-in started on one replica is finished on the other', {}, async (rig) => {
  const page = await rig.openApp();
  const started = await beginSignIn(rig, page);
  const finished = rig.other(started);
  await rig.steerTo(finished);
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await page.waitForSelector('#status[data-state=signed-in]');

  assert.deepEqual(
    [await started.answers('login/start'), await started.answers('callback')], [1, 0], 'the one that started it',
  );
  assert.deepEqual(
    [await finished.answers('login/start'), await finished.answers('callback', { error_code: 'none' })], [0, 1],
    'the one that finished it',
  );
  for (const replica of rig.replicas) {
    await rig.steerTo(replica);
    assert.equal((await session(page)).is_logged_in, true, replica.name);
    await rig.steerTo(replica);
    assert.equal(await callApi(page), 200, replica.name);
  }
});

replicas('a sign-in whose replica is gone is finished on the one that is left', {}, async (rig) => {
  const page = await rig.openApp();
  const gone = await beginSignIn(rig, page);
  assert.equal(await gone.terminate(), 0);
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await page.waitForSelector('#status[data-state=signed-in]');
  for (let call = 0; call < 4; call += 1) assert.equal(await callApi(page), 200, 'nobody notices the missing one');
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
});

replicas('either replica refreshes, and the other takes what it wrote', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const before = await session(page);
  for (const replica of [...rig.replicas, ...rig.replicas]) {
    await rig.steerTo(replica);
    assert.equal((await postToAgent(page, '/refresh')).status, 200, replica.name);
    await rig.steerTo(rig.other(replica));
    assert.equal(await callApi(page), 200);
  }
  for (const replica of rig.replicas) assert.equal(await replica.answers('refresh', { error_code: 'none' }), 2, replica.name);
  assert.deepEqual(rig.refreshes.map(({ status: code }) => code), [200, 200, 200, 200]);
  assert.equal((await session(page)).session.id, before.session.id);
});

replicas('a sign-out on one replica holds on the other, also against cookies that come back', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const old = await rig.cookies();
  const [first, second] = rig.replicas;
  await rig.steerTo(first);
  assert.equal((await postToAgent(page, '/logout')).status, 200);
  assert.equal(await first.answers('logout'), 1);

  // As a late answer to a refresh would write them: all but what the sign-out itself left.
  await rig.browser.context.addCookies(old.filter(({ name }) => !name.endsWith('-ended')));
  await rig.steerTo(second);
  assert.equal((await session(page)).is_logged_in, false);
  await rig.steerTo(second);
  const call = await callApiOnce(page);
  assert.deepEqual([call.status, call.code], [401, 'session_expired']);
  await rig.steerTo(second);
  const refresh = await postToAgent(page, '/refresh');
  assert.deepEqual([refresh.status, refresh.body.error_code], [401, 'session_expired']);
  assert.deepEqual([await second.answers('refresh', { error_code: 'session_expired' }), await first.answers('refresh')], [1, 0]);
  assert.equal(rig.refreshes.length, 0, 'no refresh token was shown to the provider again');
});

replicas('twenty API calls are shared by both replicas', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const before = await Promise.all(rig.replicas.map((replica) => replica.requests('/api')));
  const statuses = await page.evaluate(() => Promise.all(
    Array.from({ length: 20 }, async () => (await window.client.callApi('/orders')).status),
  ));
  assert.deepEqual(statuses, Array(20).fill(200));
  const after = await Promise.all(rig.replicas.map((replica) => replica.requests('/api')));
  assert.deepEqual(after.map((count, index) => count - before[index]), [10, 10]);
});

replicas('five tabs that find the token expired cost one refresh on one replica', { provider: { accessTokenTtl: 3 } }, async (rig) => {
  const first = await rig.openSignedIn();
  const tabs = [first];
  while (tabs.length < 5) tabs.push(await rig.openApp());
  await until('the access token runs out', async () => (await callApiOnce(first)).code === 'access_token_expired');
  rig.provider.settings.accessTokenTtl = 300;
  const statuses = await Promise.all(tabs.map((tab) => callApi(tab)));
  assert.deepEqual(statuses, Array(5).fill(200));
  assert.deepEqual(rig.refreshes.map(({ status: code }) => code), [200]);
  const shares = await Promise.all(rig.replicas.map((replica) => replica.answers('refresh')));
  assert.deepEqual(shares.sort(), [0, 1]);
});

replicas('cookies near the largest pass nginx with the documented settings', {
  // 8,045 characters: no base64url has that length, so the refresh token is never packed into fewer bytes.
  provider: { accessTokenPadding: 12_000, refreshTokenPadding: 8_002 },
}, async (rig) => {
  const page = await rig.openSignedIn();
  const bytes = (await rig.cookies()).reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  assert.ok(bytes > 24_000, `${bytes} bytes of cookies`);
  for (const replica of rig.replicas) {
    await rig.steerTo(replica);
    assert.equal(await callApi(page), 200);
    await rig.steerTo(replica);
    assert.equal((await postToAgent(page, '/refresh')).status, 200);
  }
  await rig.signOut(page);
});

// What docs/operations.md says of several replicas: "only a repeated request after a lost answer remains".

const LOST = 'a refresh whose answer was lost';

replicas(`${LOST} and that is repeated on the same replica keeps the session`, {}, async (rig) => {
  const page = await rig.openSignedIn();
  const [first] = rig.replicas;
  await refreshAndLoseTheAnswer(rig, page, first);
  await rig.steerTo(first);
  assert.equal((await postToAgent(page, '/refresh')).status, 200, 'it remembers the successor');
  assert.deepEqual(rig.refreshes.map(({ error }) => error), [null], 'the provider saw the token once');
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal(await callApi(page), 200);
});

replicas(`${LOST} and that is repeated on the other replica ends the session, and nothing else`, {}, async (rig) => {
  const page = await rig.openSignedIn();
  const [first, second] = rig.replicas;
  await refreshAndLoseTheAnswer(rig, page, first);
  await rig.steerTo(second);
  const repeated = await postToAgent(page, '/refresh');
  assert.deepEqual([repeated.status, repeated.body.error_code], [401, 'session_expired']);
  await until('the provider answered both', () => rig.refreshes.length === 2);
  assert.deepEqual(rig.refreshes.map(({ error }) => error).sort(), ['invalid_grant', null].sort(), 'a reuse was detected');

  // It is over cleanly: no loop, no half a session, on neither replica, and the next sign-in is an ordinary one.
  for (const replica of rig.replicas) {
    await rig.steerTo(replica);
    assert.equal((await session(page)).is_logged_in, false, replica.name);
    await rig.steerTo(replica);
    assert.deepEqual([(await postToAgent(page, '/refresh')).body.error_code], ['session_expired'], replica.name);
  }
  await page.reload();
  await page.waitForSelector('#status[data-state=signed-out]');
  await page.click('#sign-in');
  await passKnownUser(page, page.waitForSelector('#status[data-state=signed-in]'));
  assert.equal(await callApi(page), 200);
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
});

replicas(`${LOST} hurts nobody where the provider does not rotate`, { provider: { rotateRefreshToken: false } }, async (rig) => {
  const page = await rig.openSignedIn();
  const [first, second] = rig.replicas;
  await refreshAndLoseTheAnswer(rig, page, first);
  await rig.steerTo(second);
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal(await callApi(page), 200);
});

replicas(`${LOST} between the provider and Coatroom ends the session on whatever replica`, {}, async (rig) => {
  const page = await rig.openSignedIn();
  const [first] = rig.replicas;
  await rig.chaos.become('lose', (path) => path === '/token');
  await rig.steerTo(first);
  const lost = await postToAgent(page, '/refresh');
  assert.deepEqual([lost.status, lost.body.error_code], [503, 'provider_unavailable'], 'nobody knows that it was rotated');
  await rig.chaos.become('pass');
  assert.equal((await session(page)).is_logged_in, true);
  await rig.steerTo(first);
  const repeated = await postToAgent(page, '/refresh');
  assert.deepEqual([repeated.status, repeated.body.error_code], [401, 'session_expired']);
  assert.equal((await session(page)).is_logged_in, false);
});

/** Clicks the sign-in button and waits for the provider's form: the replica that started it. */
async function beginSignIn(rig, page) {
  assert.equal(await status(page), 'signed-out');
  await page.click('#sign-in');
  await page.waitForURL((url) => url.origin === rig.issuer);
  const starts = await Promise.all(rig.replicas.map((replica) => replica.answers('login/start')));
  return rig.replicas[starts.indexOf(1)];
}

/** The provider rotates the refresh token, and the browser's connection is cut before it hears of it. */
async function refreshAndLoseTheAnswer(rig, page, replica) {
  const before = await rig.cookies();
  const rotated = holdTokenRequests(rig.provider, { after: 700 });
  await rig.steerTo(replica);
  await page.evaluate(() => {
    const cut = new AbortController();
    window.cut = () => cut.abort();
    window.outcome = fetch('/auth/refresh', {
      method: 'POST', credentials: 'include', headers: { 'token-handler-version': '1' }, signal: cut.signal,
    }).then(() => 'answered', (error) => error.name);
  });
  await rotated;
  assert.equal(await page.evaluate(() => (window.cut(), window.outcome)), 'AbortError');
  const values = (cookies) => cookies.map(({ name, value }) => `${name}=${value}`).sort();
  assert.deepEqual(values(await rig.cookies()), values(before), 'the browser has its old cookies');
}
