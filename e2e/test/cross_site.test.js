// A page of another site (127.0.0.1 against localhost) does what such a page can do to a signed-in user: fetch, forms,
// images, frames, links.
//
// The attacker never has a cookie, and never gets one planted. The victim's session is the same before and after.

import assert from 'node:assert/strict';

import { callApi, session } from '../rig/page_actions.js';
import { request } from '../rig/http.js';
import { scenario } from '../rig/rig.js';
import { startPages } from '../rig/pages.js';
import { until } from '../rig/wait.js';

scenario('scripts of another site change nothing and read nothing', {}, async (rig) => {
  const { victim, attacker, before } = await victimAndAttacker(rig);
  const calls = [];
  for (const [path, method] of [
    ['/auth/logout', 'POST'], ['/auth/refresh', 'POST'], ['/auth/login/start', 'POST'], ['/auth/login/end', 'POST'],
    ['/auth/session', 'GET'], ['/api/orders', 'GET'], ['/api/orders', 'POST'],
  ]) {
    for (const mode of ['no-cors', 'cors']) calls.push({ path, method, mode, header: mode === 'cors' });
  }
  const outcomes = await attacker.evaluate(([url, calls]) => Promise.all(calls.map(async ({ path, method, mode, header }) => {
    try {
      const response = await fetch(url + path, {
        method, mode, credentials: 'include',
        headers: header ? { 'token-handler-version': '1' } : {},
        body: method === 'POST' ? new URLSearchParams({ everywhere: 'true' }) : undefined,
      });
      return { type: response.type, text: await response.text() };
    } catch (error) {
      return { type: 'refused', text: '' };
    }
  })), [rig.url, calls]);
  outcomes.forEach(({ type, text }, index) => {
    assert.equal(type, calls[index].mode === 'cors' ? 'refused' : 'opaque', JSON.stringify(calls[index]));
    assert.equal(text, '');
  });
  await assertUnharmed(rig, victim, before);
});

scenario('forms of another site are refused', {}, async (rig) => {
  const { victim, attacker, attackUrl, before } = await victimAndAttacker(rig);
  for (const [path, allowed] of [
    ['/auth/logout', [403]], ['/auth/refresh', [403]], ['/auth/login/start', [403]], ['/auth/login/end', [403]],
    ['/auth/callback', [403, 404, 405]], ['/auth/login', [403, 404, 405]], ['/api/orders', [401, 403]],
  ]) {
    await attacker.goto(`${attackUrl}?target=${encodeURIComponent(rig.url + path)}`);
    const [answer] = await Promise.all([
      attacker.waitForResponse((response) => response.url() === rig.url + path),
      attacker.click('#form button'),
    ]);
    assert.ok(allowed.includes(answer.status()), `${path}: ${answer.status()}`);
    if (allowed.length === 1) {
      assert.ok(['csrf_rejected', 'origin_not_allowed'].includes(answer.headers()['token-handler-error']), path);
    }
  }
  await assertUnharmed(rig, victim, before);
});

scenario('images, frames and scripts of another site start and end nothing', {}, async (rig) => {
  const { victim, attacker, before } = await victimAndAttacker(rig);
  const answered = [];
  const settled = async (sent) => {
    if (!sent.url().startsWith(`${rig.url}/`)) return;
    // The browser withholds some answers from the page and from us; then there is no status.
    const response = await sent.response().catch(() => null);
    answered.push({ url: sent.url(), kind: sent.resourceType(), status: response?.status() ?? null });
  };
  rig.browser.context.on('requestfinished', settled);
  rig.browser.context.on('requestfailed', settled);
  const paths = [
    '/auth/login?return_to=/', '/auth/callback?code=a&state=b', '/auth/logout/continue', '/auth/logout/callback?state=b',
    '/auth/session', '/api/orders',
  ];
  await attacker.evaluate(([url, paths]) => {
    for (const path of paths) {
      for (const name of ['img', 'iframe', 'script']) {
        const element = document.createElement(name);
        element.src = url + path;
        document.body.append(element);
      }
    }
  }, [rig.url, paths]);
  await until('every image, frame and script is answered', () => answered.length >= paths.length * 3);
  const frames = answered.filter(({ status }) => status !== null);
  assert.ok(frames.length >= paths.length, 'the frames’ answers at least are seen');
  for (const { url, kind, status } of answered) assert.ok(status === null || status >= 400, `${kind} ${url}: ${status}`);
  await assertUnharmed(rig, victim, before);

  for (const path of paths) {
    for (const [mode, dest] of [['no-cors', 'image'], ['no-cors', 'script'], ['navigate', 'iframe']]) {
      const answer = await request(rig.url + path, {
        headers: { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': mode, 'sec-fetch-dest': dest },
      });
      assert.ok(answer.status >= 400, `${dest} ${path}: ${answer.status}`);
      assert.deepEqual(answer.setCookies, [], `${dest} ${path}`);
    }
  }
});

scenario('a link of another site chooses neither prompt nor scope', {}, async (rig) => {
  const { victim, attacker, attackUrl } = await victimAndAttacker(rig);
  const asked = [];
  rig.browser.context.on('request', (sent) => {
    const url = new URL(sent.url());
    if (url.origin === rig.issuer && url.pathname === '/auth') asked.push(url.searchParams);
  });
  const link = `${rig.url}/auth/login?return_to=/&prompt=none&scope=openid+email&login_hint=mallory&acr_values=weak`;
  await attacker.goto(`${attackUrl}?target=${encodeURIComponent(link)}`);
  const [answer] = await Promise.all([
    attacker.waitForResponse((response) => response.url() === link),
    attacker.click('#link'),
  ]);
  assert.ok(answer.status() === 303 || answer.status() >= 400, String(answer.status()));
  await attacker.waitForLoadState();
  for (const query of asked) {
    for (const name of ['prompt', 'login_hint', 'acr_values']) assert.equal(query.get(name), null, name);
    assert.equal(query.get('scope'), 'openid profile');
  }
  assert.equal(asked.length, answer.status() === 303 ? 1 : 0);
  assert.equal((await session(victim)).is_logged_in, true);
});

/** The application signed in, a page of another site in a second tab, and the cookies before the attack. */
async function victimAndAttacker(rig) {
  const victim = await rig.openSignedIn('victim');
  const pages = await startPages(ATTACK);
  rig.onStop(() => pages.close());
  const attacker = await rig.browser.tab();
  await attacker.goto(pages.url);
  return { victim, attacker, attackUrl: pages.url, before: await cookieValues(rig) };
}

async function assertUnharmed(rig, victim, before) {
  assert.deepEqual(rig.api.requests, [], 'nothing reached the API');
  assert.deepEqual(await cookieValues(rig), before, 'no cookie came, went or changed');
  const { is_logged_in: isLoggedIn, id_token_claims: claims } = await session(victim);
  assert.equal(isLoggedIn, true);
  assert.equal(claims.sub, 'victim');
  assert.equal(await callApi(victim), 200);
}

async function cookieValues(rig) {
  return (await rig.cookies()).map(({ name, value }) => `${name}=${value}`).sort();
}

const ATTACK = `<!doctype html>
<title>Another site</title>
<link rel="icon" href="data:,">
<form id="form" method="post"><input name="everywhere" value="true"><button>Win a prize</button></form>
<a id="link">Read more</a>
<script>
  const target = new URLSearchParams(location.search).get('target');
  if (target) {
    document.getElementById('form').action = target;
    document.getElementById('link').href = target;
  }
</script>
`;
