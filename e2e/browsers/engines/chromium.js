// Chromium, driven by playwright-core, as every other end-to-end test drives it.
//
// It trusts the test's authority through the profile's own NSS store, and ignores no certificate error. Every tab of it
// is visible: a headless Chromium knows no background.

import { openBrowser } from '../../rig/browser.js';
import { onPath } from './path.js';

const BINARY = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

export const chromium = {
  name: 'Chromium',
  /** The package to install, or null when all is there. */
  missing: () => (onPath(BINARY) ? null : 'chromium'),

  /** @param {{directory: string, certificates: {home: string}}} rig */
  async open({ directory, certificates }) {
    const { context, tab, close } = await openBrowser(directory, {
      home: certificates.home,
      // So that a page that was left is kept as it was, as it is for everybody.
      without: ['--disable-back-forward-cache'],
    });
    return {
      version: context.browser()?.version() ?? 'unknown version',
      open: async () => chromiumTab(await tab()),
      cookies: async (url) => (await context.cookies())
        .filter(({ domain }) => domain === new URL(url).hostname)
        .map(({ name, value, path, domain, secure, httpOnly, sameSite, expires }) => (
          { name, value, path, domain, secure, httpOnly, sameSite, expires })),
      close,
    };
  },
};

function chromiumTab(page) {
  let protocol;
  const lifecycle = async (state) => {
    protocol ??= await page.context().newCDPSession(page);
    await protocol.send('Page.setWebLifecycleState', { state });
  };
  return {
    goto: (url) => page.goto(url),
    url: () => page.evaluate(() => location.href),
    // A bounded wait of its own per try: the caller repeats.
    click: (selector) => page.click(selector),
    fill: (selector, text) => page.fill(selector, text),
    evaluate: (script, argument) => page.evaluate(script, argument),
    back: () => page.evaluate(() => { setTimeout(() => history.back()); }),
    /** Frozen, as Chromium freezes a tab in the background after a while: no timer, no task. */
    sleep: () => lifecycle('frozen'),
    wake: () => lifecycle('active'),
    close: () => page.close(),
  };
}
