// Refresh with rotating refresh tokens: after expiry, from many calls and tabs at once, and too late.
//
// The provider ends the whole session when a used refresh token comes again, so every test that stays signed in
// shows that none did. No test waits for a fixed time: each waits for the refusal that it needs.

import assert from 'node:assert/strict';

import { callApi, callApiOnce, postToAgent, session } from '../rig/page_actions.js';
import { request, scriptHeaders } from '../rig/http.js';
import { holdTokenRequests, scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

const SHORT = { provider: { accessTokenTtl: 3 } };

scenario('an expired access token costs one refresh and one retry', SHORT, async (rig) => {
  const page = await rig.openSignedIn();
  assert.equal(await callApi(page), 200);
  await expired(page);

  // A token that lives long, so that the retry cannot meet the next expiry.
  rig.provider.settings.accessTokenTtl = 300;
  assert.equal(await callApi(page), 200);
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  const bearers = new Set(rig.api.requests.map(({ headers }) => headers.authorization));
  assert.equal(bearers.size, 2, 'the API saw the old token, then the new one');
  assert.ok((await session(page)).access_token_expires_in > 200);
});

scenario('asking for the session neither refreshes nor extends it', SHORT, async (rig) => {
  const page = await rig.openSignedIn();
  const before = await session(page);
  await expired(page);
  const after = await session(page);
  assert.equal(after.is_logged_in, true);
  assert.equal(after.session.id, before.session.id);
  assert.ok(after.session.idle_expires_in < before.session.idle_expires_in);
  assert.ok(after.session.expires_in < before.session.expires_in);
  assert.equal(rig.refreshes.length, 0);
});

scenario('twenty calls in two tabs that find the token expired cost one refresh', SHORT, async (rig) => {
  const first = await rig.openSignedIn();
  const second = await rig.openApp();
  await expired(first);
  rig.provider.settings.accessTokenTtl = 300;
  const ten = (page) => page.evaluate(() => Promise.all(
    Array.from({ length: 10 }, async () => (await window.client.callApi('/orders')).status),
  ));
  const statuses = (await Promise.all([ten(first), ten(second)])).flat();
  assert.deepEqual(statuses, Array(20).fill(200));
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  assert.equal((await session(second)).is_logged_in, true);
});

scenario('twenty refreshes with the same cookies cost one token request', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const copy = await rig.cookies();
  const arrived = holdTokenRequests(rig.provider, { before: 500 });
  const answers = await Promise.all(Array.from({ length: 20 }, () => refreshWith(rig, copy)));
  await arrived;
  assert.deepEqual(answers.map(({ status }) => status), Array(20).fill(200));
  for (const answer of answers) assert.ok(answer.json().access_token_expires_in > 0);
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);

  // The browser still holds the cookies from before: it is late itself, and is helped all the same.
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal(await callApi(page), 200);
  assertNoRefreshFailed(rig);
});

scenario('twenty refreshes of a browser that nothing serialises keep the session', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const statuses = await page.evaluate(() => Promise.all(Array.from({ length: 20 }, async () => {
    const response = await fetch('/auth/refresh', {
      method: 'POST', credentials: 'include', headers: { 'token-handler-version': '1' },
    });
    return response.status;
  })));
  assert.deepEqual(statuses, Array(20).fill(200));
  assertNoRefreshFailed(rig);
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal((await postToAgent(page, '/refresh')).status, 200, 'the cookies that stayed are usable');
  assert.equal(await callApi(page), 200);
  assertNoRefreshFailed(rig);
});

scenario('a late duplicate of a refresh is answered with the newest tokens', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const oldest = await rig.cookies();
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  const late = await refreshWith(rig, oldest);
  assert.equal(late.status, 200);
  assert.ok(late.json().access_token_expires_in > 0);
  assert.ok(late.setCookies.length > 0, 'the late one gets cookies that work');

  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  assert.equal((await refreshWith(rig, oldest)).status, 200, 'two refreshes late');
  assertNoRefreshFailed(rig);
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal(await callApi(page), 200);
});

scenario('a refresh outlives the tab that asked for it', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const leaver = await rig.openApp();
  const arrived = holdTokenRequests(rig.provider, { before: 1_000 });
  await leaver.evaluate(() => {
    fetch('/auth/refresh', { method: 'POST', credentials: 'include', headers: { 'token-handler-version': '1' } });
  });
  await arrived;
  await leaver.close();
  await until('the provider answers the refresh', () => rig.refreshes.length === 1);
  assert.equal((await postToAgent(page, '/refresh')).status, 200, 'the old cookies follow the chain');
  assert.equal(await callApi(page), 200);
  assertNoRefreshFailed(rig);
});

scenario('a session that the provider ended is over at the next refresh', {}, async (rig) => {
  const page = await rig.openSignedIn();
  rig.provider.revokeRefreshTokens();
  const ended = await postToAgent(page, '/refresh');
  assert.equal(ended.status, 401);
  assert.equal(ended.body.error_code, 'session_expired');
  await page.reload();
  await page.waitForSelector('#status[data-state=signed-out]');
});

scenario('a signed-out browser that refreshes is told so', {}, async (rig) => {
  const page = await rig.openApp();
  await page.click('#refresh');
  await page.waitForSelector('#status[data-state=failed]');
  assert.equal(await page.innerText('#status'), '401 unauthorized');
});

/** Waits until an API call of the page is refused because its access token ran out. */
async function expired(page) {
  const refusal = await until('the access token runs out', async () => {
    const answer = await callApiOnce(page);
    return answer.status !== 200 && answer;
  });
  assert.equal(refusal.status, 401);
  assert.equal(refusal.code, 'access_token_expired');
  assert.equal(refusal.type, 'application/json');
  assert.equal(refusal.body.error_code, 'access_token_expired');
}

function refreshWith(rig, cookies) {
  const url = `${rig.url}/auth/refresh`;
  return request(url, { method: 'POST', headers: scriptHeaders({ origin: rig.url, cookies, url }) });
}

function assertNoRefreshFailed(rig) {
  assert.deepEqual(rig.refreshes.filter(({ status, error }) => status !== 200 || error), []);
}
