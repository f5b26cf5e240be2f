// Where tokens must not be: in anything that a script can read, in any answer to the browser, in any log; and how the
// cookies that hold them are stored.
//
// The needles are the tokens that the provider really issued. No needle is ever written to the test's own output.

import assert from 'node:assert/strict';

import { callApi, callApiOnce, postToAgent } from '../rig/page_actions.js';
import { passLoginAndConsent, submitConsent, submitLogin } from '../rig/provider_pages.js';
import { CLIENT_SECRET, scenario } from '../rig/rig.js';

const MINUTE = 60;
const HOUR = 60 * MINUTE;

for (const callback of ['agent', '/signed-in']) {
  scenario(`no token is readable in the browser or in any answer (callback: ${callback})`, { callback }, async (rig) => {
    await rig.openBrowser();
    const answers = recordAnswers(rig);
    const readable = [];
    const look = async (page) => readable.push(await readableByScripts(page));

    const page = await rig.openApp('/deep/link?x=1#frag');
    await look(page);
    await rig.signIn(page);
    await look(page);
    assert.equal(await callApi(page), 200);
    assert.equal((await callApiOnce(page, '/whoami')).status, 200);
    assert.equal((await postToAgent(page, '/refresh')).status, 200);
    assert.equal(await callApi(page), 200);
    await look(page);
    await page.reload();
    await page.waitForSelector('#status[data-state=signed-in]');
    await rig.signOut(page);
    await look(page);

    const kinds = new Set(rig.issued.map(({ kind }) => kind));
    assert.deepEqual([...kinds].sort(), ['access_token', 'id_token', 'refresh_token']);
    for (const { headers } of rig.api.requests) {
      assert.ok(rig.issued.some(({ token }) => headers.authorization === `Bearer ${token}`));
    }
    const needles = needlesOf(rig.issued);
    for (const state of readable) assertHoldsNone(needles, JSON.stringify(state), 'what scripts can read');
    for (const { url, body, headers } of await Promise.all(answers)) {
      assertHoldsNone(needles, body, `the body of ${url}`);
      // RP-initiated logout sends the ID token to the provider through the browser: the one answer with a token in it.
      const isLogout = new URL(url).pathname === '/auth/logout/continue';
      const told = headers.filter(({ name }) => !(isLogout && name.toLowerCase() === 'location'));
      assertHoldsNone(needles, JSON.stringify(told), `the headers of ${url}`);
    }
    assertHoldsNone(needles, rig.coatroom.log(), 'the log');
  });
}

scenario('every cookie is stored with the attributes of the table (callback: agent)', {}, async (rig) => {
  const page = await rig.openApp();
  assert.deepEqual(await stored(rig), []);

  await page.click('#sign-in');
  await submitLogin(page, rig.issuer, 'alice');
  const [login, ...others] = await stored(rig);
  assert.deepEqual(others, []);
  assertLike(login, { name: /^__Host-Http-shop-login-[\w-]{8}$/, path: '/', sameSite: 'Lax', life: [9 * MINUTE, 10 * MINUTE] });

  await submitConsent(page);
  await page.waitForSelector('#status[data-state=signed-in]');
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-access$/, path: '/', sameSite: 'Strict', life: [MINUTE, 12 * HOUR] },
    { name: /^__Secure-shop-session$/, path: '/auth', sameSite: 'Strict', life: [MINUTE, 12 * HOUR] },
  ]);

  assert.equal((await postToAgent(page, '/logout')).status, 200);
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-ended$/, path: '/', sameSite: 'Strict', life: [11 * HOUR, 12 * HOUR] },
    { name: /^__Host-Http-shop-logout$/, path: '/', sameSite: 'Lax', life: [9 * MINUTE, 10 * MINUTE] },
  ]);
});

scenario('every cookie is stored with the attributes of the table (callback: /signed-in)', { callback: '/signed-in' }, async (rig) => {
  const page = await rig.openApp();
  await page.click('#sign-in');
  await page.waitForURL((url) => url.origin === rig.issuer);
  const pending = await stored(rig);
  assertTable(pending, [
    { name: /^__Host-Http-shop-login-[\w-]{8}$/, path: '/', sameSite: 'Strict', life: [9 * MINUTE, 10 * MINUTE] },
  ]);
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await page.waitForSelector('#status[data-state=signed-in]');
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-access$/, path: '/', sameSite: 'Strict', life: [MINUTE, 12 * HOUR] },
    { name: /^__Secure-shop-session$/, path: '/auth', sameSite: 'Strict', life: [MINUTE, 12 * HOUR] },
  ]);
});

