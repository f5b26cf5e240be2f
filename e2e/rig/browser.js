// Chromium as the distribution ships it, headless, with a profile of its own that is thrown away.
//
// It never reaches anything but loopback (every other name fails to resolve at once), and never ignores a
// certificate error: a test CA has to be trusted by the profile's own NSS store.

import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { within } from './wait.js';

const EXECUTABLE = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Chromium itself takes localhost and *.localhost to loopback.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1',
];
const ACTION_TIMEOUT = 15_000;

/**
 * Starts a browser with an empty profile under `directory`.
 *
 * @param {string} directory
 * @param {{home?: string, without?: string[]}} [options] `home`: has `.pki/nssdb` with the CAs to trust; `without`: arguments
 *   of playwright's own that are left out
 */
export async function openBrowser(directory, { home = directory, without = [] } = {}) {
  const profile = await mkdtemp(join(directory, 'profile-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: EXECUTABLE,
    headless: true,
    args: ARGUMENTS,
    ignoreDefaultArgs: without,
    env: { PATH: process.env.PATH, HOME: home },
    timeout: 30_000,
  });
  context.setDefaultTimeout(ACTION_TIMEOUT);
  return {
    context,
    /** The tab that is open from the start, then new ones. */
    async tab() {
      const blank = context.pages().find((page) => page.url() === 'about:blank');
      return blank ?? context.newPage();
    },
    close: () => within('the browser closes', context.close(), 20_000),
  };
}
