// An application that was written for Duende BFF moves over by configuration alone: `compatibility: duende`.
//
// Its page (`../duende`) is written from that product's documented contract and never adapted to Coatroom.

import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';

import { freePorts } from '../rig/ports.js';
import { passLoginAndConsent, confirmSignOut } from '../rig/provider_pages.js';
import { CLIENT_ID, CLIENT_SECRET, Rig, scenario, shopConfiguration } from '../rig/rig.js';

const PAGES = join(import.meta.dirname, '../duende');
const GUIDE = join(import.meta.dirname, '../../docs/migrating.md');
const TOKEN_LIFE = 2;
const OWN_NAMES = 'const refreshUrl = 1, send = 2, refresh = 3; let refreshing = 4;';

class DuendeRig extends Rig {
  /**
   * @param {object} [options]
   * @param {string} [options.compatibility]
   * @param {object} [options.session] the configuration's `session`
   * @param {object} [options.provider] options of the demo's provider
   * @param {boolean} [options.wrapped] the guide's wrapper stands in front of the page's script, which has names of
   *   its own like those of the wrapper
   */
  async start({ compatibility = 'duende', session = { store: 'memory' }, provider = {}, wrapped = false } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort] = await freePorts(3);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    const clients = [{
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris: [`${this.url}/bff/callback`],
      post_logout_redirect_uris: [`${this.url}/bff/logout/callback`],
    }];
    this.prepareProvider({ port: providerPort, redirectUri: clients[0].redirect_uris[0], options: { clients, ...provider } });
    await this.startProvider();
    await this.startApi();
    await cp(PAGES, join(this.directory, 'pages'), { recursive: true });
    if (wrapped) {
      const script = join(this.directory, 'pages/page.js');
      await writeFile(join(this.directory, 'pages/wrapper.js'), await wrapperOfTheGuide());
      await writeFile(script, `${OWN_NAMES}\n${await readFile(script, 'utf8')}`);
      const html = join(this.directory, 'pages/index.html');
      const before = '<script src="/page.js">';
      await writeFile(html, (await readFile(html, 'utf8')).replace(before, `<script src="/wrapper.js"></script>${before}`));
    }
    const app = { compatibility, session };
    const pages = { static: './pages' };
    this.configuration = shopConfiguration({ rig: this, port, adminPort, pages, app });
    await this.startCoatroom({ wait: 'ready', configuration: this.configuration });
  }

  /** Another process with the same key; what was in its memory is gone. */
  async restart() {
    await this.coatroom.stop();
    await this.startCoatroom({ wait: 'ready', configuration: { ...this.configuration, keys: [{ file: 'coatroom.key' }] } });
  }
}

async function wrapperOfTheGuide() {
  const [, wrapper] = /```js\n(\(\(\) => \{\n[^`]+)```/.exec(await readFile(GUIDE, 'utf8'));
  return wrapper;
}

const state = (page, name) => page.waitForSelector(`#status[data-state=${name}]`);

async function callApi(page) {
  await page.click('#call-api');
  const answer = await page.waitForSelector('#answer[data-status]:not([data-status=""])');
  return Number(await answer.getAttribute('data-status'));
}

async function claimsOf(page) {
  const rows = await page.$$eval('#claims tr', (found) => found.map((row) => [...row.cells].map((cell) => cell.textContent)));
  return Object.fromEntries(rows);
}

