// WebKitGTK's MiniBrowser as the distribution ships it, driven by WebKitWebDriver, on a screen of its own.
//
// GnuTLS, which it speaks TLS with, takes its authorities from the system alone, so the test's certificate is named to
// it for each host; every other certificate that no authority of the system signed is refused as ever. A tab is a window
// here, for only a window is visible beside others.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { freePorts } from '../../rig/ports.js';
import { until } from '../../rig/wait.js';
import { onPath } from './path.js';
import { end, ownProcess, startScreen } from './screen.js';
import { WebDriver } from './webdriver.js';

const DRIVER = process.env.WEBKIT_DRIVER_BIN ?? '/usr/bin/WebKitWebDriver';
const LIBRARIES = '/usr/lib';

export const webkit = {
  name: 'WebKitGTK',
  missing() {
    if (!onPath(DRIVER) || !miniBrowser()) return 'webkit2gtk-driver';
    return onPath('Xvfb') ? null : 'xvfb';
  },

  /** @param {{directory: string, certificates: {certificateFile: string}, hosts: string[]}} rig */
  async open({ directory, certificates, hosts }) {
    const screen = await startScreen();
    const home = join(directory, 'webkit');
    await mkdir(home, { mode: 0o700 });
    const [port] = await freePorts(1);
    const child = spawn(DRIVER, [`--port=${port}`], {
      env: {
        PATH: process.env.PATH,
        HOME: home,
        XDG_RUNTIME_DIR: home,
        DISPLAY: screen.display,
        GDK_BACKEND: 'x11',
        NO_AT_BRIDGE: '1',
        // There is no graphics card to share buffers with.
        WEBKIT_DISABLE_DMABUF_RENDERER: '1',
        // No bus, no settings of a desktop.
        GSETTINGS_BACKEND: 'memory',
        DBUS_SESSION_BUS_ADDRESS: 'disabled:',
      },
      stdio: 'ignore',
    });
    const ended = ownProcess(child);
    const driver = new WebDriver(port);
    const close = async () => {
      await driver.call('DELETE', '').catch(() => {});
      await end(child, ended);
      await screen.stop();
    };
    try {
      const { browserVersion } = await until('WebKitWebDriver answers', () => driver.begin({
        browserName: 'MiniBrowser',
        acceptInsecureCerts: false,
        'webkitgtk:browserOptions': {
          binary: miniBrowser(),
          args: ['--automation'],
          certificates: hosts.map((host) => ({ host, certificateFile: certificates.certificateFile })),
        },
      }), { every: 50 });
      let first = await driver.call('GET', '/window');
      const open = async () => {
        const window = first ?? (await driver.call('POST', '/window/new', { body: { type: 'window' } })).handle;
        first = undefined;
        return webkitTab(driver, window);
      };
      return { version: browserVersion, open, cookies: (url) => cookiesOf(open, url), close };
    } catch (error) {
      await close();
      throw error;
    }
  },
};

function webkitTab(driver, window) {
  const call = (method, path, body) => driver.call(method, path, { window, body });
  return {
    goto: (url) => call('POST', '/url', { url }),
    url: () => call('GET', '/url'),
    click: async (selector) => call('POST', `/element/${await driver.element(window, selector)}/click`),
    fill: async (selector, text) => {
      const element = await driver.element(window, selector);
      await call('POST', `/element/${element}/clear`);
      await call('POST', `/element/${element}/value`, { text });
    },
    evaluate: (script, argument) => driver.evaluate(window, script, argument),
    back: () => call('POST', '/back'),
    /** Minimised: hidden, its timers slower. */
    sleep: () => call('POST', '/window/minimize'),
    wake: () => call('POST', '/window/rect', { x: 0, y: 0, width: 800, height: 600 }),
    close: () => driver.close(window),
    storedCookies: () => call('GET', '/cookie'),
  };
}

/** WebDriver lists what is sent to the document that is open, so a document at each path of ours is visited. */
async function cookiesOf(open, url) {
  const tab = await open();
  const found = new Map();
  for (const path of ['/settings.js', '/auth/session']) {
    await tab.goto(new URL(path, url).href);
    for (const { name, value, path: scope, domain, secure, httpOnly, sameSite, expiry } of await tab.storedCookies()) {
      found.set(`${scope} ${name}`, { name, value, path: scope, domain, secure, httpOnly, sameSite, expires: expiry ?? -1 });
    }
  }
  await tab.close();
  return [...found.values()];
}

function miniBrowser() {
  if (process.env.MINIBROWSER_BIN) return process.env.MINIBROWSER_BIN;
  if (!existsSync(LIBRARIES)) return null;
  return readdirSync(LIBRARIES)
    .flatMap((folder) => ['webkit2gtk-4.1', 'webkit2gtk-4.0', 'webkitgtk-6.0'].map((name) => join(LIBRARIES, folder, name, 'MiniBrowser')))
    .find((path) => existsSync(path)) ?? null;
}
