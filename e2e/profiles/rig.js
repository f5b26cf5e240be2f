// What a profile runs in: keys, the provider set up for it, the verifying API, and on demand Coatroom.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { freePorts } from '../rig/ports.js';
import { CLIENT_SECRET, Rig, shopConfiguration } from '../rig/rig.js';
import { User } from '../rig/user.js';
import { startVerifyingApi } from './api.js';
import { signedByClient } from './client.js';
import { makeKeys } from './keys.js';
import { routeOf } from './profiles.js';
import { startProfileProvider } from './provider.js';

/** Longer than any test: the platform's own file would be written again before it is over. */
const ASSERTION_LIFE = '5m';

export class ProfileRig extends Rig {
  /**
   * @param {object} options
   * @param {object} options.profile an entry of the table
   * @param {object} [options.session] the configuration's `session`; without it Coatroom is not started
   * @param {number} [options.accessTokenTtl] seconds
   */
  async start({ profile, session, accessTokenTtl = 300 }) {
    await this.prepare();
    const [port, adminPort, providerPort, mtlsPort] = await freePorts(4);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.keys = await makeKeys(this.directory);
    const { setup, token } = profile;
    this.provider = await startProfileProvider({
      setup: { ...setup, provider: { accessTokenTtl, ...setup.provider } }, keys: this.keys, port: providerPort, mtlsPort, url: this.url,
    });
    this.onStop(() => this.provider.close());
    this.issuer = this.provider.issuer;
    /** The refresh tokens that the provider issued; only tests look at them. */
    this.refreshTokens = [];
    this.provider.provider.on('grant.success', ({ body }) => {
      if (body?.refresh_token && !this.refreshTokens.includes(body.refresh_token)) this.refreshTokens.push(body.refresh_token);
    });
    this.api = await startVerifyingApi({ issuer: this.issuer, token, keys: this.keys });
    this.onStop(() => this.api.close());
    const { other } = profile;
    if (other) {
      this.otherApi = await startVerifyingApi({ issuer: this.issuer, token: other.token, keys: this.keys });
      this.onStop(() => this.otherApi.close());
    }
    this.files = { ...this.keys.files, assertion: join(this.directory, 'assertion.jwt') };
    await writeFile(this.files.assertion, await signedByClient(this.keys, { sub: 'shop', aud: this.issuer }, undefined, ASSERTION_LIFE), { mode: 0o600 });
    this.settings = profile.settings(this.files, this.issuer);
    this.route = routeOf(profile, this.files);
    if (!session) return;
    await this.startCoatroom({
      configuration: shopConfiguration({
        rig: this,
        port,
        adminPort,
        pages: { upstream: this.api.url, auth: 'none' },
        app: {
          session,
          routes: {
            '/api/': { upstream: this.api.url, strip_prefix: true, ...this.route },
            ...(other ? { '/other/': { upstream: this.otherApi.url, strip_prefix: true, ...other.route } } : {}),
          },
        },
      }),
      secrets: { SHOP_CLIENT_SECRET: CLIENT_SECRET },
    });
  }

  providerConfiguration() {
    const base = super.providerConfiguration();
    // A secret beside another way to authenticate is a mistake.
    const method = this.settings.client_auth?.method;
    if (method && method !== 'client_secret_jwt') delete base.client_secret;
    // The profile decides how requests are made.
    delete base.pushed_authorization_requests;
    return { ...base, scopes: ['openid', 'profile', 'orders:read'], ...this.settings };
  }

  user(name) {
    const user = new User({ name, url: this.url, ca: this.keys.texts.ca });
    this.onStop(async () => user.close());
    return user;
  }

  /** Whether the provider still takes the newest refresh token. */
  async isRefreshable() {
    return Boolean(await this.provider.provider.RefreshToken.find(this.refreshTokens.at(-1)));
  }
}
