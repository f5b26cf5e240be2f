// Sign-in through the provider's real forms, in both callback modes and by plain link, and the ways it goes wrong:
// two tabs, a used callback, a lost cookie, a code posted twice.
//
// These tests never skip a form of the provider and never set a cookie by hand.

import assert from 'node:assert/strict';

import { callApi, postToAgent, session, status } from '../rig/page_actions.js';
import { passLogin, passLoginAndConsent, submitConsent, submitLogin } from '../rig/provider_pages.js';
import { CLIENT_ID, scenario } from '../rig/rig.js';
import { request } from '../rig/http.js';

const NAVIGATION = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-fetch-site': 'cross-site' };

scenario('a user signs in with the agent as callback', {}, async (rig) => {
  const page = await rig.openApp();
  assert.equal(await status(page), 'signed-out');
  assert.deepEqual(await session(page), {
    is_logged_in: false, id_token_claims: null, access_token_expires_in: null, session: null,
  });

  await rig.signIn(page, 'alice');

  assert.equal(page.url(), `${rig.url}/`, 'neither code nor state is left in the address');
  assert.equal(await page.innerText('#status'), 'signed in as alice');
  const signedIn = await session(page);
  assert.equal(signedIn.is_logged_in, true);
  assert.equal(signedIn.id_token_claims.sub, 'alice');
  assert.equal(signedIn.id_token_claims.name, 'Alice');
  assert.ok(signedIn.access_token_expires_in > 0 && signedIn.access_token_expires_in <= 300);
  assert.ok(signedIn.session.id.length > 0);
  assert.ok(signedIn.session.idle_expires_in > 0 && signedIn.session.idle_expires_in <= 30 * 60);
  assert.ok(signedIn.session.expires_in > 0 && signedIn.session.expires_in <= 12 * 60 * 60);
});

scenario('a user signs in with a page of the application as callback', { callback: '/signed-in' }, async (rig) => {
  const page = await rig.openApp('/deep/link?x=1#frag');
  await page.click('#sign-in');
  await submitLogin(page, rig.issuer, 'bob');
  const posted = page.waitForResponse(`${rig.url}/auth/login/end`);
  await submitConsent(page);
  const answer = await posted;
  assert.equal(answer.status(), 200);
  assert.equal(answer.headers()['content-type'], 'application/json');
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(await page.innerText('#status'), 'signed in as bob');
  assert.equal(page.url(), `${rig.url}/deep/link?x=1#frag`);
  assert.equal((await session(page)).id_token_claims.sub, 'bob');
});

scenario('a plain link to login returns to the deep link with query and fragment', {}, async (rig) => {
  const page = await rig.openApp();
  await page.evaluate(() => {
    document.getElementById('sign-in-link').href = '/auth/login?return_to=/deep/link?x=1%23frag';
  });
  await page.click('#sign-in-link');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(page.url(), `${rig.url}/deep/link?x=1#frag`);
});

scenario('login start returns to where the user was', {}, async (rig) => {
  const page = await rig.openSignedIn('alice', '/deep/link?x=1&y=%C3%BC#frag');
  assert.equal(page.url(), `${rig.url}/deep/link?x=1&y=%C3%BC#frag`);
});

scenario('a login hint reaches the provider and foreign parameters do not', {}, async (rig) => {
  const page = await rig.openApp();
  const url = new URL(await page.evaluate(() => window.client.startLogin({ login_hint: 'carol', ui_locales: 'de' })));
  assert.equal(url.origin, rig.issuer);
  assert.equal(url.searchParams.get('client_id'), CLIENT_ID);
  assert.equal(url.searchParams.get('login_hint'), 'carol');
  assert.equal(url.searchParams.get('code_challenge_method'), 'S256');
  assert.equal(url.searchParams.get('response_type'), 'code');
  const smuggled = await postToAgent(page, '/login/start', { redirect_uri: 'https://evil.example/', client_id: 'evil' });
  if (smuggled.status === 200) {
    const query = new URL(smuggled.body.authorization_url).searchParams;
    assert.deepEqual(query.getAll('redirect_uri'), [`${rig.url}/auth/callback`]);
    assert.deepEqual(query.getAll('client_id'), [CLIENT_ID]);
  } else {
    assert.equal(smuggled.status, 400);
    assert.equal(smuggled.body.error_code, 'invalid_request');
  }
});

scenario('a reload keeps the session', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const before = await session(page);
  await page.reload();
  await page.waitForSelector('#status[data-state=signed-in]');
  const after = await session(page);
  assert.equal(after.session.id, before.session.id);
  assert.equal(await callApi(page), 200);
  assert.equal(rig.refreshes.length, 0, 'a reload costs no refresh');
});

scenario('two sign-ins started in two tabs both finish', {}, async (rig) => {
  const first = await rig.openApp('/tab/first');
  const second = await rig.openApp('/tab/second');
  await first.click('#sign-in');
  await first.waitForURL((url) => url.origin === rig.issuer);
  await second.click('#sign-in');
  await second.waitForURL((url) => url.origin === rig.issuer);

  await passLoginAndConsent(first, rig.issuer, 'alice');
  await first.waitForSelector('#status[data-state=signed-in]');
  assert.equal(first.url(), `${rig.url}/tab/first`);

  await passLogin(second, rig.issuer, 'alice');
  await second.waitForSelector('#status[data-state=signed-in]');
  assert.equal(second.url(), `${rig.url}/tab/second`);

  assert.equal((await session(first)).is_logged_in, true, 'the first tab is signed in by the second one’s session');
  assert.equal(await callApi(first), 200);
  assert.equal(await callApi(second), 200);
});

