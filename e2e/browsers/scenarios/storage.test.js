// What each engine stored: the cookies with their attributes, and nothing of a token anywhere a script can read.
//
// The needles are the tokens that the provider really issued. No needle is ever written to the test's own output.

import assert from 'node:assert/strict';

import { findSecrets } from '../../rig/needles.js';
import { CLIENT_SECRET } from '../../rig/rig.js';
import { eachEngine } from '../engine_rig.js';
import { confirmSignOut, submitLogin } from '../forms.js';

const MINUTE = 60;
const HOUR = 60 * MINUTE;

eachEngine('every cookie is stored with the attributes of the table', { replicas: 1 }, async (rig) => {
  const tab = await rig.openApp();
  assert.deepEqual(await stored(rig), []);

  await tab.click('#sign-in');
  await submitLogin(tab, rig.issuer, 'alice');
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-login-[\w-]{8}$/, path: '/', sameSite: 'Lax', life: [9 * MINUTE, 10 * MINUTE] },
  ]);

  await tab.click('form button[type=submit]');
  await tab.waitForOrigin(rig.url);
  await tab.waitFor('#status[data-state=signed-in]');
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-access$/, path: '/', sameSite: 'Strict', life: [11 * HOUR, 12 * HOUR] },
    { name: /^__Secure-shop-session$/, path: '/auth', sameSite: 'Strict', life: [11 * HOUR, 12 * HOUR] },
  ]);

  await tab.click('#sign-out');
  await tab.waitForOrigin(rig.issuer);
  assertTable(await stored(rig), [
    { name: /^__Host-Http-shop-ended$/, path: '/', sameSite: 'Strict', life: [11 * HOUR, 12 * HOUR] },
    { name: /^__Host-Http-shop-logout$/, path: '/', sameSite: 'Lax', life: [9 * MINUTE, 10 * MINUTE] },
  ]);
});

eachEngine('no token is in anything that a script can read', { replicas: 1 }, async (rig) => {
  const tab = await rig.openSignedIn('alice', '/deep/link?x=1#frag');
  const readable = [await tab.evaluate(readableByScripts)];
  assert.equal(readable[0].cookie, '', 'no cookie at all');
  assert.equal(await tab.evaluate(async () => (await window.client.fetch(window.orders)).status), 200);
  await tab.evaluate(() => window.client.refresh().then(() => true));
  readable.push(await tab.evaluate(readableByScripts));
  await tab.reload();
  await tab.waitFor('#status[data-state=signed-in]');
  readable.push(await tab.evaluate(readableByScripts));

  const needles = rig.issued.map(({ kind, token }) => ({ kind, text: token }));
  assert.deepEqual([...new Set(needles.map(({ kind }) => kind))].sort(), ['access_token', 'id_token', 'refresh_token']);
  needles.push({ kind: 'client_secret', text: CLIENT_SECRET });
  for (const state of readable) assert.deepEqual(findSecrets(Buffer.from(JSON.stringify(state)), needles), []);

  // The same search finds what is put there: in this engine, in each of these places.
  for (const place of ['localStorage', 'sessionStorage', 'indexedDB', 'caches', 'name', 'cookie']) {
    await tab.evaluate(plant, [place, needles[0].text]);
    const found = findSecrets(Buffer.from(JSON.stringify((await tab.evaluate(readableByScripts))[place])), needles);
    assert.ok(found.includes(`${needles[0].kind} as it is`), place);
  }

  await tab.click('#sign-out');
  await confirmSignOut(tab, { issuer: rig.issuer, home: rig.appUrl });
  await tab.waitFor('#status[data-state=signed-out]');
});

/** Runs in the page: all that a script could send somewhere else. */
async function readableByScripts() {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const databases = await Promise.all((await indexedDB.databases()).map(async ({ name }) => {
    const database = await done(indexedDB.open(name));
    const stores = [...database.objectStoreNames];
    const values = await Promise.all(stores.map((store) => done(database.transaction(store).objectStore(store).getAll())));
    database.close();
    return { name, stores, values };
  }));
  const kept = await Promise.all((await caches.keys()).map(async (name) => {
    const cache = await caches.open(name);
    return Promise.all((await cache.keys()).map(async ({ url }) => [url, await (await cache.match(url)).text()]));
  }));
  return {
    cookie: document.cookie,
    localStorage: { ...localStorage },
    sessionStorage: { ...sessionStorage },
    indexedDB: databases,
    caches: kept,
    name: window.name,
    address: location.href,
    history: history.state,
    referrer: document.referrer,
    document: document.documentElement.outerHTML,
    requests: performance.getEntries().map(({ name }) => name),
    state: window.client.state,
    workers: (await navigator.serviceWorker?.getRegistrations())?.length,
  };
}

/** Runs in the page: puts `text` where it should not be. */
async function plant([place, text]) {
  if (place === 'name') window.name = text;
  else if (place === 'cookie') document.cookie = `planted=${text}; Secure`;
  else if (place === 'caches') await (await caches.open('planted')).put('/planted', new Response(text));
  else if (place === 'indexedDB') {
    await new Promise((resolve, reject) => {
      const opened = indexedDB.open('planted');
      opened.onupgradeneeded = () => opened.result.createObjectStore('texts').put(text, 1);
      opened.onsuccess = () => resolve(opened.result.close());
      opened.onerror = () => reject(opened.error);
    });
  } else window[place].setItem('planted', text);
}

/**
 * The cookies of the application's host that live, by name, each with its life in seconds.
 *
 * Firefox lists a cookie that `Max-Age=0` ended as long as nothing has swept it away, when its clock went on by a
 * millisecond between the two readings that it compares. Nobody is sent it, and it must have no value either.
 */
async function stored(rig) {
  const cookies = await rig.cookies();
  const now = Date.now() / 1_000;
  const listed = cookies.map((cookie) => ({ ...cookie, life: cookie.expires - now }));
  for (const { name, value } of listed.filter(ended)) assert.equal(value, '', `${name} has ended and still has a value`);
  return listed.filter((cookie) => !ended(cookie)).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `expires` is -1 for a cookie of the browser's session, which would fail the table. */
function ended({ expires, life }) {
  return expires > 0 && life <= 0;
}

function assertTable(cookies, table) {
  assert.equal(cookies.length, table.length, `stored: ${cookies.map(({ name }) => name).join(', ')}`);
  cookies.forEach((cookie, index) => {
    const { name, path, sameSite, life: [shortest, longest] } = table[index];
    assert.match(cookie.name, name);
    assert.deepEqual(
      { domain: cookie.domain, path: cookie.path, sameSite: cookie.sameSite, httpOnly: cookie.httpOnly, secure: cookie.secure },
      { domain: 'shop.app.localhost', path, sameSite, httpOnly: true, secure: true },
      cookie.name,
    );
    // A second more for the clock between the answer and this line.
    assert.ok(cookie.life > shortest - 1 && cookie.life <= longest + 1, `${cookie.name} lives for ${cookie.life} s`);
  });
}
