// Glewlwyd, a real provider with habits of its own: a whole session against it, with cookies and with a store, and what
// each habit leads to.
//
// No test makes up for a habit: that is what the settings `client_auth: basic_raw` and `logout_token_without_exp` are for.

import assert from 'node:assert/strict';

import { missing, startGlewlwyd } from '../providers/glewlwyd.js';
import { ProviderRig, SESSIONS } from '../providers/provider_rig.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

/** Form-encoding would change it (RFC 6749 §2.3.1). */
const CLIENT_SECRET = 'only+for/these%tests:3VQmWb1o';
const SETTINGS = { client_auth: 'basic_raw', logout_token_without_exp: true };
/** Seconds: soon over, and long enough for what a test does with a token in the meantime. */
const TTL = 5;
const [COOKIES, STORE] = SESSIONS.map(({ session }) => session);

/** Options of a scenario at Glewlwyd. */
function glewlwyd({ accessTokenTtl, ...options } = {}) {
  return {
    Rig: ProviderRig,
    skip: missing(),
    clientSecret: CLIENT_SECRET,
    providerSettings: SETTINGS,
    startWith: (where) => startGlewlwyd({ ...where, accessTokenTtl }),
    ...options,
  };
}

for (const { name, session } of SESSIONS) {
  scenario(`Glewlwyd, sessions in ${name}: signed in, called, refreshed, signed out, revoked`, glewlwyd({ session, accessTokenTtl: TTL }), async (rig) => {
    const alice = rig.user('alice');
    await alice.signIn();
    const { id_token_claims: claims } = await alice.session();
    assert.equal(claims.iss, rig.issuer);
    assert.equal(claims.name, 'alice');

    assert.equal((await alice.call('/api/orders')).status, 200);
    await until('the API sees another token', async () => {
      const { status } = await alice.call('/api/orders');
      assert.equal(status, 200);
      return rig.bearers().length > 1;
    });
    assert.equal(rig.bearers().length, 2, 'one refresh');
    const [, token] = rig.bearers();
    const { introspection_endpoint: introspection } = await rig.metadata();
    const isActive = async () => JSON.parse((await rig.asClient(introspection, { token })).text).active;
    assert.equal(await isActive(), true, 'the API got a token that the provider knows');

    const left = await alice.agent('POST', '/logout');
    assert.equal(left.status, 200);
    await alice.leaveProvider(left);
    assert.equal((await alice.session()).is_logged_in, false);
    assert.equal((await alice.call('/api/orders')).status, 401);
    // Its answer to a revocation is empty, and of no type.
    await until('the refresh token is revoked', () => /Refresh token generated for client 'shop' revoked/.test(rig.provider.log()));
    assert.deepEqual(warnings(rig), []);
  });
}

scenario('Glewlwyd: the response carries `session_state` and no `iss`', glewlwyd(), async (rig) => {
  const alice = rig.user('alice');
  const { url } = await alice.startSignIn();
  const callback = new URL(await alice.passForms(url));
  assert.deepEqual([...callback.searchParams.keys()].sort(), ['code', 'session_state', 'state']);
  const { headers } = await alice.navigate('GET', callback.href);
  assert.equal(headers.location, `${rig.url}/`);
  assert.equal((await alice.session()).is_logged_in, true);
});

scenario('Glewlwyd: form-encoded credentials are refused there', glewlwyd({ providerSettings: { ...SETTINGS, client_auth: 'basic' } }), async (rig) => {
  const alice = rig.user('alice');
  await assert.rejects(alice.signIn(), /login_error=provider_error/);
  assert.equal((await alice.session()).is_logged_in, false);
});

scenario('Glewlwyd: an empty 400 to a refresh ends nothing', glewlwyd({ session: COOKIES }), async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  const { id_token_claims: { sid } } = await alice.session();
  const { token_endpoint: endpoint } = await rig.metadata();
  const refused = await rig.asClient(endpoint, { grant_type: 'refresh_token', refresh_token: 'of nobody' });
  assert.deepEqual([refused.status, refused.text], [400, ''], 'this is its habit');

  await endAtProvider(rig, alice, sid);
  const answer = await alice.agent('POST', '/refresh');
  assert.equal(answer.status, 502);
  assert.equal(answer.json().error_code, 'provider_error');
  assert.equal((await alice.session()).is_logged_in, true);
  assert.equal((await alice.call('/api/orders')).status, 200);
});

scenario('Glewlwyd: its logout token, of a user and without an end, signs out all browsers of that user', glewlwyd({ session: STORE }), async (rig) => {
  const [desk, phone, bob] = ['alice', 'alice', 'bob'].map((name) => rig.user(name));
  for (const user of [desk, phone, bob]) await user.signIn();
  const { id_token_claims: { sid } } = await desk.session();
  await endAtProvider(rig, desk, sid);
  for (const user of [desk, phone]) {
    await until('the session is over', async () => !(await user.session()).is_logged_in);
    assert.equal((await user.call('/api/orders')).status, 401);
  }
  assert.equal((await bob.session()).is_logged_in, true);
  assert.equal((await bob.call('/api/orders')).status, 200);
});

scenario('Glewlwyd: without `logout_token_without_exp` its logout token is refused', glewlwyd({ session: STORE, providerSettings: { client_auth: 'basic_raw' } }), async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  const { id_token_claims: { sid } } = await alice.session();
  await endAtProvider(rig, alice, sid);
  await until('the provider hears of it', () => /backchannel_logout response for client shop, response status 400/.test(rig.provider.log()));
  assert.equal((await alice.session()).is_logged_in, true);
});

/** The user leaves the provider itself, not the application. */
async function endAtProvider(rig, user, sid) {
  const { status } = await user.pageScript('DELETE', `${rig.issuer}/session/${sid}`);
  assert.equal(status, 200);
}

function warnings(rig) {
  return rig.coatroom.log().split('\n').filter((line) => / (WARN|ERROR) /.test(line));
}
