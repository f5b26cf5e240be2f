// One test's world: provider, API, the real binary and a browser, all on loopback ports of their own, and the
// `scenario` that builds it, runs the test and takes everything down again.
//
// It shares nothing between tests, and starts no process or server that it does not end.

import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { startApi } from '../../demo/api.js';
import { startProvider } from '../../demo/provider.js';
import { openBrowser } from './browser.js';
import { startCoatroom } from './coatroom.js';
import { freePorts } from './ports.js';
import { confirmSignOut, passLoginAndConsent } from './provider_pages.js';

export const CLIENT_ID = 'shop';
export const CLIENT_SECRET = 'only-for-these-tests-3VQmWb1o-and-no-others';
export const FOREIGN = join(import.meta.dirname, '../foreign');
const COOKIE_SESSION = { store: 'cookie', idle: '30m', absolute: '12h' };
const TEST_TIMEOUT = 90_000;

/**
 * A test with a rig of its own. What Coatroom logged and where the browser stood is told when it fails.
 *
 * @param {string} name a sentence
 * @param {object} options see `Rig.start`; `Rig`: another kind of rig; `skip`: why it cannot run here
 * @param {(rig: Rig, t: import('node:test').TestContext) => Promise<void>} body
 */
export function scenario(name, { Rig: Kind = Rig, skip = false, ...options }, body) {
  test(name, { timeout: TEST_TIMEOUT, skip }, async (t) => {
    const rig = new Kind();
    t.after(() => rig.stop());
    await rig.start(options);
    try {
      await body(rig, t);
    } catch (error) {
      for (const line of await rig.report()) t.diagnostic(line);
      throw error;
    }
  });
}

/**
 * Coatroom's configuration for one application that has its API and its pages on one origin.
 *
 * @param {object} options
 * @param {Rig} options.rig whose address, provider and API it is for
 * @param {number} options.port
 * @param {number} options.adminPort
 * @param {object} options.pages the target of the route `/`
 * @param {object} [options.app] more settings of the application
 * @param {object} [options.top] more settings beside `apps`
 */
export function shopConfiguration({ rig, port, adminPort, pages, app = {}, top = {} }) {
  return {
    listen: `127.0.0.1:${port}`,
    admin: `127.0.0.1:${adminPort}`,
    ...top,
    apps: {
      shop: {
        url: rig.url,
        provider: rig.providerConfiguration(),
        session: COOKIE_SESSION,
        routes: {
          '/api/': { upstream: rig.api.url, strip_prefix: true },
          '/': pages,
        },
        ...app,
      },
    },
  };
}

export class Rig {
  #cleanups = [];

  /** A cleanup, run at the end in reverse order whatever happened before. */
  onStop(cleanup) {
    this.#cleanups.push(cleanup);
  }

