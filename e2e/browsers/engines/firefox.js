// Firefox ESR as the distribution ships it, headless, driven by puppeteer-core over WebDriver BiDi, with a profile of its
// own that is thrown away.
//
// It trusts the test's authority through the profile's own NSS store, and ignores no certificate error. It reaches
// nothing but loopback: every other name goes to a proxy that is not there. Only its foremost tab is visible.

import { execFile } from 'node:child_process';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import puppeteer from 'puppeteer-core';

import { within } from '../../rig/wait.js';
import { onPath } from './path.js';

const BINARY = process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr';
const ACTION_TIMEOUT = 15_000;
const PREFERENCES = {
  // Firefox itself takes localhost and *.localhost to loopback, and never to a proxy.
  'network.proxy.type': 1,
  'network.proxy.http': '127.0.0.1',
  'network.proxy.http_port': 9,
  'network.proxy.ssl': '127.0.0.1',
  'network.proxy.ssl_port': 9,
  'network.proxy.no_proxies_on': '127.0.0.1, localhost, .localhost',
  'signon.rememberSignons': false,
};

export const firefox = {
  name: 'Firefox',
  missing: () => (onPath(BINARY) ? null : 'firefox-esr'),

  /** @param {{directory: string, certificates: {authorityFile: string}}} rig */
  async open({ directory, certificates }) {
    const profile = await mkdtemp(join(directory, 'firefox-'));
    await promisify(execFile)('certutil', [
      '-d', `sql:${profile}`, '-A', '-t', 'C,,', '-n', 'end-to-end-test-ca', '-i', certificates.authorityFile,
    ], { timeout: ACTION_TIMEOUT });
    const browser = await puppeteer.launch({
      browser: 'firefox',
      executablePath: BINARY,
      headless: true,
      userDataDir: profile,
      extraPrefsFirefox: PREFERENCES,
      env: { PATH: process.env.PATH, HOME: directory },
      timeout: 60_000,
      protocolTimeout: 60_000,
    });
    let blank = (await browser.pages()).find((page) => page.url() === 'about:blank');
    const open = async () => {
      const page = blank ?? await browser.newPage();
      blank = undefined;
      page.setDefaultTimeout(ACTION_TIMEOUT);
      return firefoxTab(page);
    };
    return {
      version: (await browser.version()).replace(/^firefox\//i, ''),
      open,
      cookies: async (url) => (await browser.cookies())
        .filter(({ domain }) => domain === new URL(url).hostname)
        .map(({ name, value, path, domain, secure, httpOnly, sameSite, expires }) => (
          { name, value, path, domain, secure, httpOnly, sameSite, expires })),
      close: () => within('Firefox closes', browser.close(), 20_000),
    };
  },
};

function firefoxTab(page) {
  let cover;
  return {
    goto: (url) => page.goto(url, { waitUntil: 'domcontentloaded' }),
    // Puppeteer is not told of a page that comes back as it was.
    url: () => page.evaluate(() => location.href),
    click: (selector) => page.click(selector),
    fill: async (selector, text) => {
      await page.$eval(selector, (input) => { input.value = ''; });
      await page.type(selector, text);
    },
    evaluate: (script, argument) => page.evaluate(script, argument),
    back: () => page.evaluate(() => { setTimeout(() => history.back()); }),
    /** In the background, as behind another tab: hidden, its timers slower. */
    sleep: async () => {
      cover = await page.browser().newPage();
      await cover.bringToFront();
    },
    wake: async () => {
      await page.bringToFront();
      await cover?.close();
    },
    close: () => page.close(),
  };
}
