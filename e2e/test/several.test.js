// One application at two providers, each of them real: a user signs in at one, calls, refreshes, moves over to the other and
// signs out; a request for the one never reaches the other, and an answer of one at the other's redirect URI is refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startProvider } from '../../demo/provider.js';
import { freePorts } from '../rig/ports.js';
import { CLIENT_ID, CLIENT_SECRET, Rig, shopConfiguration } from '../rig/rig.js';
import { User } from '../rig/user.js';
import { until } from '../rig/wait.js';

const TIMEOUT = 90_000;
const LIFE = { idle: '30m', absolute: '12h' };
const SESSIONS = { cookies: { store: 'cookie', ...LIFE }, SQLite: { store: 'sqlite:sessions.db', ...LIFE } };

class SeveralRig extends Rig {
  async start({ session }) {
    await this.prepare();
    const [port, adminPort, ...ports] = await freePorts(4);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    // cookies know no ports: each provider has a host of its own
    this.providers = {
      corp: await this.#provider('corp', ports[0], '127.0.0.1'),
      partner: await this.#provider('partner', ports[1], 'localhost'),
    };
    await this.startApi();
    const settings = ({ issuer }) => ({ ...this.providerConfiguration(), issuer });
    const providers = Object.fromEntries(Object.entries(this.providers).map(([name, known]) => [name, settings(known)]));
    await this.startCoatroom({
      configuration: shopConfiguration({
        rig: this, port, adminPort, pages: { upstream: this.api.url, auth: 'none' }, app: { provider: undefined, providers, session },
      }),
    });
  }

  async #provider(name, port, host) {
    const provider = await startProvider({
      port,
      issuer: `http://${host}:${port}`,
      clients: [{
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        redirect_uris: [`${this.url}/auth/callback/${name}`],
        post_logout_redirect_uris: [`${this.url}/auth/logout/callback`],
      }],
    });
    this.onStop(() => provider.close());
    return provider;
  }

  user() {
    const user = new User({ name: 'alice', url: this.url });
    this.onStop(async () => user.close());
    return user;
  }
}

for (const [where, session] of Object.entries(SESSIONS)) {
  test(`one application at two providers, sessions in ${where}`, { timeout: TIMEOUT }, async (t) => {
    const rig = new SeveralRig();
    t.after(() => rig.stop());
    await rig.start({ session });
    const alice = rig.user();
    const counts = () => Object.values(rig.providers).map(({ tokenRequests }) => tokenRequests.length);

    for (const [name, requests] of [['corp', [2, 0]], ['partner', [2, 2]]]) {
      const { issuer } = rig.providers[name];
      const started = await alice.agent('POST', '/login/start', `return_to=/&provider=${name}`);
      assert.equal(started.status, 200, started.text);
      const url = started.json().authorization_url;
      assert.ok(url.startsWith(`${issuer}/`), url);
      await alice.finishSignIn(url);
      const signedIn = await alice.session();
      assert.equal(signedIn.provider, name);
      assert.equal(signedIn.id_token_claims.iss, issuer);
      assert.equal((await alice.call('/api/orders')).status, 200);
      const refreshed = await alice.agent('POST', '/refresh');
      assert.equal(refreshed.status, 200, refreshed.text);
      assert.equal(refreshed.json().provider, name);
      assert.deepEqual(counts(), requests);
    }

    // the answer of one at the redirect URI of the other
    const mallory = rig.user();
    const started = await mallory.agent('POST', '/login/start', 'return_to=/&provider=partner');
    const { href } = await mallory.leave(started.json().authorization_url);
    const mixedUp = await mallory.navigate('GET', href.replace('/callback/partner', '/callback/corp'));
    assert.match(mixedUp.headers.location, /login_error=login_state_invalid/);
    assert.deepEqual(counts(), [2, 2]);
    assert.equal((await mallory.session()).is_logged_in, false);
    assert.equal((await mallory.navigate('GET', href)).headers.location, `${rig.url}/`);
    assert.equal((await mallory.session()).provider, 'partner');

    const left = await alice.agent('POST', '/logout');
    const onward = await alice.navigate('GET', left.json().logout_url);
    assert.ok(onward.headers.location.startsWith(`${rig.providers.partner.issuer}/`), onward.headers.location);
    assert.equal((await alice.session()).is_logged_in, false);
    await until('nothing more is asked', () => counts()[0] === 2);
  });
}
