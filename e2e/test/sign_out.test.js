// Sign-out: through the provider and back, against a refresh that is under way, and what a copy of the cookies that
// somebody made before is still good for.
//
// These tests never call a session ended because the page says so: they ask the agent, the API and the cookie jar.

import assert from 'node:assert/strict';

import { callApi, callApiOnce, postToAgent, session } from '../rig/page_actions.js';
import { request, scriptHeaders } from '../rig/http.js';
import { passKnownUser } from '../rig/provider_pages.js';
import { holdTokenRequests, scenario } from '../rig/rig.js';

const SIGNED_OUT = { is_logged_in: false, id_token_claims: null, access_token_expires_in: null, session: null };

scenario('sign-out goes through the provider’s form and back', {}, async (rig) => {
  const page = await rig.openSignedIn();
  await rig.signOut(page);
  assert.equal(new URL(page.url()).origin, rig.url);
  assert.deepEqual(await session(page), SIGNED_OUT);
  assert.equal((await callApiOnce(page)).status, 401);
  const names = (await rig.cookies()).map(({ name }) => name);
  assert.deepEqual(names.filter((name) => /-(access|session|logout|login)/.test(name)), []);

  // The provider's own session is over too: the next sign-in shows both forms again.
  await rig.signIn(page, 'bob');
  assert.equal((await session(page)).id_token_claims.sub, 'bob');
});

scenario('sign-out in one tab is seen by the other', {}, async (rig) => {
  const first = await rig.openSignedIn();
  const second = await rig.openApp();
  await rig.signOut(first);
  assert.deepEqual(await session(second), SIGNED_OUT);
  const refused = await callApiOnce(second);
  assert.equal(refused.status, 401);
  await second.reload();
  await second.waitForSelector('#status[data-state=signed-out]');
});

scenario('sign-out without a session answers all the same', {}, async (rig) => {
  const page = await rig.openApp();
  assert.equal((await postToAgent(page, '/logout')).status, 200);
  await page.goto(`${rig.url}/auth/logout/callback?state=forged`);
  await page.waitForURL((url) => url.origin === rig.url && !url.pathname.startsWith('/auth/'));
  await page.waitForSelector('#status[data-state=signed-out]');
});

scenario('a forged return from sign-out changes nothing', {}, async (rig) => {
  const page = await rig.openSignedIn();
  await page.goto(`${rig.url}/auth/logout/callback?state=forged`);
  await page.waitForSelector('#status[data-state=signed-in]');
  await page.goto(`${rig.url}/auth/logout/continue`);
  await page.waitForURL((url) => url.origin === rig.url && !url.pathname.startsWith('/auth/'));
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(await callApi(page), 200);
});

for (const [when, delay] of [
  ['before the provider has processed it', { before: 1_500 }],
  ['whose answer is on its way', { after: 1_500 }],
]) {
  scenario(`sign-out during a refresh in another tab, ${when}, leaves signed out`, {}, async (rig, t) => {
    const refresher = await rig.openSignedIn();
    const leaver = await rig.openApp();
    const waiting = holdTokenRequests(rig.provider, delay);
    const refreshing = postToAgent(refresher, '/refresh');
    await waiting;
    const signedOut = await postToAgent(leaver, '/logout');
    assert.equal(signedOut.status, 200);
    const late = await refreshing;
    assert.ok([200, 401].includes(late.status), `the late refresh got ${late.status}`);
    t.diagnostic(`the late refresh is answered ${late.status}`);

    // Whatever cookies the late answer wrote back, the session stays over, in both tabs and after a reload.
    for (const page of [refresher, leaver]) {
      assert.deepEqual(await session(page), SIGNED_OUT);
      assert.equal((await callApiOnce(page)).status, 401);
      assert.equal((await postToAgent(page, '/refresh')).status, 401);
      await page.reload();
      await page.waitForSelector('#status[data-state=signed-out]');
    }

    // And a new sign-in is not taken for the old one. The provider still knows the user.
    await leaver.click('#sign-in');
    await passKnownUser(leaver, leaver.waitForSelector('#status[data-state=signed-in]'));
    assert.equal(await callApi(leaver), 200);
    assert.equal((await postToAgent(refresher, '/refresh')).status, 200);
  });
}

scenario('after sign-out a copy of all cookies can neither refresh nor tell who it was', {}, async (rig, t) => {
  const page = await rig.openSignedIn();
  const copy = await rig.cookies();
  await rig.signOut(page);

  const refreshed = await withCopy(rig, copy, '/auth/refresh', 'POST');
  assert.equal(refreshed.status, 401, 'the refresh token was revoked at the provider');
  assert.ok(['session_expired', 'unauthorized'].includes(refreshed.json().error_code));

  // A sealed cookie is its own proof: without a store a copy made before works until its access token runs out,
  // unless this process still remembers the sign-out. Short token lives are the remedy.
  const called = await withCopy(rig, copy, '/api/orders', 'GET');
  assert.ok([200, 401].includes(called.status));
  t.diagnostic(`store: cookie: an API call with the copy is answered ${called.status}`);

  // In the browser that signed out the tombstones refuse the same cookies.
  const ended = (await rig.cookies()).filter(({ name }) => name.startsWith('__Host-Http-shop-ended'));
  assert.ok(ended.length > 0);
  const buried = await withCopy(rig, [...copy, ...ended], '/api/orders', 'GET');
  assert.equal(buried.status, 401);
});

function withCopy(rig, cookies, path, method) {
  const url = rig.url + path;
  return request(url, { method, headers: scriptHeaders({ origin: rig.url, cookies, url }) });
}