scenario('an application written for Duende BFF signs in, outlives its access token and signs out', {
  Rig: DuendeRig,
  provider: { accessTokenTtl: TOKEN_LIFE },
}, async (rig) => {
  const page = await rig.openApp('/orders/7?view=list');
  await state(page, 'signed-out');
  assert.equal(await page.innerText('#status'), 'nobody (401)');
  assert.equal(await callApi(page), 401);

  await page.click('#sign-in');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await state(page, 'signed-in');
  assert.equal(page.url(), `${rig.url}/orders/7?view=list`, 'a deep link survives the sign-in');
  const claims = await claimsOf(page);
  assert.equal(claims.sub, 'alice');
  assert.match(claims['bff:logout_url'], /^\/bff\/logout\?sid=[\w-]{43}$/);
  assert.ok(Number(claims['bff:session_expires_in']) > 1_700);

  // the page refreshes nothing, so the server has to
  assert.equal(await callApi(page), 200);
  const until = Date.now() + 30_000;
  while (rig.refreshes.length === 0 && Date.now() < until) assert.equal(await callApi(page), 200);
  assert.ok(rig.refreshes.length > 0, 'the token was renewed by the calls');
  await page.evaluate(() => window.checkSession());
  await state(page, 'signed-in');

  await page.click('#sign-out');
  await confirmSignOut(page, rig.issuer);
  await state(page, 'signed-out');
  assert.equal(page.url(), `${rig.url}/signed-out`);
  assert.equal(await callApi(page), 401);
});

scenario('with sessions in cookies the wrapper of the guide refreshes for an application written for Duende BFF', {
  Rig: DuendeRig,
  session: { store: 'cookie' },
  provider: { accessTokenTtl: TOKEN_LIFE },
  wrapped: true,
}, async (rig) => {
  const page = await rig.openApp();
  await page.click('#sign-in');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await state(page, 'signed-in');
  const until = Date.now() + 30_000;
  while (rig.refreshes.length === 0 && Date.now() < until) assert.equal(await callApi(page), 200);
  assert.equal(rig.refreshes.length, 1);
  assert.equal(rig.refreshes[0].status, 200);
  await page.click('#sign-out');
  await confirmSignOut(page, rig.issuer);
  await state(page, 'signed-out');
});

/**
 * A window with the guide's wrapper in it, where the first call of an API finds its token expired.
 *
 * @param {string} [origin] of the BFF, if it is a sibling
 */
async function wrappedWindow(origin = '') {
  const calls = [];
  let renewed = false;
  const fetch = async (input, init) => {
    const request = input instanceof Request ? input : new Request(new URL(input, 'https://shop.example/'), init);
    const { method, url, credentials } = request;
    calls.push({ method, url, credentials, csrf: request.headers.get('x-csrf'), body: await request.text() });
    if (url.endsWith('/bff/refresh')) renewed = true;
    return renewed ? new Response('{}') : new Response('', { status: 401, headers: { 'token-handler-error': 'access_token_expired' } });
  };
  const window = { fetch };
  const locks = { request: async (name, task) => task() };
  const wrapper = (await wrapperOfTheGuide()).replace("'/bff/refresh';", `'${origin}/bff/refresh';`);
  runInNewContext(wrapper, { window, navigator: { locks }, Request, ReadableStream });
  return { window, calls };
}

test('the wrapper of the guide sends a call again whose body it can repeat, and returns the 401 of any other', async () => {
  const url = 'https://shop.example/api/orders';
  const stream = () => new Blob(['order']).stream();
  for (const [name, input, init, status, sent] of [
    ['nothing', url, undefined, 200, ['', '']],
    ['a text', url, { method: 'POST', body: 'order' }, 200, ['order', 'order']],
    ['a request', new Request(url, { method: 'POST', body: 'order' }), undefined, 200, ['order', 'order']],
    ['a request of a stream', new Request(url, { method: 'POST', body: stream(), duplex: 'half' }), undefined, 200, ['order', 'order']],
    ['a stream', url, { method: 'POST', body: stream(), duplex: 'half' }, 401, ['order']],
  ]) {
    const { window, calls } = await wrappedWindow();
    assert.equal((await window.fetch(input, init)).status, status, name);
    const refreshes = calls.filter((call) => call.url.endsWith('/bff/refresh'));
    assert.deepEqual(refreshes.map(({ method, csrf }) => [method, csrf]), [['POST', '1']], name);
    assert.deepEqual(calls.filter((call) => call.url === url).map((call) => call.body), sent, name);
    // what comes after it has its token
    assert.equal((await window.fetch(url)).status, 200, name);
  }
});

