// Signing in, coming back, and signing out, in every engine: with the provider's real forms, over TLS.
//
// No cookie is planted, no redirect followed by hand: what the engine does with them is what is tested.

import assert from 'node:assert/strict';

import { eachEngine } from '../engine_rig.js';
import { chromium } from '../engines/chromium.js';
import { firefox } from '../engines/firefox.js';
import { expired } from '../page.js';

const DEEP_LINK = '/deep/link?x=1&y=%C3%A9#frag/ment?z=2';

eachEngine('a person signs in at a deep link, reloads, opens another tab, goes back, and signs out', {}, async (rig) => {
  const tab = await rig.openSignedIn('alice', DEEP_LINK);
  assert.equal(await text(tab), 'signed in as alice');
  assert.equal(await tab.url(), `${rig.url}${DEEP_LINK}`, 'query and fragment included');
  assert.equal(await tab.evaluate(() => location.hash), '#frag/ment?z=2');
  assert.equal(await order(tab), 200);

  await tab.reload();
  await tab.waitFor('#status[data-state=signed-in]');
  assert.equal(await text(tab), 'signed in as alice');
  assert.equal(await tab.evaluate(() => window.states.includes('signed-out')), false, 'never shown as signed out');

  const second = await rig.openApp();
  assert.equal(await text(second), 'signed in as alice');

  // To a page of the provider that is over, or to the application's own of before: no dead end either way.
  await tab.back();
  await tab.goto(`${rig.url}/`);
  await tab.waitFor('#status[data-state=signed-in]');
  assert.equal(await order(tab), 200);

  await rig.signOut(tab);
  assert.equal(await order(tab), 401);
  assert.equal(rig.refreshes.length, 0);
});

eachEngine('the page of the application that the provider returns to finishes the sign-in', {
  callback: '/signed-in', client: { callbackPath: '/signed-in' },
}, async (rig) => {
  const tab = await rig.openSignedIn('alice', DEEP_LINK);
  assert.equal(await tab.url(), `${rig.url}${DEEP_LINK}`);
  assert.equal(await order(tab), 200);
  await tab.reload();
  await tab.waitFor('#status[data-state=signed-in]');
});

// Not in WebKitGTK: its cookie jar knows a site only by a listed public suffix, and below `localhost` takes two hosts for
// two sites, so that what a `fetch` sets is not kept. That says nothing of hosts below a real domain.
eachEngine('an application beside its token handler signs in, reloads, refreshes and signs out', {
  engines: [chromium, firefox],
  apart: true, accessTokenTtl: 3, client: { refreshAhead: false },
}, async (rig) => {
  const tab = await rig.openSignedIn('alice', DEEP_LINK);
  assert.equal(await tab.url(), `${rig.appUrl}${DEEP_LINK}`);
  await tab.reload();
  await tab.waitFor('#status[data-state=signed-in]');
  await expired(tab);
  rig.provider.settings.accessTokenTtl = 300;
  assert.equal(await order(tab), 200);
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  await rig.signOut(tab);
});

eachEngine('the back button from the provider leads to a page that knows and works', {}, async (rig, t) => {
  const tab = await rig.openApp('/before');
  await tab.goto(`${rig.url}/start`);
  await tab.waitFor('#status[data-state=signed-out]');
  await tab.click('#sign-in');
  await tab.waitForOrigin(rig.issuer);
  await tab.back();
  await tab.waitForOrigin(rig.url);
  await tab.waitFor('#status[data-state=signed-out]');
  const wasKept = await tab.evaluate(() => window.states.length > 0 && document.getElementById('status').dataset.error === 'came_back');
  t.diagnostic(`${rig.browser.name}: the page was ${wasKept ? 'kept as it was' : 'loaded again'}`);
  await rig.signIn(tab);

  // Signed out here, and at the provider not yet.
  await tab.click('#sign-out');
  await tab.waitForOrigin(rig.issuer);
  await tab.back();
  await tab.waitForOrigin(rig.url);
  await tab.waitFor('#status[data-state=signed-out]');
});

eachEngine('a sign-out is seen by the other tabs at once', {}, async (rig) => {
  const leaver = await rig.openSignedIn('alice');
  const others = [await rig.openApp(), await rig.openApp('/other')];
  for (const other of others) await other.waitFor('#status[data-state=signed-in]');
  await leaver.click('#sign-out');
  for (const other of others) await other.waitFor('#status[data-state=signed-out]');
  for (const other of others) assert.equal(await order(other), 401);
});

const text = (tab) => tab.evaluate(() => document.getElementById('status').textContent);

/** The status of one API call, made by the library. */
const order = (tab) => tab.evaluate(async () => (await window.client.fetch(window.orders)).status);
