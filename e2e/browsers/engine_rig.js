// One test's world for any engine: everything over TLS, the application on two replicas behind nginx without sticky
// sessions, a provider that rotates refresh tokens and detects reuse, and pages of a sibling and of a foreign site.
//
// The application is at `shop.app.localhost`, its sibling at `evil.app.localhost`, the foreign site at
// `foreign.localhost`, the provider at `localhost`: four origins, of which the first two are one site. No name is
// resolved outside of this machine, and no certificate error is ignored.

import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { makeCertificates } from '../rig/certificates.js';
import { makeKey } from '../rig/coatroom.js';
import { startNginx } from '../rig/nginx.js';
import { startApplication, startPages } from '../rig/pages.js';
import { freePorts } from '../rig/ports.js';
import { Replica } from '../rig/replica_rig.js';
import { Rig } from '../rig/rig.js';
import { startStreamingApi } from '../rig/streaming_api.js';
import { chromium } from './engines/chromium.js';
import { firefox } from './engines/firefox.js';
import { webkit } from './engines/webkit.js';
import { confirmSignOut, passLoginAndConsent } from './forms.js';
import { openEngine } from './tab.js';

const SHOP = 'shop.app.localhost';
const WWW = 'www.app.localhost';
const SIBLING = 'evil.app.localhost';
const FOREIGN_SITE = 'foreign.localhost';
const HOSTS = [SHOP, WWW, SIBLING, FOREIGN_SITE, 'localhost'];
const PAGES = join(import.meta.dirname, '../spa');
const LIBRARY = process.env.COATROOM_CLIENT ?? join(import.meta.dirname, '../../clients/typescript/dist');
const TEST_TIMEOUT = 60_000;
/** What a request says of where it comes from, and whether the session's cookie came along: never the cookie. */
const SEEN = `
  map $http_cookie $signed_in { default false; "~-access=" true; }
  log_format seen escape=json '{"method":"$request_method","path":"$uri","status":$status,"origin":"$http_origin",'
    '"site":"$http_sec_fetch_site","mode":"$http_sec_fetch_mode","signed_in":$signed_in}';
`;

export const ENGINES = [chromium, firefox, webkit];
const wanted = process.env.ENGINE?.toLowerCase();
if (wanted && !ENGINES.some(({ name }) => name.toLowerCase() === wanted)) throw new Error(`no engine is called ${wanted}`);

/** The engines of this machine, or the one that `ENGINE` names. */
export const engines = ENGINES.filter((engine) => !engine.missing() && (!wanted || engine.name.toLowerCase() === wanted));

/**
 * A scenario, once per engine, each time in a world of its own.
 *
 * @param {string} name a sentence
 * @param {object} options see `EngineRig.start`; `engines`: only these
 * @param {(rig: EngineRig) => Promise<void>} body
 */
export function eachEngine(name, { engines: only = engines, ...options }, body) {
  for (const engine of engines.filter((engine) => only.includes(engine))) {
    test(`${engine.name}: ${name}`, { timeout: TEST_TIMEOUT }, async (t) => {
      const rig = new EngineRig();
      t.after(() => rig.stop());
      try {
        await rig.start({ engine, ...options });
        await body(rig, t);
      } catch (error) {
        for (const line of await rig.report()) t.diagnostic(line);
        throw error;
      }
    });
  }
}

export class EngineRig extends Rig {
  #tabs = [];

  /**
   * @param {object} options
   * @param {object} options.engine one of `ENGINES`
   * @param {number} [options.accessTokenTtl] seconds
   * @param {object} [options.client] options of `createCoatroom`, as far as they are plain data
   * @param {string} [options.callback] `agent`, or the page of the application that finishes the sign-in
   * @param {boolean} [options.apart] the application is at `www`, agent and API at `shop`: two origins of one site
   * @param {boolean} [options.http2] whether nginx offers HTTP/2, as it should; without it, it has to be told not to buffer
   * @param {number} [options.replicas]
   * @param {object} [options.session] the configuration's `session`
   */
  async start({
    engine, accessTokenTtl = 300, client = {}, callback = 'agent', apart = false, http2 = true, replicas = 2,
    session = { store: 'cookie', idle: '30m', absolute: '12h' },
  }) {
    if (!existsSync(join(LIBRARY, 'index.js'))) throw new Error('no clients/typescript/dist: run `npm run build` there');
    await this.prepare();
    const [port, providerPort, appPort, ...ports] = await freePorts(7);
    this.url = `https://${SHOP}:${port}`;
    this.appUrl = apart ? `https://${WWW}:${appPort}` : this.url;
    this.hosts = HOSTS;
    this.certificates = await makeCertificates(this.directory, ['localhost', 'app.localhost', '*.app.localhost', FOREIGN_SITE]);
    const { key, cert, certificateFile, keyFile } = this.certificates;
    this.prepareProvider({
      port: providerPort,
      redirectUri: callback === 'agent' ? `${this.url}/auth/callback` : `${this.appUrl}${callback}`,
      options: { tls: { key, cert }, issuer: `https://localhost:${providerPort}`, accessTokenTtl },
    });
    this.issuer = `https://localhost:${providerPort}`;
    await Promise.all([this.startProvider(), this.startApi(), makeKey(join(this.directory, 'first.key'))]);
    this.live = await startStreamingApi('1.1');
    this.onStop(() => this.live.close());
    await this.#writePages(apart ? { ...client, baseUrl: `${this.url}/auth` } : client);
    if (apart) {
      const application = await startApplication({ folder: this.pages, port: appPort, tls: { key, cert }, settings: {} });
      this.onStop(() => application.close());
    }

    this.application = {
      session,
      login: { callback },
      ...apart && { app_url: this.appUrl, origins: [this.appUrl] },
    };
    this.replicas = [];
    for (let index = 0; index < replicas; index += 1) {
      const name = `replica-${index + 1}`;
      const directory = join(this.directory, name);
      await mkdir(directory);
      this.replicas.push(new Replica({ rig: this, name, directory, port: ports[2 * index], adminPort: ports[2 * index + 1] }));
    }
    await Promise.all([
      ...this.replicas.map((replica) => replica.start()),
      (async () => {
        this.browser = await openEngine(engine, this);
        this.onStop(() => this.browser.close());
      })(),
    ]);
    const listen = `listen 127.0.0.1:${port}`;
    this.nginx = await startNginx({
      directory: this.directory,
      port,
      replicas: this.replicas.map(({ address }) => address),
      // As docs/operations.md has it, where the certificate has a name of its own.
      configure: (text) => text
        .replace(`${listen};`, `${listen} ssl${http2 ? ' http2' : ''}; ssl_certificate ${certificateFile}; ssl_certificate_key ${keyFile};`)
        .replace('access_log off;', `${SEEN} access_log ${join(this.directory, 'seen')} seen;`),
    });
    this.onStop(() => this.nginx.stop());
  }

