// django-oauth-toolkit, an ordinary OAuth server: a whole session against it, with cookies and with a store, and its rule
// that a refresh token which comes a second time ends everything that came from the same sign-in.
//
// It publishes no revocation endpoint among its OpenID Connect metadata: what ends its tokens is its sign-out page.

import assert from 'node:assert/strict';

import { missing, startDjango } from '../providers/django.js';
import { ProviderRig, SESSIONS } from '../providers/provider_rig.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

/** Form-encoding changes it (RFC 6749 §2.3.1), and this server decodes. */
const CLIENT_SECRET = 'only+for/these%tests:3VQmWb1o';
/** Seconds: soon over, and long enough for what a test does with a token in the meantime. */
const TTL = 5;
const AT_ONCE = 20;

/** Options of a scenario at django-oauth-toolkit. */
function django({ accessTokenTtl, ...options } = {}) {
  return {
    Rig: ProviderRig,
    skip: missing(),
    clientSecret: CLIENT_SECRET,
    startWith: (where) => startDjango({ ...where, accessTokenTtl }),
    ...options,
  };
}

for (const { name, session } of SESSIONS) {
  scenario(`django-oauth-toolkit, sessions in ${name}: signed in, called, refreshed, signed out`, django({ session, accessTokenTtl: TTL }), async (rig) => {
    const alice = rig.user('alice');
    const { url } = await alice.startSignIn();
    const callback = new URL(await alice.passForms(url));
    assert.deepEqual([...callback.searchParams.keys()].sort(), ['code', 'state'], 'no `iss`');
    assert.equal((await alice.navigate('GET', callback.href)).headers.location, `${rig.url}/`);
    const { id_token_claims: claims } = await alice.session();
    assert.equal(claims.iss, rig.issuer);
    assert.equal(claims.preferred_username, 'alice');

    assert.equal((await alice.call('/api/orders')).status, 200);
    await until('the API sees another token', async () => {
      const { status } = await alice.call('/api/orders');
      assert.equal(status, 200);
      return rig.bearers().length > 1;
    });
    for (const token of rig.bearers()) assert.match(token, /^[A-Za-z0-9]{30}$/, 'opaque');
    assert.deepEqual(rig.provider.answersAt('/o/token/'), [200, 200], 'one code, one refresh');
    const [, token] = rig.bearers();
    const isActive = async () => JSON.parse((await rig.asClient(`${rig.issuer}/introspect/`, { token })).text).active;
    assert.equal(await isActive(), true);

    const left = await alice.agent('POST', '/logout');
    assert.equal(left.status, 200);
    await alice.leaveProvider(left);
    assert.equal((await alice.session()).is_logged_in, false);
    assert.equal((await alice.call('/api/orders')).status, 401);
    await until('its sign-out page ended the token', async () => !(await isActive()));
    assert.deepEqual(rig.coatroom.log().split('\n').filter((line) => / (WARN|ERROR) /.test(line)), []);
  });

  scenario(`django-oauth-toolkit, sessions in ${name}: many at once cost one refresh, for a second would end the session`, django({ session, accessTokenTtl: TTL }), async (rig) => {
    const alice = rig.user('alice', { sockets: AT_ONCE });
    await alice.signIn();
    assert.equal((await alice.call('/api/orders')).status, 200);
    if (session.store === 'cookie') {
      const answers = await Promise.all(Array.from({ length: AT_ONCE }, () => alice.agent('POST', '/refresh')));
      assert.deepEqual(answers.map(({ status }) => status), Array(AT_ONCE).fill(200));
    } else {
      await until('the access token is over', async () => (await alice.session()).access_token_expires_in === 0);
      const answers = await Promise.all(Array.from({ length: AT_ONCE }, () => alice.call('/api/orders')));
      assert.deepEqual(answers.map(({ status }) => status), Array(AT_ONCE).fill(200));
    }
    assert.deepEqual(rig.provider.answersAt('/o/token/'), [200, 200], 'one code, one refresh');
    await until('and the refresh token that came is good', async () => {
      assert.equal((await alice.call('/api/orders')).status, 200);
      return rig.provider.answersAt('/o/token/').length > 2;
    });
    assert.deepEqual(new Set(rig.provider.answersAt('/o/token/')), new Set([200]));
  });
}

scenario('django-oauth-toolkit: a used refresh token that somebody else tries ends the session here, too', django(), async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  const [used] = await rig.provider.refreshTokens();
  assert.equal((await alice.agent('POST', '/refresh')).status, 200);
  const stolen = await rig.asClient((await rig.metadata()).token_endpoint, { grant_type: 'refresh_token', refresh_token: used });
  assert.equal(stolen.status, 400);
  assert.equal(JSON.parse(stolen.text).error, 'invalid_grant');

  const late = await alice.agent('POST', '/refresh');
  assert.equal(late.status, 401);
  assert.equal(late.json().error_code, 'session_expired');
  assert.equal((await alice.session()).is_logged_in, false);
});
