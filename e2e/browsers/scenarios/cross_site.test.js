// What pages elsewhere can do to a signed-in user, in every engine: a sibling subdomain (the same site, so Strict cookies
// travel), a foreign site, and the application's own host without TLS.
//
// The attackers never have a cookie, and none gets planted. What Coatroom saw of each attempt is read from nginx, so a
// request that was never sent passes for no defence.

import assert from 'node:assert/strict';

import { eachEngine } from '../engine_rig.js';

const ATTEMPTS = [
  ['POST', '/auth/logout'], ['POST', '/auth/refresh'], ['POST', '/auth/login/start'], ['POST', '/auth/login/end'],
  ['GET', '/auth/session'], ['GET', '/api/orders'], ['POST', '/api/orders'],
];
const FORMS = ['/auth/logout', '/auth/refresh', '/auth/login/start', '/api/orders'];

const ATTACKERS = {
  sibling: 'a sibling subdomain',
  foreign: 'a foreign site',
  plain: 'the same host without TLS',
};

eachEngine('scripts and forms of a sibling, a foreign site and plain http change and read nothing', { replicas: 1 }, async (rig, t) => {
  const victim = await rig.openSignedIn('victim');
  for (const [kind, name] of Object.entries(ATTACKERS)) {
    const before = await victimsCookies(rig);
    const { tab, origin } = await rig.openAttacker(kind, '<!doctype html><title>Elsewhere</title><body>');
    const seenBefore = (await rig.seen()).length;

    const outcomes = await tab.evaluate(fetchAll, [rig.url, ATTEMPTS]);
    outcomes.forEach(({ mode, type, text }, index) => {
      assert.ok(type === 'refused' || (mode === 'no-cors' && type === 'opaque'), `${name}: ${JSON.stringify(ATTEMPTS[index >> 1])} ${type}`);
      assert.equal(text, '', 'nothing can be read');
    });
    assert.equal(await tab.evaluate(openSocket, `${rig.url.replace('https', 'wss')}/live/socket`), 'refused', name);
    await tab.evaluate(embedAll, [rig.url, ['/auth/session', '/auth/logout/continue', '/auth/login?return_to=/', '/api/orders']]);
    await tab.evaluate((url) => navigator.sendBeacon(url, new URLSearchParams({ everywhere: 'true' })), `${rig.url}/auth/logout`);
    await tab.until('the beacon arrives', async () => (
      (await rig.seen()).slice(seenBefore).filter(({ method, path }) => method === 'POST' && path === '/auth/logout').length >= 2
    ));
    for (const path of FORMS) {
      await tab.evaluate(sendForm, rig.url + path);
      await tab.waitForOrigin(rig.url);
      await tab.goto(`${origin}/`);
    }

    // Without the icon of an error page, which is that page's own.
    const seen = (await rig.seen()).slice(seenBefore).filter(({ path }) => path !== '/favicon.ico');
    t.diagnostic(`${rig.browser.name}, ${name}: ${told(seen)}`);
    for (const path of FORMS) assert.ok(seen.some((sent) => sent.path === path && sent.method === 'POST'), `${name}: ${path} was tried`);
    for (const { method, path, status } of seen.filter(({ method }) => method !== 'OPTIONS')) {
      // A sign-in that somebody else begins is a redirect to the provider, and ends nothing.
      if (path !== '/auth/login') assert.ok(status >= 400 || path === '/auth/logout/continue', `${name}: ${method} ${path} ${status}`);
    }

    assert.deepEqual(rig.api.requests, [], `${name}: nothing reached the API`);
    assert.deepEqual(rig.live.sockets, [], `${name}: no socket reached the API`);
    assert.deepEqual(rig.refreshes, [], `${name}: nothing reached the provider`);
    assert.deepEqual(await victimsCookies(rig), before, `${name}: no cookie of the session came, went or changed`);
    await tab.close();
  }
  assert.equal(await victim.evaluate(async () => (await window.client.session()).user.sub), 'victim');
  assert.equal(await victim.evaluate(async () => (await window.client.fetch(window.orders)).status), 200);
});

/** Runs in the page: each attempt without and with the custom header. */
function fetchAll([url, attempts]) {
  return Promise.all(attempts.flatMap((attempt) => ['no-cors', 'cors'].map((mode) => [...attempt, mode])).map(async ([method, path, mode]) => {
    try {
      const response = await fetch(url + path, {
        method, mode, credentials: 'include',
        headers: mode === 'cors' ? { 'token-handler-version': '1' } : {},
        body: method === 'POST' ? new URLSearchParams({ everywhere: 'true' }) : undefined,
      });
      return { mode, type: response.type, text: await response.text() };
    } catch {
      return { mode, type: 'refused', text: '' };
    }
  }));
}

/** Runs in the page. */
function openSocket(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('refused');
  });
}

/** Runs in the page: images, frames and scripts, until each has loaded or failed. */
function embedAll([url, paths]) {
  return Promise.all(paths.flatMap((path) => ['img', 'iframe', 'script'].map((name) => new Promise((resolve) => {
    const element = document.createElement(name);
    element.onload = element.onerror = () => resolve();
    element.src = url + path;
    document.body.append(element);
  })))).then(() => true);
}

/** Runs in the page: leaves it by a form's POST. */
function sendForm(target) {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = target;
  form.innerHTML = '<input name="everywhere" value="true">';
  document.body.append(form);
  setTimeout(() => form.submit());
}

async function victimsCookies(rig) {
  return (await rig.cookies()).filter(({ name }) => !name.includes('-login-')).map(({ name, value }) => `${name}=${value}`).sort();
}

/** What came of where: with the session's cookie or without, and what the browser said of it. */
function told(seen) {
  const sites = [...new Set(seen.map(({ site, method, path }) => site || `nothing (${method} ${path})`))].sort().join(', ');
  const count = seen.filter(({ signed_in: signedIn }) => signedIn).length;
  return `${seen.length} requests, ${count} with the session's cookie, Sec-Fetch-Site: ${sites}`;
}