  /** Every request that nginx answered: `{method, path, status, origin, site, mode, signed_in}`, oldest first. */
  async seen() {
    return (await readFile(join(this.directory, 'seen'), 'utf8')).split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  /** The page, the built library beside it, and what the page gives to `createCoatroom`. */
  async #writePages(client) {
    this.pages = join(this.directory, 'pages');
    await cp(PAGES, this.pages, { recursive: true });
    await cp(LIBRARY, join(this.pages, 'coatroom'), { recursive: true });
    const settings = { client, api: `${this.url}/api` };
    await writeFile(join(this.pages, 'settings.js'), `export default ${JSON.stringify(settings)};\n`);
  }

  /** What a replica's coatroom.yaml says. */
  configurationOf({ address, adminAddress }) {
    return {
      listen: address,
      admin: adminAddress,
      keys: [{ file: '../first.key' }],
      apps: {
        shop: {
          url: this.url,
          provider: this.providerConfiguration(),
          ...this.application,
          routes: {
            '/api/': { upstream: this.api.url, strip_prefix: true },
            '/live/': { upstream: this.live.url, strip_prefix: true, resources: true },
            ...this.appUrl === this.url && { '/': { static: '../pages' } },
          },
        },
      },
    };
  }

  /** The processes trust the provider's authority, as they would trust a private one. */
  get environment() {
    return { SSL_CERT_FILE: this.certificates.authorityFile };
  }

  async tab() {
    const tab = await this.browser.tab();
    this.#tabs.push(tab);
    return tab;
  }

  /** The application in a new tab, once it knows whether somebody is signed in. */
  async openApp(path = '/') {
    const tab = await this.tab();
    await tab.goto(`${this.appUrl}${path}`);
    await tab.waitFor('#status:not([data-state=unknown])');
    return tab;
  }

  async openSignedIn(user = 'alice', path = '/') {
    const tab = await this.openApp(path);
    await this.signIn(tab, user);
    return tab;
  }

  /** By the application's button and the provider's two forms. */
  async signIn(tab, user = 'alice') {
    await tab.click('#sign-in');
    await passLoginAndConsent(tab, { issuer: this.issuer, home: this.appUrl }, user);
    await tab.waitFor('#status[data-state=signed-in]');
  }

  /** By the application's button and the provider's form. */
  async signOut(tab) {
    await tab.click('#sign-out');
    await confirmSignOut(tab, { issuer: this.issuer, home: this.appUrl });
    await tab.waitFor('#status[data-state=signed-out]');
  }

  cookies() {
    return this.browser.cookies(this.url);
  }

  /** A page of another origin in a new tab: `sibling` is the same site, `foreign` another one, `plain` our host without TLS. */
  async openAttacker(kind, html) {
    const { key, cert } = this.certificates;
    const pages = await startPages(html, kind === 'plain' ? undefined : { key, cert });
    this.onStop(() => pages.close());
    const { port } = new URL(pages.url);
    const origin = {
      sibling: `https://${SIBLING}:${port}`, foreign: `https://${FOREIGN_SITE}:${port}`, plain: `http://${SHOP}:${port}`,
    }[kind];
    const tab = await this.tab();
    await tab.goto(`${origin}/`);
    return { tab, origin };
  }

  async report() {
    const lines = [`— ${this.browser?.name} ${this.browser?.version} —`];
    for (const { name, log } of this.replicas ?? []) lines.push(`— ${name} —`, ...log().trimEnd().split('\n').slice(-15));
    lines.push('— nginx —', ...(this.nginx?.errors() ?? '').trimEnd().split('\n').slice(-5));
    for (const tab of this.#tabs) {
      const text = await tab.evaluate(() => document.body?.innerText ?? '').catch((error) => `(${error.message})`);
      lines.push(`— tab at ${(await tab.url().catch(() => '')).split('?')[0]} —`, ...text.slice(0, 600).split('\n'));
    }
    for (const { grant_type: type, status, error } of this.provider?.tokenRequests ?? []) lines.push(`provider: ${type} → ${status} ${error ?? ''}`);
    return lines;
  }
}
