// The getting-started guide, followed: the page's files and commands make an application that signs in, calls the API
// and signs out, before a development server and as it was built.
//
// These tests have no application of their own. What they look at is what somebody sees: words and buttons.

import assert from 'node:assert/strict';

import { GuideRig } from '../rig/guide_rig.js';
import { request } from '../rig/http.js';
import { confirmSignOut, passLoginAndConsent } from '../rig/provider_pages.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

scenario('the getting-started guide works, with the development server and with what was built', { Rig: GuideRig }, async (rig) => {
  await rig.runCommands();
  await rig.startVite();
  await rig.startServing();
  await rig.openBrowser();
  const page = await rig.browser.tab();

  await page.goto(`${rig.url}/?from=a-link#here`);
  await page.getByRole('heading', { name: 'Welcome' }).waitFor();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await useTheShop(rig, page);
  assert.equal(page.url(), `${rig.url}/?from=a-link#here`);

  await page.goto(`${rig.url}/?login_error=access_denied`);
  await page.getByRole('heading', { name: 'Hello Alice' }).waitFor();
  assert.equal(page.url(), `${rig.url}/`, 'handleCallback is called');

  const other = await rig.browser.context.newPage();
  await other.goto(rig.url);
  await useTheShop(rig, other);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await other.getByRole('heading', { name: 'Welcome' }).waitFor();
  assert.equal(await other.getByRole('button').count(), 1, 'only the button to sign in is left');
  assert.equal(await other.locator('pre').textContent(), '');
  await confirmSignOut(page, rig.issuer);
  await page.getByRole('heading', { name: 'Welcome' }).waitFor();

  await rig.run(rig.block('run', 'build'));
  await serveWhatWasBuilt(rig);
  await page.goto(rig.url);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await useTheShop(rig, page);
});

scenario('the guide\'s application in react works as it was built', { Rig: GuideRig, template: 'react-ts' }, async (rig) => {
  await rig.runCommands();
  await rig.run(rig.block('run', 'build'));
  await rig.startServing();
  await serveWhatWasBuilt(rig);
  await rig.openBrowser();
  const page = await rig.browser.tab();
  await page.goto(`${rig.url}/?from=a-link#here`);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await passLoginAndConsent(page, rig.issuer, 'alice');
  await useTheShop(rig, page);
  assert.equal(page.url(), `${rig.url}/?from=a-link#here`);

  await page.getByRole('button', { name: 'Sign out' }).click();
  await confirmSignOut(page, rig.issuer);
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert.equal(await page.getByRole('heading', { name: 'Hello' }).count(), 0);
});

/** Somebody is signed in: the name is there, the API answers, and a reload changes nothing. */
async function useTheShop(rig, page) {
  for (const visit of ['first', 'reloaded']) {
    await page.getByRole('heading', { name: 'Hello Alice' }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Sign in' }).count(), 0, visit);
    await page.getByRole('button', { name: 'My orders' }).click();
    await page.locator('pre', { hasText: 'Wool overcoat' }).waitFor();
    const { url, headers } = rig.api.requests.at(-1);
    assert.equal(url, '/orders', visit);
    assert.match(headers.authorization, /^Bearer ./, visit);
    assert.equal(headers.cookie, undefined, visit);
    assert.equal(await page.evaluate(() => document.cookie), '', visit);
    if (visit === 'first') await page.reload();
  }
}

/** Puts the page's other line in place of the last one, and waits until Coatroom has taken it on. */
async function serveWhatWasBuilt(rig) {
  const line = rig.block('line', 'coatroom.yaml');
  const lines = (await rig.run('cat coatroom.yaml')).trimEnd().split('\n');
  assert.match(lines.at(-1), /dev_server/);
  await rig.write('coatroom.yaml', [...lines.slice(0, -1), line].join('\n'));
  await until('the folder is served', async () => {
    const { status, headers } = await request(rig.url);
    return status === 200 && headers['content-security-policy'] !== undefined;
  });
}
