// A development server behind Coatroom: a real Vite, whose pages sign in, call an API, and are updated hot.
//
// These tests never configure Vite for Coatroom: it runs as it comes.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';

import { callApiOnce } from '../rig/page_actions.js';
import { DevServerRig } from '../rig/dev_server.js';
import { request } from '../rig/http.js';
import { startPages } from '../rig/pages.js';
import { scenario } from '../rig/rig.js';

scenario('pages of vite sign in, call an api and are updated hot, all through coatroom', { Rig: DevServerRig }, async (rig) => {
  await rig.openBrowser();
  const tab = await rig.browser.tab();
  const sockets = [];
  tab.on('websocket', (socket) => sockets.push(socket.url()));
  const page = await rig.openApp('/orders/7?from=a-link');
  assert.deepEqual(await page.evaluate(() => [window.built, window.isPrebundled]), ['virtual', true]);
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('#greeting')).color), 'rgb(1, 2, 3)');
  assert.deepEqual(sockets.map((url) => new URL(url).origin), [rig.url.replace('http:', 'ws:')]);

  await rig.signIn(page);
  assert.equal(new URL(page.url()).pathname, '/orders/7');
  assert.equal((await callApiOnce(page)).status, 200);

  await page.evaluate(() => { window.mark = 'not reloaded'; });
  await rig.edit('greeting.ts', (text) => text.replace('before the edit', 'after the edit'));
  await page.waitForFunction(() => document.querySelector('#greeting').textContent === 'after the edit');
  assert.equal(await page.evaluate(() => window.mark), 'not reloaded');
  assert.equal((await callApiOnce(page)).status, 200);
  assert.deepEqual([...new Set(sockets.map((url) => new URL(url).host))], [new URL(rig.url).host]);

  const seen = await rig.seenByDevServer();
  const asked = (part) => seen.some(({ url }) => url.includes(part));
  for (const part of ['/@vite/client', '/src/main.ts', '/@id/__x00__virtual:built', '/node_modules/.vite/deps/picocolors.js?v=', '&t=']) {
    assert.ok(asked(part) || asked(part.replace('&', '?')), `${part} went through`);
  }
  for (const { url, headers } of seen) {
    for (const name of ['cookie', 'authorization', 'token-handler-version']) assert.equal(headers[name], undefined, `${name} ${url}`);
    assert.equal(headers.host, new URL(rig.devServer).host, url);
  }
  const upgrade = seen.find(({ headers }) => headers['sec-websocket-protocol'] === 'vite-hmr');
  assert.equal(upgrade.headers.origin, rig.devServer, 'the application is the dev server\'s own page');
});

scenario('the hot-reload socket is for the application alone', { Rig: DevServerRig }, async (rig, t) => {
  const page = await rig.openApp();
  const client = await page.evaluate(async () => (await fetch('/@vite/client')).text());
  const token = /const wsToken = "([^"]+)"/.exec(client)[1];
  const path = `/?token=${token}`;
  assert.equal(await upgrade(rig.url, path, rig.url), 101);
  for (const origin of ['https://evil.example', rig.devServer, 'http://127.0.0.1:1', 'null', '']) {
    assert.equal(await upgrade(rig.url, path, origin), 403, origin);
  }
  assert.equal(await upgrade(rig.url, path, [rig.url, rig.url]), 403, 'twice');

  const foreign = await startPages('<!doctype html><title>foreign</title>');
  t.after(() => foreign.close());
  await page.goto(foreign.url);
  const opened = await page.evaluate((url) => new Promise((done) => {
    const socket = new WebSocket(url, 'vite-hmr');
    socket.onopen = () => done(true);
    socket.onerror = () => done(false);
  }), `${rig.url.replace('http:', 'ws:')}${path}`);
  assert.equal(opened, false);
});

scenario('a development server that does not run is named, and its page comes once it does',
  { Rig: DevServerRig, withoutDevServer: true }, async (rig) => {
    const script = await request(`${rig.url}/src/main.ts`);
    assert.equal(script.status, 502);
    assert.equal(script.json().error_code, 'upstream_unavailable');
    assert.ok(script.json().detailed_error.includes(rig.devServer), script.text);
    assert.ok(script.json().detailed_error.includes('npm run dev'), script.text);

    await rig.openBrowser();
    const page = await rig.browser.tab();
    const answer = await page.goto(`${rig.url}/orders/7`);
    assert.equal(answer.status(), 502);
    assert.match(await page.innerText('body'), new RegExp(`nothing answers at ${rig.devServer};`));
    await rig.startDevServer();
    await page.waitForSelector('#status[data-state=signed-out]');
    assert.equal(new URL(page.url()).pathname, '/orders/7');
  });

scenario('what vite asks for goes through as it is, and another host is not served', { Rig: DevServerRig }, async (rig) => {
  for (const path of ['/', '/@vite/client', '/src/main.ts', '/src/main.ts?t=1', `/@fs${rig.project}/src/greeting.ts`, '/src/style.css?import']) {
    const direct = await request(`${rig.devServer}${path}`, { systemResolver: true });
    const through = await request(`${rig.url}${path}`);
    assert.equal(through.status, 200, path);
    assert.equal(through.text.length, direct.text.length, path);
    assert.equal(through.headers['content-type'], direct.headers['content-type'], path);
    assert.equal(through.headers['content-security-policy'], undefined, path);
  }
  const other = await request(`${rig.url}/src/main.ts`, { headers: { host: 'rebound.example' } });
  assert.equal(other.status, 421);
});

/** The status of a WebSocket handshake with this `Origin`. */
async function upgrade(url, path, origin) {
  const outgoing = http.request(`${url.replace('localhost', '127.0.0.1')}${path}`, {
    headers: {
      host: new URL(url).host,
      origin,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'vite-hmr',
    },
    agent: false,
    timeout: 10_000,
  });
  outgoing.end();
  const [response] = await Promise.race([once(outgoing, 'upgrade'), once(outgoing, 'response')]);
  outgoing.destroy();
  return response.statusCode;
}