  /**
   * @param {object} [options]
   * @param {string} [options.callback] `agent`, or the page of the application that posts `login/end`
   * @param {object} [options.session] the configuration's `session`
   * @param {object} [options.provider] options of the demo's provider
   * @param {boolean} [options.withoutProvider] start nothing at the issuer's address; `startProvider` does it later
   * @param {string} [options.pages] folder of the application
   */
  async start({
    callback = 'agent',
    session = COOKIE_SESSION,
    provider = {},
    withoutProvider = false,
    pages = FOREIGN,
  } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort] = await freePorts(3);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    await this.prepareProvider({
      port: providerPort,
      redirectUri: callback === 'agent' ? `${this.url}/auth/callback` : `${this.url}${callback}`,
      options: provider,
    });
    if (!withoutProvider) await this.startProvider();
    await this.startApi();
    await cp(pages, join(this.directory, 'pages'), { recursive: true });
    await this.startCoatroom({
      wait: withoutProvider ? 'alive' : 'ready',
      configuration: shopConfiguration({
        rig: this,
        port,
        adminPort,
        pages: { static: './pages' },
        app: { login: { callback }, session },
      }),
    });
  }

  async prepare() {
    this.directory = await mkdtemp(join(tmpdir(), 'coatroom-e2e-'));
    if (!process.env.E2E_KEEP) this.onStop(() => rm(this.directory, { recursive: true, force: true, maxRetries: 5 }));
  }

  prepareProvider({ port, redirectUri, options }) {
    this.issuer = `http://127.0.0.1:${port}`;
    this.#providerOptions = {
      port,
      clients: [{
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        redirect_uris: [redirectUri],
        post_logout_redirect_uris: [`${this.url}/auth/logout/callback`],
      }],
      ...options,
    };
  }

  #providerOptions;

  /** @param {object} [options] what is different from the options of `start` */
  async startProvider(options = {}) {
    const provider = await startProvider({ ...this.#providerOptions, ...options });
    this.provider = provider;
    /** Every token that the provider issued; only tests look at it. */
    this.issued = [];
    provider.provider.on('grant.success', ({ body }) => {
      for (const kind of ['access_token', 'refresh_token', 'id_token']) {
        if (body?.[kind]) this.issued.push({ kind, token: body[kind] });
      }
    });
    this.onStop(() => provider.close());
  }

  async startApi() {
    this.api = await startApi();
    this.onStop(() => this.api.close());
  }

  providerConfiguration() {
    return {
      issuer: this.issuer,
      client_id: CLIENT_ID,
      client_secret: { env: 'SHOP_CLIENT_SECRET' },
      scopes: ['openid', 'profile'],
      // many tests read the authorization request in the address; what is pushed has its own
      pushed_authorization_requests: 'never',
    };
  }

  async startCoatroom({ configuration, wait, secrets = { SHOP_CLIENT_SECRET: CLIENT_SECRET } }) {
    this.coatroom = await startCoatroom({
      directory: this.directory,
      configuration,
      secrets,
      wait,
    });
    this.onStop(() => this.coatroom.stop());
  }

  /** A browser with an empty profile. The first one is `this.browser`. */
  async openBrowser(options) {
    const browser = await openBrowser(this.directory, options);
    this.onStop(() => browser.close());
    this.browser ??= browser;
    return browser;
  }

  /** The application in a new tab of the (first) browser, once it knows whether somebody is signed in. */
  async openApp(path = '/') {
    if (!this.browser) await this.openBrowser();
    const page = await this.browser.tab();
    await page.goto(`${this.appUrl}${path}`);
    await page.waitForSelector('#status:not([data-state=loading])');
    return page;
  }

  /** The application in a new tab, signed in by its button and the provider's two forms. */
  async openSignedIn(user = 'alice', path = '/') {
    const page = await this.openApp(path);
    await this.signIn(page, user);
    return page;
  }

  async signIn(page, user = 'alice') {
    await page.click('#sign-in');
    await passLoginAndConsent(page, this.issuer, user);
    await page.waitForSelector('#status[data-state=signed-in]');
  }

  /** By the application's button and the provider's form. */
  async signOut(page) {
    await page.click('#sign-out');
    await confirmSignOut(page, this.issuer);
    await page.waitForSelector('#status[data-state=signed-out]');
  }

  /** The cookies of the application's host as the browser stored them. */
  async cookies() {
    const { hostname } = new URL(this.url);
    return (await this.browser.context.cookies()).filter(({ domain }) => domain.replace(/^\./, '') === hostname);
  }

  /** The token requests of one grant type that the provider answered, oldest first. */
  tokenRequests(grantType) {
    return this.provider.tokenRequests.filter(({ grant_type: type }) => type === grantType);
  }

  get refreshes() {
    return this.tokenRequests('refresh_token');
  }

  /** What a person needs to understand a failure. Holds no answers of the provider. */
  async report() {
    const lines = ['— coatroom —', ...(this.coatroom?.log() ?? '').trimEnd().split('\n').slice(-40)];
    for (const page of this.browser?.context.pages() ?? []) {
      const text = await page.innerText('body', { timeout: 1_000 }).catch(() => '(no body)');
      lines.push(`— tab at ${page.url().split('?')[0]} —`, ...text.slice(0, 600).split('\n'));
    }
    for (const { grant_type: type, status, error } of this.provider?.tokenRequests ?? []) {
      lines.push(`provider: ${type} → ${status} ${error ?? ''}`);
    }
    return lines;
  }

  async stop() {
    const errors = [];
    for (const cleanup of this.#cleanups.reverse()) await cleanup().catch((error) => errors.push(error));
    if (errors.length > 0) throw new AggregateError(errors, 'the rig did not stop cleanly');
  }
}

/**
 * Makes the provider slow at its token endpoint: before it processes a request, or after it has (then what it answers
 * is true already, and nobody knows). Answers a promise that resolves when the next request waits there.
 *
 * @param {{settings: object}} provider
 * @param {{before?: number, after?: number}} delay milliseconds
 */
export function holdTokenRequests({ settings }, { before, after }) {
  return new Promise((waits) => {
    Object.defineProperty(settings, before ? 'tokenDelay' : 'tokenAnswerDelay', {
      configurable: true,
      get() {
        waits();
        return before ?? after;
      },
    });
  });
}
