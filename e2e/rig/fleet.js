// A fleet: as many replicas as wanted behind nginx, a provider and an API in processes of their own, and a store that all
// replicas share. Users have no browser.
//
// Everything is on free loopback ports and in a temporary folder; `stop` ends what was started. nginx gives each request
// to the next replica and keeps no connection to one.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { makeKey } from './coatroom.js';
import { startNginx } from './nginx.js';
import { startOutside } from './outside.js';
import { freePorts } from './ports.js';
import { Replica } from './replica_rig.js';
import { CLIENT_ID, CLIENT_SECRET, Rig } from './rig.js';
import { STORES } from './stores.js';
import { startTcpChaos } from './tcp_chaos.js';
import { User } from './user.js';

/** So many sign-ins from one address are a test's. */
const NO_LIMIT = { requests: 1_000_000, per: '1s', burst: 1_000_000 };
const MANY_FILES = (text) => text.replace(/worker_connections \d+/, 'worker_connections 18000');

export class Fleet extends Rig {
  /** The proxies in front of the store's servers, if `breakable`. */
  storeChaos = [];

  /**
   * @param {object} [options]
   * @param {number} [options.replicas] how many
   * @param {string} [options.store] `cookie`, or a name of `STORES`
   * @param {string} [options.revocationStore] a name of `STORES`, beside `cookie`
   * @param {boolean} [options.durable] whether the store keeps what it acknowledged over a crash
   * @param {boolean} [options.breakable] a proxy that breaks what is behind it before the store and the provider
   * @param {object} [options.session] more of the configuration's `session`
   * @param {object} [options.provider] plain options of the demo's provider, and `delay`
   * @param {object} [options.providerSettings] more of the configuration's `provider`
   * @param {Record<string, object>} [options.routes] more routes
   */
  async start({
    replicas = 3, store = 'cookie', revocationStore, durable = false, breakable = false, session = {}, provider = {},
    providerSettings = {}, routes = {},
  } = {}) {
    await this.prepare();
    const [port, issuerPort, ...ports] = await freePorts(2 + 2 * replicas);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.issuer = `http://127.0.0.1:${issuerPort}`;
    await this.#startStore({ name: revocationStore ?? store, durable, breakable });
    await this.#startOutside({ issuerPort, breakable, provider });
    await makeKey(join(this.directory, 'first.key'));
    const address = this.store?.store;
    this.settings = {
      provider: { ...this.providerConfiguration(), scopes: ['openid', 'profile', 'email'], ...providerSettings },
      session: {
        idle: '30m', absolute: '12h', ...session,
        ...(revocationStore ? { store: 'cookie', revocation_store: address } : { store: address ?? 'cookie' }),
      },
      routes: { '/api/': { upstream: `http://127.0.0.1:${this.outsideApi.port}`, strip_prefix: true }, ...routes },
    };
    this.replicas = [];
    for (let index = 0; index < replicas; index += 1) {
      const name = `replica-${index + 1}`;
      const directory = join(this.directory, name);
      await mkdir(directory);
      this.replicas.push(new Replica({ rig: this, name, directory, port: ports[2 * index], adminPort: ports[2 * index + 1] }));
    }
    // One after the other: the first one makes a database's tables.
    for (const replica of this.replicas) await replica.start();
    this.nginx = await startNginx({
      directory: this.directory, port, replicas: this.replicas.map((replica) => replica.address), configure: MANY_FILES,
    });
    this.onStop(() => this.nginx.stop());
  }

  async #startStore({ name, durable, breakable }) {
    if (name === 'cookie') return;
    this.store = await STORES[name]({
      directory: this.directory,
      durable,
      behind: breakable ? async (target) => {
        const chaos = await startTcpChaos({ target });
        this.storeChaos.push(chaos);
        this.onStop(() => chaos.stop());
        return chaos.port;
      } : undefined,
    });
    this.onStop(() => this.store.stop());
  }

  async #startOutside({ issuerPort, breakable, provider }) {
    const [behind] = breakable ? await freePorts(1) : [issuerPort];
    this.outsideProvider = await startOutside('provider', {
      port: behind,
      issuer: this.issuer,
      clients: [{
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        redirect_uris: [`${this.url}/auth/callback`],
        post_logout_redirect_uris: [`${this.url}/auth/logout/callback`],
      }],
      ...provider,
    });
    this.onStop(() => this.outsideProvider.close());
    if (breakable) {
      this.providerChaos = await startTcpChaos({ target: behind, port: issuerPort });
      this.onStop(() => this.providerChaos.stop());
    }
    // So long that it never closes a connection at the moment at which a call is sent over it.
    this.outsideApi = await startOutside('api', { keepAliveMilliseconds: 600_000 });
    this.onStop(() => this.outsideApi.close());
  }

  /** The coatroom.yaml of one replica. */
  configurationOf({ address, adminAddress }) {
    return {
      listen: address,
      admin: adminAddress,
      keys: [{ file: '../first.key' }],
      apps: { shop: { url: this.url, rate_limits: { address: NO_LIMIT, session: NO_LIMIT }, ...this.settings } },
    };
  }

  /** Does this to every connection to the store. */
  async breakStore(fault) {
    for (const chaos of this.storeChaos) await chaos.become(fault);
  }

  /** The refreshes that reached the provider since that time. */
  async refreshesSince(time) {
    return (await this.outsideProvider.ask('log', time)).filter(({ grant }) => grant === 'refresh_token');
  }

  /** A user without a browser. Closed at the end. */
  user(name, options = {}) {
    const user = new User({ name, url: this.url, ...options });
    this.onStop(async () => user.close());
    return user;
  }

  async report() {
    return [
      ...(this.replicas ?? []).flatMap(({ name, log }) => [`— ${name} —`, ...log().trimEnd().split('\n').slice(-15)]),
      '— nginx —', ...(this.nginx?.errors() ?? '').trimEnd().split('\n').slice(-10),
    ];
  }
}
