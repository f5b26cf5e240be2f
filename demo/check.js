// Proves that the running demo works: a headless Chromium signs in through the provider's own forms, as a person
// would, presses everything there is to press, and signs out again. Used by `node run.js --check`.
//
// It never starts or stops the demo, never takes a shortcut past a form, and lets no request leave the machine.

import { strict as assert } from 'node:assert';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

import { chromium } from 'playwright-core';

import { assertContrast, assertFits, assertTouchTargets } from './looks.js';

const STEP_MILLISECONDS = 15_000;
const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-gpu',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
];

// Every trial that stays on the page, in this order: the last one ends the session.
const WITHOUT_SESSION = ['unauthorized', 'invalid_request', 'not_found', 'method_not_allowed', 'login_state_invalid'];
const WITH_SESSION = [
  ...WITHOUT_SESSION, 'csrf_rejected', 'payload_too_large', 'upstream_unavailable', 'upstream_timeout',
  'provider_unavailable', 'provider_error', 'access_token_expired',
];

/**
 * @param {object} options
 * @param {string} options.url the application
 * @param {string} options.provider the origin of the provider
 * @param {Buffer} [options.certificate] the application's own certificate: the browser takes this one alone
 * @param {string} [options.screenshot] where to write pictures: this name for the wide signed-in page, further ones
 *   (`-signed-out`, `-phone`, `-dark` and so on) beside it
 * @param {(line: string) => void} [options.report]
 */
export async function checkDemo({ url, provider, certificate, screenshot, report = console.log }) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: certificate ? [...FLAGS, `--ignore-certificate-errors-spki-list=${fingerprint(certificate)}`] : FLAGS,
    timeout: 2 * STEP_MILLISECONDS,
    // Whoever called decides what a signal means.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const context = await browser.newContext({ viewport: WIDE, acceptDownloads: true, reducedMotion: 'reduce' });
    context.setDefaultTimeout(STEP_MILLISECONDS);
    const strangers = strangersOf(context, [url, provider]);
    const page = await context.newPage();
    const demo = { url, provider, context, page, complaints: complaintsOf(page, url), shoot: picturesOf(page, screenshot) };

    for (const [what, step] of STEPS) {
      await step(demo);
      report(what);
    }
    assert.deepEqual(demo.complaints, [], 'the browser complains about nothing');
    assert.deepEqual(strangers, [], 'nothing was asked for elsewhere');
  } finally {
    await browser.close();
  }
}

const STEPS = [
  ['the signed-out page, reached by a deep link, on every screen', signedOutPage],
  ['what goes wrong without a session', ({ page }) => trials(page, WITHOUT_SESSION)],
  ['a sign-in that is cancelled at the provider', cancelledSignIn],
  ['sign-in by keyboard, through the login and the consent form, back at the deep link', signIn],
  ['claims, four clocks, orders and the protected image; no cookie that a script could read', signedInPage],
  ['the API got a Bearer token and no cookie', oneCall],
  ['a thief finds no token, and the page says what remains', thief],
  ['the download', download],
  ['refresh', refresh],
  ['what goes wrong with a session, each error as announced', ({ page }) => trials(page, WITH_SESSION)],
  ['the looks: light and dark, wide and narrow, contrast and touch targets', looks],
  ['the switches stop and start the API and the provider, and nobody is signed out', switches],
  ['the stage hands take orders from this page alone', stageHands],
  ['cancelled at the provider while signed in: still signed in', cancelledWhileSignedIn],
  ['an old callback link leads into the app', oldCallback],
  ['the provider ends the session: signed out, and back with one press', endedByProvider],
  ['sign-out, at the provider too, noticed by the other tab', signOut],
];

async function signedOutPage({ url, page, shoot }) {
  await page.goto(`${url}/orders/A-1058#orders`);
  await page.locator('#status-text', { hasText: 'The shop is open.' }).waitFor();
  await page.locator('#api-state', { hasText: 'The API runs' }).waitFor();
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    await assertContrast(page, `signed out, ${colorScheme}`);
  }
  await page.setViewportSize(PHONE);
  await assertFits(page);
  await assertTouchTargets(page);
  await shoot('-signed-out-phone');
  await page.setViewportSize(WIDE);
  await shoot('-signed-out');
}

async function cancelledSignIn({ url, page, shoot }) {
  await page.locator('#sign-in').click();
  await page.locator('input[name=login]').waitFor();
  await assertContrast(page, 'the login form');
  await shoot('-provider');
  await page.locator('a[href$="/abort"]').click();
  await page.locator('#notice-text', { hasText: 'You cancelled the sign-in.' }).waitFor();
  assert.equal(await page.locator('#sign-in').isVisible(), true);
  assert.equal(page.url(), `${url}/`, 'no mark stays in the address');
}

