// A rig with somebody else's provider: the provider's process, the demo's API, the real binary, and users without a screen
// who fill in what the provider's pages ask for.
//
// It never knows what kind of provider it is: `startWith` is given where the application is, and answers the issuer.

import { startApi } from '../../demo/api.js';
import { freePorts } from '../rig/ports.js';
import { CLIENT_ID, Rig, shopConfiguration } from '../rig/rig.js';
import { User } from '../rig/user.js';

/** Both ways to keep sessions. */
export const SESSIONS = [
  { name: 'cookies', session: { store: 'cookie', idle: '30m', absolute: '12h' } },
  { name: 'a store', session: { store: 'memory', idle: '30m', absolute: '12h' } },
];

export class ProviderRig extends Rig {
  /**
   * @param {object} options
   * @param {(where: object) => Promise<object>} options.startWith starts the provider: `{issuer, fillForm, log(), stop()}`;
   *   gets `{directory, port, clientId, clientSecret, redirectUri, postLogoutRedirectUri, backchannelLogoutUri, users}`
   * @param {string} options.clientSecret
   * @param {object} [options.session] the configuration's `session`
   * @param {object} [options.providerSettings] more of the configuration's `provider`
   */
  async start({ startWith, clientSecret, session = SESSIONS[0].session, providerSettings = {} }) {
    await this.prepare();
    const [port, adminPort, providerPort] = await freePorts(3);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.clientSecret = clientSecret;
    this.provider = await startWith({
      directory: this.directory,
      port: providerPort,
      clientId: CLIENT_ID,
      clientSecret,
      redirectUri: `${this.url}/auth/callback`,
      postLogoutRedirectUri: `${this.url}/auth/logout/callback`,
      backchannelLogoutUri: `${this.url}/auth/backchannel-logout`,
      users: ['alice', 'bob'],
    });
    this.onStop(() => this.provider.stop());
    this.issuer = this.provider.issuer;
    this.providerSettings = providerSettings;
    this.api = await startApi();
    this.onStop(() => this.api.close());
    await this.startCoatroom({
      configuration: shopConfiguration({
        rig: this, port, adminPort, pages: { upstream: this.api.url, auth: 'none' }, app: { session },
      }),
      secrets: { SHOP_CLIENT_SECRET: clientSecret },
    });
  }

  providerConfiguration() {
    return { ...super.providerConfiguration(), ...this.providerSettings };
  }

  /** Somebody with a browser of their own and no cookie. */
  user(name, options = {}) {
    const user = new User({ name, url: this.url, fillForm: this.provider.fillForm, ...options });
    this.onStop(async () => user.close());
    return user;
  }

  /** The Bearer tokens that the API saw, in their order, each once. */
  bearers() {
    const seen = this.api.requests.map(({ headers }) => headers.authorization).filter(Boolean);
    return [...new Set(seen)].map((value) => /^Bearer (\S+)$/.exec(value)[1]);
  }

  /** The provider's metadata, as it publishes them. */
  async metadata() {
    return (await fetch(`${this.issuer}/.well-known/openid-configuration`)).json();
  }

  /** A request of the client itself at an endpoint of the provider. */
  async asClient(endpoint, parameters) {
    const written = this.providerSettings.client_auth === 'basic_raw' ? (text) => text : formEncoded;
    const credentials = Buffer.from(`${written(CLIENT_ID)}:${written(this.clientSecret)}`).toString('base64');
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { authorization: `Basic ${credentials}` },
      body: new URLSearchParams(parameters),
      signal: AbortSignal.timeout(15_000),
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  async report() {
    return [
      '— coatroom —', ...(this.coatroom?.log() ?? '').trimEnd().split('\n').slice(-40),
      '— provider —', ...(this.provider?.log() ?? '').trimEnd().split('\n').slice(-40),
    ];
  }
}

/** RFC 6749 §2.3.1 and appendix B. */
function formEncoded(text) {
  return String(new URLSearchParams({ '': text })).slice(1);
}