scenario('a large access token is split over cookies that the browser keeps', { provider: { accessTokenPadding: 6_000 } }, async (rig) => {
  const page = await rig.openSignedIn();
  const pieces = (await stored(rig)).filter(({ name }) => name.startsWith('__Host-Http-shop-access'));
  assert.ok(pieces.length >= 2, 'more than one cookie');
  for (const { name, value } of pieces) assert.ok(name.length + value.length <= 4_093, `${name} is too long`);
  for (const piece of pieces) {
    assertLike(piece, { name: /^__Host-Http-shop-access/, path: '/', sameSite: 'Strict', life: [MINUTE, 12 * HOUR] });
  }
  assert.equal(await callApi(page), 200);
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  assert.equal(await callApi(page), 200);

  // A shorter token leaves no stale piece that would confuse the next call, and sign-out takes every piece away.
  rig.provider.settings.accessTokenPadding = 0;
  assert.equal((await postToAgent(page, '/refresh')).status, 200);
  assert.equal(await callApi(page), 200);
  await rig.signOut(page);
  assert.deepEqual((await stored(rig)).filter(({ name }) => /-(access|session)/.test(name)), []);
});

scenario('abandoned sign-ins do not fill the browser with cookies', {}, async (rig) => {
  const page = await rig.openApp();
  for (let attempt = 0; attempt < 8; attempt += 1) await page.evaluate(() => window.client.startLogin());
  const pending = (await stored(rig)).filter(({ name }) => name.includes('-login-'));
  assert.ok(pending.length >= 1 && pending.length <= 5, `${pending.length} pending sign-ins`);
  await rig.signIn(page);
  assert.equal(await callApi(page), 200);
});

/** Every answer of the application's origin from now on, as promises of `{url, body, headers}`. */
function recordAnswers(rig) {
  const answers = [];
  rig.browser.context.on('response', (response) => {
    if (!response.url().startsWith(`${rig.url}/`)) return;
    answers.push((async () => {
      const headers = await response.headersArray();
      // A redirect has no body, and a page that was left may have lost its.
      const body = await response.text().catch(() => '');
      return { url: response.url(), body, headers };
    })());
  });
  return answers;
}

function readableByScripts(page) {
  return page.evaluate(async () => ({
    cookie: document.cookie,
    localStorage: { ...localStorage },
    sessionStorage: { ...sessionStorage },
    databases: await indexedDB.databases(),
    caches: await caches.keys(),
    address: location.href,
    history: history.state,
    name: window.name,
    referrer: document.referrer,
    document: document.documentElement.outerHTML,
    requests: performance.getEntries().map(({ name }) => name),
  }));
}

/** The tokens, the parts of a JWT that nobody could guess, both once more in base64, and the client's secret. */
function needlesOf(issued) {
  const parts = issued.flatMap(({ token }) => {
    const segments = token.split('.');
    return segments.length === 3 ? [token, segments[1], segments[2]] : [token];
  });
  return [...parts, CLIENT_SECRET].flatMap((part) => {
    const base64 = Buffer.from(part).toString('base64url');
    // Without the last characters, which depend on what follows.
    return [part, base64.slice(0, -4)];
  });
}

function assertHoldsNone(needles, text, where) {
  const found = needles.findIndex((needle) => text.includes(needle));
  assert.equal(found, -1, `${where} holds needle ${found}`);
}

/** The cookies of the application's host by name, each with its life in seconds. */
async function stored(rig) {
  const cookies = await rig.cookies();
  const now = Date.now() / 1_000;
  return cookies
    .map((cookie) => ({ ...cookie, life: cookie.expires - now }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function assertTable(cookies, table) {
  const told = cookies.map(({ name }) => name);
  assert.equal(cookies.length, table.length, `stored: ${told.join(', ')}`);
  cookies.forEach((cookie, index) => assertLike(cookie, table[index]));
}

function assertLike(cookie, { name, path, sameSite, life: [shortest, longest] }) {
  assert.match(cookie.name, name);
  const { domain, httpOnly, secure } = cookie;
  assert.deepEqual(
    { domain, path: cookie.path, sameSite: cookie.sameSite, httpOnly, secure },
    { domain: 'localhost', path, sameSite, httpOnly: true, secure: true },
    cookie.name,
  );
  // A second more for the clock between the answer and this line.
  assert.ok(cookie.life > shortest - 1 && cookie.life <= longest + 1, `${cookie.name} lives for ${cookie.life} s`);
}
