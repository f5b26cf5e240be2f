// Proves that the running demo works: a headless Chromium signs in through the provider's own forms, as a person
// would, uses the portal and signs out again. Used by `node run.js --check`.
//
// It never starts or stops the demo, never takes a shortcut past a form, and lets no request leave the machine.

import { strict as assert } from 'node:assert';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

import { chromium } from 'playwright-core';

const STEP_MILLISECONDS = 15_000;
const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-gpu',
  // The provider's page asks for a web font.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
];

/**
 * @param {object} options
 * @param {string} options.url the application
 * @param {string} [options.screenshot] where to write pictures: this name for the wide signed-in page, further ones
 *   (`-phone`, `-dark`, `-signed-out`) beside it
 * @param {(line: string) => void} [options.report]
 */
export async function checkDemo({ url, screenshot, report = console.log }) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    timeout: 2 * STEP_MILLISECONDS,
    // Whoever called decides what a signal means.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, acceptDownloads: true });
    context.setDefaultTimeout(STEP_MILLISECONDS);
    const page = await context.newPage();
    const complaints = complaintsOf(page, url);
    const shoot = picturesOf(page, screenshot);

    await page.goto(`${url}/orders/A-1058#orders`);
    await page.locator('#status-text', { hasText: 'The shop is open.' }).waitFor();
    await shoot('-signed-out');
    report('ok  the signed-out page, reached by a deep link');

    await page.locator('#sign-in').click();
    await page.locator('input[name=login]').fill('alice');
    await page.locator('input[name=password]').fill('any password');
    await page.locator('button[type=submit]').click();
    await page.locator('input[name=prompt][value=consent]').waitFor({ state: 'attached' });
    await page.locator('button[type=submit]').click();
    await page.locator('#user-name', { hasText: 'Alice' }).waitFor();
    assert.equal(page.url(), `${url}/orders/A-1058#orders`, 'the deep link comes back with its fragment');
    report('ok  sign-in through the login and the consent form, back at the deep link');

    await checkPage(page, context, url);
    report('ok  claims, clocks, orders and the protected image; no cookie that a script could read');

    await page.locator('#call-api').click();
    const received = page.locator('#api-rows');
    await received.locator('dd', { hasText: /^Bearer token of \d+ characters$/ }).waitFor();
    const facts = await received.innerText();
    assert.match(facts, /Cookies\s+none/, 'no cookie reaches the API');
    assert.match(facts, /Subject\s+alice/);
    report('ok  the API got a Bearer token and no cookie');

    const waiting = page.waitForEvent('download');
    await page.locator('#report').click();
    const download = await waiting;
    assert.equal(download.suggestedFilename(), 'orders.csv');
    assert.equal(await download.failure(), null);
    report('ok  the download');

    await page.locator('#refresh').click();
    await page.locator('#notice-text', { hasText: 'The tokens are new.' }).waitFor();
    assert.equal(await page.locator('#notice.bad').count(), 0);
    report('ok  refresh');

    await page.reload();
    await page.locator('#order-rows a').first().waitFor();
    await page.locator('#call-api').click();
    await page.locator('#api-details').waitFor();
    await page.evaluate(() => scrollTo(0, 0));
    await shoot('');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shoot('-dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 390, height: 844 });
    await assertFits(page);
    await shoot('-phone');
    await page.setViewportSize({ width: 1200, height: 900 });
    assert.deepEqual(complaints, [], 'the browser complains about nothing');

    await page.locator('#sign-out').click();
    await page.locator('button[name=logout][value=yes]').click();
    await page.locator('#sign-in').waitFor();
    assert.equal(new URL(page.url()).origin, url);
    const status = await page.evaluate(async () => (await fetch('/api/orders', { headers: { 'token-handler-version': '1' } })).status);
    assert.equal(status, 401, 'the API is closed after sign-out');
    report('ok  sign-out, at the provider too');
  } finally {
    await browser.close();
  }
}

async function checkPage(page, context, url) {
  await page.locator('#order-rows a[aria-current=page]').waitFor();
  assert.equal(await page.locator('#order-rows a').count(), 4);
  await page.waitForFunction(() => document.getElementById('photo').naturalWidth > 0);
  assert.match(await page.locator('#claim-rows').innerText(), /alice@example\.com/);
  assert.ok(await page.locator('#clock-rows li').count() >= 3, 'three clocks at least');

  assert.equal(await page.evaluate(() => document.cookie), '', 'no script reads a cookie');
  const cookies = await context.cookies(url);
  assert.ok(cookies.length > 0);
  for (const { name, httpOnly, secure } of cookies.filter(({ domain }) => domain === 'localhost')) {
    assert.ok(httpOnly && secure, `${name} is HttpOnly and Secure`);
  }
}

/** No page may be wider than a phone. */
async function assertFits(page) {
  const excess = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(excess, 0, 'the page fits a phone');
}

/** Errors on the application's own pages: exceptions, and what a Content-Security-Policy refused. */
function complaintsOf(page, url) {
  const lines = [];
  page.on('pageerror', (error) => lines.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && message.location().url.startsWith(url)) lines.push(message.text());
  });
  return lines;
}

function picturesOf(page, path) {
  if (!path) return async () => {};
  mkdirSync(dirname(path), { recursive: true });
  return async (suffix) => {
    await page.screenshot({ path: path.replace(/(\.\w+)?$/, `${suffix}$1`), fullPage: true });
  };
}