async function signIn({ url, page }) {
  await page.goto(`${url}/orders/A-1058#orders`);
  await page.locator('#sign-in').focus();
  await page.keyboard.press('Enter');
  await page.locator('input[name=login]').fill('alice');
  await page.locator('input[name=password]').fill('any password');
  await page.keyboard.press('Enter');
  await page.locator('input[name=prompt][value=consent]').waitFor({ state: 'attached' });
  await page.locator('button[type=submit]').click();
  await page.locator('#user-name', { hasText: 'Alice' }).waitFor();
  assert.equal(page.url(), `${url}/orders/A-1058#orders`, 'the deep link comes back with its fragment');
}

async function signedInPage({ url, page, context }) {
  await page.locator('#order-rows a[aria-current=page]').waitFor();
  assert.equal(await page.locator('#order-rows a').count(), 4);
  await page.waitForFunction(() => document.getElementById('photo').naturalWidth > 0);
  assert.match(await page.locator('#claim-rows').innerText(), /alice@example\.com/);

  const clocks = Object.fromEntries(await page.locator('#clock-rows li').evaluateAll((rows) => rows.map((row) => [
    row.dataset.clock, row.querySelector('.time').textContent,
  ])));
  const session = await ask(page, '/auth/session');
  const told = { access_token_expires_in: session.access_token_expires_in, ...session.session };
  for (const name of ['access_token_expires_in', 'idle_expires_in', 'expires_in', 'provider_expires_in']) {
    const shown = clocks[name];
    if (typeof told[name] !== 'number') assert.equal(shown, 'not told by the provider', name);
    else assert.ok(Math.abs(seconds(shown) - told[name]) <= 3, `${name}: ${shown} is about ${told[name]} seconds`);
  }

  assert.equal(await page.evaluate(() => document.cookie), '', 'no script reads a cookie');
  const cookies = (await context.cookies(url)).filter(({ domain }) => domain === 'localhost');
  assert.ok(cookies.length > 0);
  for (const { name, httpOnly, secure } of cookies) assert.ok(httpOnly && secure, `${name} is HttpOnly and Secure`);
}

async function oneCall({ page }) {
  await page.locator('#call-api').click();
  await page.locator('#api-details').waitFor();
  const facts = await page.locator('#api-rows').innerText();
  assert.match(facts, /Authorization\s+Bearer token of \d+ characters/);
  assert.match(facts, /Cookies\s+none/, 'no cookie reaches the API');
  assert.match(await page.locator('#token-rows').innerText(), /sub\s+alice/);
  const headers = await page.locator('#header-rows').innerText();
  assert.match(headers, /x-request-id/);
  assert.doesNotMatch(headers, /^cookie$/m);
}