test('the wrapper of the guide refreshes at a sibling origin as well, with its cookies', async () => {
  const { window, calls } = await wrappedWindow('https://bff.example.com');
  assert.equal((await window.fetch('https://bff.example.com/api/orders', { credentials: 'include' })).status, 200);
  const [refresh] = calls.filter((call) => call.method === 'POST');
  assert.deepEqual(refresh, {
    method: 'POST', url: 'https://bff.example.com/bff/refresh', credentials: 'include', csrf: '1', body: '',
  });
});

scenario('another site signs nobody out of an application written for Duende BFF', { Rig: DuendeRig }, async (rig) => {
  const page = await rig.openApp();
  await page.click('#sign-in');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await state(page, 'signed-in');

  const foreign = await rig.browser.tab();
  for (const path of ['/bff/logout', '/bff/logout?sid=guess', '/bff/logout?returnUrl=/signed-out']) {
    await foreign.goto(`${rig.issuer}/.well-known/openid-configuration`);
    await foreign.evaluate((url) => { location.href = url; }, rig.url + path);
    await foreign.waitForURL(`${rig.url}/**`);
    await state(foreign, 'signed-in');
  }
  await foreign.goto(`${rig.issuer}/.well-known/openid-configuration`);
  const told = await foreign.evaluate((url) => fetch(url, { credentials: 'include', headers: { 'X-CSRF': '1' } })
    .then(() => true, () => false), `${rig.url}/bff/user`);
  assert.equal(told, false, 'no other origin is told who is signed in');
  assert.equal(await callApi(page), 200);

  // a page of the application itself needs the right link as well
  const own = await rig.browser.tab();
  await own.goto(`${rig.url}/`);
  await state(own, 'signed-in');
  const [refused] = await Promise.all([
    own.waitForResponse((response) => response.url().endsWith('/bff/logout')),
    own.evaluate(() => { location.href = '/bff/logout'; }),
  ]);
  assert.equal(refused.status(), 403);
  assert.equal(await callApi(page), 200);

  // and the right one only as the address of a page: what a page of its own loads has all cookies
  const link = (await claimsOf(page))['bff:logout_url'];
  const [image] = await Promise.all([
    page.waitForResponse((response) => response.url() === rig.url + link),
    page.evaluate((address) => { new Image().src = address; }, link),
  ]);
  assert.equal(image.status(), 403);
  assert.equal(await callApi(page), 200);
});

scenario('a page that is told of nobody signs out all the same, and signs in again', { Rig: DuendeRig }, async (rig) => {
  const page = await rig.openApp();
  await page.click('#sign-in');
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await state(page, 'signed-in');
  const hasAnchor = async () => (await rig.cookies()).some(({ name }) => name.endsWith('-access'));
  assert.equal(await hasAnchor(), true);

  await rig.restart();
  await page.reload();
  await state(page, 'signed-out');
  assert.equal(await hasAnchor(), true, 'nobody cleared it');
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url().startsWith(`${rig.url}/bff/logout?`)),
    page.click('#sign-out'),
  ]);
  assert.equal(answer.status(), 303);
  await page.waitForURL(`${rig.url}/signed-out`);
  await state(page, 'signed-out');
  assert.equal(await hasAnchor(), false);

  // the provider was not told, so it asks for nothing
  await page.click('#sign-in');
  await state(page, 'signed-in');
});

scenario('an application that expects `null` for nobody gets it', { Rig: DuendeRig, compatibility: 'duende-200' }, async (rig) => {
  const page = await rig.openApp();
  await state(page, 'signed-out');
  assert.equal(await page.innerText('#status'), 'nobody (200)');
});