scenario('a code posted twice at once and once more later answers 200 each time', { callback: '/signed-in-twice' }, async (rig) => {
  const page = await rig.openApp();
  const callbacks = [];
  page.on('framenavigated', (frame) => {
    if (new URL(frame.url()).pathname === '/signed-in-twice') callbacks.push(frame.url());
  });
  await rig.signIn(page);
  const answers = JSON.parse(await page.innerText('#result'));
  assert.equal(answers.length, 2);
  assert.equal(answers[0].session.id, answers[1].session.id);

  const [callback] = callbacks;
  const again = await page.evaluate((url) => window.client.endLogin(url), callback);
  assert.equal(again.is_logged_in, true);
  assert.equal(again.session.id, answers[0].session.id);
  assert.equal(rig.tokenRequests('authorization_code').length, 1, 'the provider saw the code once');
  assert.equal(await callApi(page), 200);
});

scenario('a failing login end leaves the session alone', { callback: '/signed-in' }, async (rig) => {
  const page = await rig.openSignedIn();
  const forged = await postToAgent(page, '/login/end', { code: 'forged', state: 'forged', iss: rig.issuer });
  assert.equal(forged.status, 400);
  assert.equal(forged.body.error_code, 'login_state_invalid');
  assert.equal((await session(page)).is_logged_in, true);
  assert.equal(await callApi(page), 200);
});

scenario('the back button and a bookmark of the callback lead into the app', {}, async (rig) => {
  const page = await rig.openApp('/start');
  const callbacks = [];
  page.on('request', (sent) => {
    if (sent.url().startsWith(`${rig.url}/auth/callback?`)) callbacks.push(sent.url());
  });
  await rig.signIn(page);
  assert.equal(callbacks.length, 1);

  await page.goto(callbacks[0]);
  await page.waitForURL((url) => url.origin === rig.url && !url.pathname.startsWith('/auth/'));
  await page.waitForSelector('#status[data-state=signed-in]');

  await page.goto(`${rig.url}/elsewhere`);
  await page.waitForSelector('#status[data-state=signed-in]');
  await page.goBack({ waitUntil: 'commit' });
  await page.waitForURL((url) => url.origin === rig.url && !url.pathname.startsWith('/auth/'));
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(await callApi(page), 200);
});

scenario('a lost login cookie costs one restart and not a dead end', {}, async (rig) => {
  const page = await rig.openApp('/wanted');
  await page.click('#sign-in');
  await submitLogin(page, rig.issuer, 'alice');
  await rig.browser.context.clearCookies({ domain: 'localhost' });
  await submitConsent(page);
  await page.waitForURL((url) => url.origin === rig.url && !url.pathname.startsWith('/auth/'));
  await page.waitForSelector('#status[data-state=signed-in]');
  assert.equal(await callApi(page), 200);
});

scenario('a browser without cookies is restarted at most once', {}, async (rig) => {
  let location = `${rig.url}/auth/callback?code=nothing&state=nothing&iss=${encodeURIComponent(rig.issuer)}`;
  for (let restarts = 0; ; restarts += 1) {
    const answer = await request(location, { headers: NAVIGATION });
    assert.equal(answer.status, 303);
    const next = new URL(answer.headers.location, rig.url);
    if (next.origin === rig.url) {
      assert.match(next.searchParams.get('login_error') ?? '', /^[a-z_]+$/);
      break;
    }
    assert.equal(next.origin, rig.issuer);
    assert.ok(restarts < 1, 'restarted a second time');
    const state = encodeURIComponent(next.searchParams.get('state'));
    location = `${rig.url}/auth/callback?code=nothing&state=${state}&iss=${encodeURIComponent(rig.issuer)}`;
  }
});

scenario('a user who refuses consent comes back with an advisory error', {}, async (rig) => {
  const page = await rig.openApp();
  await page.click('#sign-in');
  await submitLogin(page, rig.issuer, 'alice');
  await page.waitForSelector('form input[name=prompt][value=consent]', { state: 'attached' });
  await page.click('a[href$="/abort"]');
  await page.waitForURL((url) => url.origin === rig.url && url.searchParams.has('login_error'));
  await page.waitForSelector('#status[data-state=failed]');
  assert.equal((await session(page)).is_logged_in, false);
});

scenario('a return address outside the application is refused', {}, async (rig) => {
  for (const target of ['//evil.example/', '/\\evil.example', 'https://evil.example/', '/%09/evil.example', '/auth/logout/continue', '/api/orders', 'javascript:alert(1)']) {
    const link = await request(`${rig.url}/auth/login?return_to=${encodeURIComponent(target)}`, {
      headers: { ...NAVIGATION, 'sec-fetch-site': 'same-origin' },
    });
    const wentToProvider = link.status === 303 && new URL(link.headers.location, rig.url).origin === rig.issuer;
    assert.ok(!wentToProvider, `${target} was accepted`);
    assert.ok(!(link.headers.location ?? '').includes('evil'), `${target} was echoed`);
  }
});

scenario('signing in as another user replaces the session', {}, async (rig) => {
  const page = await rig.openSignedIn('alice');
  const alice = await session(page);
  await page.evaluate(async () => location.assign(await window.client.startLogin({ prompt: 'login' })));
  await passLogin(page, rig.issuer, 'bob');
  await page.waitForSelector('#status[data-state=signed-in]');
  const bob = await session(page);
  assert.equal(bob.id_token_claims.sub, 'bob');
  assert.notEqual(bob.session.id, alice.session.id);
  assert.equal(await callApi(page), 200);
  const { headers } = rig.api.requests.at(-1);
  const claims = JSON.parse(Buffer.from(headers.authorization.split('.')[1], 'base64url').toString());
  assert.equal(claims.sub, 'bob');
});
