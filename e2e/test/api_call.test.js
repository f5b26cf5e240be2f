// API calls through the proxy: what reaches the API, and what is refused before it does.
//
// These tests never look at what an API answers about tokens: they look at the requests it received.

import assert from 'node:assert/strict';

import { callApi, callApiOnce } from '../rig/page_actions.js';
import { cookieHeader, request } from '../rig/http.js';
import { scenario } from '../rig/rig.js';

scenario('an api call carries the access token and no cookie', {}, async (rig) => {
  const page = await rig.openSignedIn();
  await page.evaluate(() => { document.cookie = 'theme=dark; Path=/'; });
  const { status, body, type } = await callApiOnce(page, '/orders?page=2');
  assert.equal(status, 200);
  assert.match(type, /^application\/json/);
  assert.ok(body.orders.length > 0);

  const { url, headers } = rig.api.requests.at(-1);
  assert.equal(url, '/orders?page=2');
  const issued = rig.issued.findLast(({ kind }) => kind === 'access_token');
  assert.equal(headers.authorization, `Bearer ${issued.token}`);
  assert.equal(headers.cookie, undefined);
  assert.equal(headers['token-handler-version'] ?? '1', '1');
});

scenario('what the client says about itself is not believed', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const { status } = await callApiOnce(page, '/orders', {
    headers: { authorization: 'Bearer forged', 'x-forwarded-user': 'admin', 'x-forwarded-for': '203.0.113.9' },
  });
  assert.equal(status, 200);
  const { headers } = rig.api.requests.at(-1);
  assert.ok(rig.issued.some(({ token }) => headers.authorization === `Bearer ${token}`));
  assert.equal(headers['x-forwarded-user'], undefined);
  assert.doesNotMatch(headers['x-forwarded-for'] ?? '', /203\.0\.113\.9/);
});

scenario('a body goes to the api and its answer comes back', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const { status, body } = await callApiOnce(page, '/echo', {
    method: 'POST', body: '{"item":"scarf"}', headers: { 'content-type': 'application/json' },
  });
  assert.equal(status, 200);
  assert.equal(body.body, '{"item":"scarf"}');
  assert.equal(body.content_type, 'application/json');
});

scenario('without a session an api call is 401 json and never a redirect', {}, async (rig) => {
  const page = await rig.openApp();
  const refused = await callApiOnce(page);
  assert.equal(refused.status, 401);
  assert.equal(refused.code, 'unauthorized');
  assert.equal(refused.type, 'application/json');
  assert.equal(refused.body.error_code, 'unauthorized');

  const [navigation] = await Promise.all([page.waitForResponse(`${rig.url}/api/orders`), page.goto(`${rig.url}/api/orders`)]);
  assert.equal(navigation.status(), 401, 'for a navigation too');
  assert.equal(rig.api.requests.length, 0);
});

scenario('without the custom header an api call is refused', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const bare = await page.evaluate(async () => {
    const response = await fetch('/api/orders', { credentials: 'include' });
    return { status: response.status, body: await response.json() };
  });
  assert.equal(bare.status, 403);
  assert.equal(bare.body.error_code, 'csrf_rejected');
  assert.equal(rig.api.requests.length, 0);
});

scenario('a cookie that was tampered with opens nothing', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const url = `${rig.url}/api/orders`;
  const cookies = await rig.cookies();
  const ask = (tampered) => request(url, {
    headers: { cookie: cookieHeader(tampered, url), origin: rig.url, 'token-handler-version': '1' },
  });
  assert.equal((await ask(cookies)).status, 200, 'the unchanged copy works');
  const anchor = cookies.find(({ name }) => name.startsWith('__Host-Http-shop-access'));
  const middle = Math.floor(anchor.value.length / 2);
  const flipped = anchor.value[middle] === 'A' ? 'B' : 'A';
  const value = anchor.value.slice(0, middle) + flipped + anchor.value.slice(middle + 1);
  const refused = await ask(cookies.map((cookie) => (cookie === anchor ? { ...anchor, value } : cookie)));
  assert.equal(refused.status, 401);
  assert.equal(await callApi(page), 200, 'the browser’s own session is untouched');
});
