// A provider that is away: at the start, and in the middle of a session.
//
// These tests never restart Coatroom: it recovers by itself.

import assert from 'node:assert/strict';

import { callApi, postToAgent, session } from '../rig/page_actions.js';
import { request } from '../rig/http.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

scenario('a provider that is down at the start delays sign-in and nothing else', { withoutProvider: true }, async (rig) => {
  const page = await rig.openApp();
  assert.equal(await page.innerText('#status'), 'signed out', 'pages and session work without a provider');

  const refused = await page.evaluate(async () => {
    const response = await fetch('/auth/login/start', { method: 'POST', headers: { 'token-handler-version': '1' } });
    return {
      status: response.status,
      retryAfter: response.headers.get('retry-after'),
      type: response.headers.get('content-type'),
      body: await response.json(),
    };
  });
  assert.equal(refused.status, 503);
  assert.equal(refused.body.error_code, 'provider_unavailable');
  assert.equal(refused.type, 'application/json');
  assert.match(refused.retryAfter ?? '', /^[1-9]\d*$/);

  const ready = await request(`${rig.coatroom.admin}/readyz`);
  assert.equal(ready.status, 200, 'who is signed in is served all the same');
  assert.match(ready.text, /degraded/, 'and the part that is away is named');

  await rig.startProvider();
  await until('login recovers', async () => (await postToAgent(page, '/login/start')).status === 200, {
    timeout: 40_000, every: 250,
  });
  await until('readiness recovers', async () => !/degraded/.test((await request(`${rig.coatroom.admin}/readyz`)).text));
  await rig.signIn(page);
  assert.equal(await callApi(page), 200);
});

for (const [what, breakIt] of [
  ['an unreachable provider', (settings) => { settings.down = true; }],
  ['a provider that answers 503', (settings) => { settings.tokenFailure = { status: 503 }; }],
  ['a provider that answers an empty 400', (settings) => { settings.tokenFailure = { status: 400, body: '' }; }],
]) {
  scenario(`${what} ends nobody’s session`, {}, async (rig) => {
    const page = await rig.openSignedIn();
    breakIt(rig.provider.settings);
    const refused = await postToAgent(page, '/refresh');
    assert.ok([502, 503].includes(refused.status), String(refused.status));
    assert.ok(['provider_unavailable', 'provider_error'].includes(refused.body.error_code), refused.body.error_code);
    assert.equal((await session(page)).is_logged_in, true);
    assert.equal(await callApi(page), 200, 'the access token is still good');

    Object.assign(rig.provider.settings, { down: false, tokenFailure: null });
    await until('refresh recovers', async () => (await postToAgent(page, '/refresh')).status === 200, { timeout: 40_000 });
    assert.equal(await callApi(page), 200);
  });
}
