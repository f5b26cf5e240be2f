// The application on one origin, Coatroom on a sibling origin, over TLS, with CORS between them; and a third sibling
// that is not listed: same site, so the browser sends it every Strict cookie.
//
// No certificate error is ignored: the browser trusts the test's CA and no other.

import assert from 'node:assert/strict';

import { callApi, callApiOnce, postToAgent, session } from '../rig/page_actions.js';
import { passLoginAndConsent } from '../rig/provider_pages.js';
import { scenario } from '../rig/rig.js';
import { SiblingRig } from '../rig/sibling_rig.js';
import { request } from '../rig/http.js';
import { until } from '../rig/wait.js';

for (const callback of ['agent', '/signed-in']) {
  scenario(`a sibling origin signs in, reloads, calls, refreshes and signs out (callback: ${callback})`, {
    Rig: SiblingRig, callback, provider: { accessTokenTtl: 4 },
  }, async (rig) => {
    const page = await rig.openApp('/deep/link?x=1#frag');
    await rig.signIn(page);
    assert.equal(page.url(), `${rig.appUrl}/deep/link?x=1#frag`);
    assert.equal((await session(page)).id_token_claims.sub, 'alice');

    await page.reload();
    await page.waitForSelector('#status[data-state=signed-in]');

    const expired = await until('the access token runs out', async () => {
      const answer = await callApiOnce(page);
      return answer.status !== 200 && answer;
    });
    assert.deepEqual([expired.status, expired.code], [401, 'access_token_expired'], 'readable across origins');
    rig.provider.settings.accessTokenTtl = 300;
    assert.equal(await callApi(page), 200);
    assert.equal(rig.refreshes.length, 1);
    for (const { headers } of rig.api.requests) {
      assert.equal(headers.cookie, undefined);
      assert.ok(rig.issued.some(({ token }) => headers.authorization === `Bearer ${token}`));
    }

    for (const { name, domain, secure, httpOnly, sameSite } of await rig.cookies()) {
      assert.deepEqual({ domain, secure, httpOnly, sameSite }, {
        domain: 'api.app.localhost', secure: true, httpOnly: true, sameSite: 'Strict',
      }, name);
    }
    assert.equal(await page.evaluate(() => document.cookie), '');

    await rig.signOut(page);
    assert.equal(new URL(page.url()).origin, rig.appUrl);
    assert.equal((await session(page)).is_logged_in, false);
  });
}

scenario('a link to login from a sibling origin returns to the application', { Rig: SiblingRig }, async (rig) => {
  const page = await rig.openApp();
  await page.evaluate((url) => {
    document.getElementById('sign-in-link').href = `${url}/auth/login?return_to=/deep/link?x=1%23frag`;
  }, rig.url);
  await page.click('#sign-in-link');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(page.url(), `${rig.appUrl}/deep/link?x=1#frag`);
});

scenario('an unlisted sibling origin is refused although its cookies are sent', { Rig: SiblingRig }, async (rig) => {
  const page = await rig.openSignedIn('victim');
  const before = JSON.stringify(await rig.cookies());
  const evil = await rig.browser.tab();
  const statuses = new Map();
  evil.on('response', (response) => {
    if (response.url().startsWith(rig.url)) statuses.set(`${response.request().method()} ${response.url()}`, response.status());
  });
  await evil.goto(`${rig.evilUrl}/`);
  const outcomes = await evil.evaluate((url) => Promise.all([
    ['/auth/session', 'GET', 'cors'], ['/auth/logout', 'POST', 'cors'], ['/api/orders', 'GET', 'cors'],
    ['/auth/session', 'GET', 'no-cors'], ['/auth/logout', 'POST', 'no-cors'], ['/auth/refresh', 'POST', 'no-cors'],
    ['/api/orders', 'GET', 'no-cors'], ['/api/orders', 'POST', 'no-cors'],
  ].map(async ([path, method, mode]) => {
    const headers = mode === 'cors' ? { 'token-handler-version': '1' } : {};
    try {
      const response = await fetch(url + path, { method, mode, headers, credentials: 'include' });
      return `${response.type} ${await response.text()}`;
    } catch {
      return 'refused';
    }
  })), rig.url);
  assert.deepEqual(outcomes.slice(0, 3), Array(3).fill('refused'));
  for (const outcome of outcomes.slice(3)) assert.ok(['opaque ', 'refused'].includes(outcome), outcome);
  assert.equal(statuses.get(`POST ${rig.url}/auth/logout`) ?? 403, 403);

  assert.equal(JSON.stringify(await rig.cookies()), before);
  assert.deepEqual(rig.api.requests, []);
  assert.equal((await session(page)).id_token_claims.sub, 'victim');
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
});

scenario('a preflight names one origin and no other', { Rig: SiblingRig }, async (rig) => {
  const preflight = (path, origin) => request(rig.url + path, {
    method: 'OPTIONS',
    ca: rig.certificates.ca,
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'token-handler-version',
      'sec-fetch-mode': 'cors',
      'sec-fetch-site': 'same-site',
    },
  });
  for (const path of ['/auth/refresh', '/api/orders']) {
    const listed = await preflight(path, rig.appUrl);
    assert.ok([200, 204].includes(listed.status), `${path}: ${listed.status}`);
    assert.equal(listed.headers['access-control-allow-origin'], rig.appUrl);
    assert.equal(listed.headers['access-control-allow-credentials'], 'true');
    assert.match(listed.headers['access-control-allow-headers'], /token-handler-version/i);
    assert.match(listed.headers.vary ?? '', /origin/i);
    const unlisted = await preflight(path, rig.evilUrl);
    assert.equal(unlisted.headers['access-control-allow-origin'], undefined);
    assert.equal(unlisted.headers['access-control-allow-credentials'], undefined);
  }
  assert.deepEqual(rig.api.requests, []);
});