async function thief({ page }) {
  await page.locator('#steal').click();
  const verdict = page.locator('#loot-verdict');
  await verdict.locator('b', { hasText: 'No token to carry away.' }).waitFor();
  assert.match(await verdict.innerText(), /can call the API as you/, 'it is honest about the rest');

  // The tour would notice a token: it looks for real.
  await page.evaluate(() => localStorage.setItem('leak', 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'));
  await page.locator('#steal').click();
  await verdict.locator('b', { hasText: '1 of these look like a token' }).waitFor();
  await page.evaluate(() => localStorage.removeItem('leak'));
  await page.locator('#steal').click();
  await verdict.locator('b', { hasText: 'No token to carry away.' }).waitFor();
}

async function download({ page }) {
  const waiting = page.waitForEvent('download');
  await page.locator('#report').click();
  const file = await waiting;
  assert.equal(file.suggestedFilename(), 'orders.csv');
  assert.equal(await file.failure(), null);
}

async function refresh({ page }) {
  await page.locator('#refresh').click();
  await page.locator('#notice-text', { hasText: 'The tokens are new.' }).waitFor();
  assert.equal(await page.locator('#notice.bad').count(), 0);
  await page.locator('#notice-close').click();
}

/** Presses the buttons of trials, and looks at what they say themselves. */
async function trials(page, ids) {
  for (const id of ids) {
    await page.locator(`#try-${id}`).click();
    await page.locator(`#trial-${id}[data-outcome]`).waitFor();
    const steps = await page.locator(`#steps-${id}`).innerText();
    assert.equal(await page.locator(`#trial-${id}`).getAttribute('data-outcome'), 'seen', `${id}:\n${steps}`);
    await page.locator(`#try-${id}:not([aria-busy])`).waitFor();
  }
}

async function looks({ page, complaints, shoot }) {
  await page.locator('#steal').click();
  await page.locator('#loot-verdict b').waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await shoot('');
  await assertContrast(page, 'signed in, light');
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await assertContrast(page, 'signed in, dark');
  await shoot('-dark');
  await page.setViewportSize(PHONE);
  await assertFits(page);
  await assertTouchTargets(page);
  await shoot('-phone-dark');
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await shoot('-phone');
  await page.setViewportSize({ width: 320, height: 700 });
  await assertFits(page);
  await page.setViewportSize(WIDE);
  assert.deepEqual(complaints, [], 'the browser complains about nothing');
}

async function switches({ page, shoot }) {
  await page.locator('#api-switch').click();
  await page.locator('#api-state', { hasText: 'The API is stopped' }).waitFor();
  await page.locator('#call-api').click();
  await page.locator('#notice.bad #notice-text', { hasText: 'The shop does not answer right now. You are still signed in.' }).waitFor();
  await shoot('-stopped', { fullPage: false });
  await page.locator('#api-switch').click();
  await page.locator('#api-state', { hasText: 'The API runs' }).waitFor();

  await page.locator('#provider-switch').click();
  await page.locator('#provider-state', { hasText: 'The provider is stopped' }).waitFor();
  await page.locator('#refresh').click();
  await page.locator('#notice.bad #notice-text', { hasText: 'The sign-in service takes a break. You are still signed in.' }).waitFor();
  await page.reload();
  await page.locator('#user-name', { hasText: 'Alice' }).waitFor();
  await page.locator('#order-rows a').first().waitFor();
  await page.locator('#provider-switch', { hasText: 'Start' }).click();
  await page.locator('#provider-state', { hasText: 'The provider runs' }).waitFor();
  await refresh({ page });
}

async function stageHands({ page }) {
  const post = (headers, body) => page.evaluate(async (options) => (await fetch('/demo/stage', options)).status, { method: 'POST', headers, body });
  assert.equal(await post({}, '{"api":"stopped"}'), 403, 'a form cannot send the header');
  assert.equal(await post({ 'demo-stage': '1' }, '{"api":"exploded"}'), 400);
  assert.equal(await post({ 'demo-stage': '1' }, '{"constructor":"stopped"}'), 400);
  assert.equal(await post({ 'demo-stage': '1' }, 'stopped'), 400);
  assert.equal((await ask(page, '/demo/stage', { 'demo-stage': '1' })).api, 'running');
}

async function cancelledWhileSignedIn({ page }) {
  await page.locator('#try-access_denied').click();
  await page.locator('a[href$="/abort"]').click();
  await page.locator('#trial-access_denied[data-outcome=seen]').waitFor();
  assert.match(await page.locator('#steps-access_denied').innerText(), /\?login_error=access_denied[^]*says: signed in/);
}

async function oldCallback({ url, page }) {
  await page.locator('#try-old_callback').click();
  await page.locator('#trial-old_callback[data-outcome=seen]').waitFor();
  assert.equal(page.url(), `${url}/`);
  assert.match(await page.locator('#steps-old_callback').innerText(), /says: signed in/);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, 'no mark of the trial stays');
}

async function endedByProvider({ page }) {
  await trials(page, ['session_expired']);
  await page.locator('#notice-text', { hasText: 'Your session has ended.' }).waitFor();
  assert.equal(await page.locator('#claim-rows').innerText(), '', 'nothing of the user stays on the page');
  await page.locator('#notice-action', { hasText: 'Sign in' }).click();
  // The provider still knows the user: no form this time.
  await page.locator('#user-name', { hasText: 'Alice' }).waitFor();
}

async function signOut({ url, context, page }) {
  const other = await context.newPage();
  await other.goto(`${url}/`);
  await other.locator('#user-name', { hasText: 'Alice' }).waitFor();

  await page.locator('#sign-out').click();
  await page.locator('button[name=logout][value=yes]').waitFor();
  await other.locator('#notice-text', { hasText: 'You have signed out, in another tab.' }).waitFor();
  await other.locator('#sign-in').waitFor();
  await page.locator('button[name=logout][value=yes]').click();
  await page.locator('#sign-in').waitFor();
  assert.equal(new URL(page.url()).origin, url);
  assert.equal((await ask(page, '/api/orders')).error_code, 'unauthorized', 'the API is closed after sign-out');
}

function ask(page, path, headers = { 'token-handler-version': '1' }) {
  return page.evaluate(async (call) => (await fetch(call.path, { headers: call.headers })).json(), { path, headers });
}

function seconds(clock) {
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
}

/** Errors on the application's own pages: exceptions, and what a Content-Security-Policy refused. */
function complaintsOf(page, url) {
  const lines = [];
  page.on('pageerror', (error) => lines.push(String(error)));
  page.on('console', (message) => {
    // Whatever goes wrong on purpose is such a line, too.
    const isAnswer = message.text().startsWith('Failed to load resource: the server responded with a status of');
    if (message.type() === 'error' && !isAnswer && message.location().url.startsWith(url)) lines.push(message.text());
  });
  return lines;
}

/** Addresses beyond the application and the provider that any page asked for. */
function strangersOf(context, origins) {
  const found = [];
  context.on('request', (request) => {
    const address = new URL(request.url());
    if (address.protocol.startsWith('http') && !origins.includes(address.origin)) found.push(address.href);
  });
  return found;
}

/** What Chromium calls a certificate's key: the SHA-256 of its SubjectPublicKeyInfo. */
function fingerprint(certificate) {
  const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

function picturesOf(page, path) {
  if (!path) return async () => {};
  mkdirSync(dirname(path), { recursive: true });
  return async (suffix, { fullPage = true } = {}) => {
    await page.screenshot({ path: path.replace(/(\.\w+)?$/, `${suffix}$1`), fullPage });
  };
}
