// A public token handler client library signs in through Coatroom unmodified: `@curity/token-handler-js-assistant`,
// which is a classic script with a global, so no bundler is needed. The stand-in beside it speaks the same on the
// wire, so that the interface stays compatible where the library is not installed.
//
// Neither script is ever adapted to Coatroom. To run with the library itself:
//     npm install --no-save @curity/token-handler-js-assistant

import assert from 'node:assert/strict';
import { cp, mkdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { confirmSignOut, passLoginAndConsent } from '../rig/provider_pages.js';
import { scenario } from '../rig/rig.js';

const ASSISTANT = join(import.meta.dirname, '../assistant');
const CALLBACK = '/signed-in';
const directory = join(tmpdir(), `coatroom-e2e-assistant-${process.pid}`);

const scripts = [['the stand-in for the assistant', join(ASSISTANT, 'dialect.js')]];
const library = installedLibrary();
if (library) scripts.push(['the public assistant library', library]);

for (const [index, [name, script]] of scripts.entries()) {
  const pages = join(directory, String(index));
  before(async () => {
    await mkdir(pages, { recursive: true });
    await cp(join(ASSISTANT, 'index.html'), join(pages, 'index.html'));
    await cp(join(ASSISTANT, 'page.js'), join(pages, 'page.js'));
    await cp(script, join(pages, 'assistant.js'));
  });

  scenario(`${name} signs in, refreshes and signs out`, { callback: CALLBACK, pages }, async (rig) => {
    const page = await rig.openApp();
    const call = (method, request) => page.evaluate(([method, request]) => window.call(method, request), [method, request]);
    assert.equal(await page.getAttribute('#status', 'data-state'), 'signed-out');
    const early = await call('refresh');
    assert.equal(early.error.status, 401);
    assert.equal(early.error.code, 'unauthorized', 'error details are readable');
    assert.ok(early.error.details.length > 0);

    const { value: start } = await call('startLogin', { extraAuthorizationParameters: { ui_locales: 'en', login_hint: 'alice' } });
    const asked = new URL(start.authorizationUrl).searchParams;
    assert.equal(asked.get('login_hint'), 'alice');
    assert.equal(asked.get('redirect_uri'), rig.url + CALLBACK);
    await page.evaluate((url) => { location.href = url; }, start.authorizationUrl);
    await passLoginAndConsent(page, rig.issuer, 'alice');
    await page.waitForSelector('#status[data-state=signed-in]');
    const loaded = JSON.parse(await page.innerText('#status'));
    assert.equal(loaded.idTokenClaims.sub, 'alice');
    assert.ok(loaded.accessTokenExpiresIn > 0);

    await page.reload();
    await page.waitForSelector('#status[data-state=signed-in]');
    assert.equal((await call('session')).value.idTokenClaims.sub, 'alice');
    assert.ok((await call('refresh')).value.accessTokenExpiresIn > 0);
    assert.equal(rig.refreshes.length, 1);

    const { value: logout } = await call('logout');
    assert.equal((await call('session')).value.isLoggedIn, false);
    await page.evaluate((url) => { location.href = url; }, logout.logoutUrl);
    await confirmSignOut(page, rig.issuer);
    await page.waitForSelector('#status[data-state=signed-out]');
  });

  scenario(`${name} hears of a sign-in that was refused`, { callback: CALLBACK, pages }, async (rig) => {
    const page = await rig.openApp();
    const { value: start } = await page.evaluate(() => window.call('startLogin'));
    await page.goto(start.authorizationUrl);
    await page.click('a[href$="/abort"]');
    await page.waitForSelector('#status[data-state=failed]');
    const { status, code } = JSON.parse(await page.innerText('#status'));
    assert.deepEqual([status, code], [400, 'authorization_failed']);
  });
}

after(() => rm(directory, { recursive: true, force: true }));

function installedLibrary() {
  try {
    return createRequire(import.meta.url).resolve('@curity/token-handler-js-assistant');
  } catch {
    return null;
  }
}
