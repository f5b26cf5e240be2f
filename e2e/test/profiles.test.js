// Every profile of the table with Coatroom, sessions in cookies and in SQLite: signed in, called, refreshed, called again,
// signed out; the API verifies what it gets, the provider demands what the profile is about.
//
// `COATROOM_PROFILES=write` writes `docs/profiles.md`; otherwise it is compared. A profile that waits for a feature is
// skipped with the feature's name, and not on the page.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { isUpToDate } from '../profiles/page.js';
import { PROFILES } from '../profiles/profiles.js';
import { ProfileRig } from '../profiles/rig.js';
import { CLIENT_ID } from '../rig/rig.js';
import { until } from '../rig/wait.js';

const TIMEOUT = 90_000;
/** Seconds: soon over, and long enough for a few calls. */
const TTL = 5;
const LIFE = { idle: '30m', absolute: '12h' };
const SESSIONS = { cookies: { store: 'cookie', ...LIFE }, SQLite: { store: 'sqlite:sessions.db', ...LIFE } };

// They wait more than they work.
describe('profiles', { concurrency: 2 }, () => {
  for (const profile of PROFILES) {
    for (const [where, session] of Object.entries(SESSIONS)) {
      const options = { timeout: TIMEOUT, skip: profile.needs ? `needs ${profile.needs}` : false };
      test(`${profile.name}, sessions in ${where}`, options, async (t) => {
        const rig = new ProfileRig();
        t.after(() => rig.stop());
        await rig.start({ profile, session, accessTokenTtl: TTL });
        try {
          await wholeSession(rig, profile);
        } catch (error) {
          for (const line of [...await rig.report(), `api refused: ${rig.api.refused.join('; ')}`]) t.diagnostic(line);
          throw error;
        }
      });
    }
  }
});

test('oidc-provider: leaving the provider ends that session here, and no other of the user', { timeout: TIMEOUT }, async (t) => {
  const rig = new ProfileRig();
  t.after(() => rig.stop());
  const { settings, token } = PROFILES[0];
  await rig.start({ profile: { settings, token, setup: { backchannel: true } }, session: SESSIONS.SQLite });
  const [desk, phone] = ['alice', 'alice'].map((name) => rig.user(name));
  for (const user of [desk, phone]) await signIn(rig, user, {});
  const sids = await Promise.all([desk, phone].map(async (user) => (await user.session()).id_token_claims.sid));
  assert.equal(new Set(sids.filter(Boolean)).size, 2);

  const leave = { client_id: CLIENT_ID, post_logout_redirect_uri: `${rig.url}/auth/logout/callback` };
  await desk.passForms(`${rig.issuer}/session/end?${new URLSearchParams(leave)}`);
  await until('the session is over', async () => !(await desk.session()).is_logged_in);
  assert.equal((await desk.call('/api/orders')).status, 401);
  assert.equal((await phone.session()).is_logged_in, true);
  assert.equal((await phone.call('/api/orders')).status, 200);
});

test('docs/profiles.md is what the table says', async () => {
  assert.ok(await isUpToDate(), 'COATROOM_PROFILES=write node --test test/profiles.test.js writes it');
});

async function wholeSession(rig, profile) {
  const alice = rig.user('alice');
  const withoutSession = profile.anonymous ? 200 : 401;
  assert.equal((await rig.user('nobody').call('/api/orders')).status, withoutSession);
  await signIn(rig, alice, profile);
  const { id_token_claims: claims } = await alice.session();
  for (const [name, value] of Object.entries({ sub: 'alice', ...profile.claims })) assert.equal(claims[name], value);

  await called(rig, alice);
  await refreshed(rig, alice, profile);
  await called(rig, alice);
  for (const verified of rig.api.verified) {
    assert.equal(verified.kind, profile.token.kind);
    assert.equal(verified.format, profile.token.format);
    assert.equal(verified.claims.sub, profile.subject ?? 'alice');
  }
  // Both sides demanded their nonce, where there are proofs.
  const isBound = profile.token.kind === 'dpop';
  assert.equal(rig.api.refused.includes('a proof without the nonce'), isBound);
  assert.equal(rig.provider.tokenRequests.some(({ error }) => error === 'use_dpop_nonce'), isBound);
  if (profile.refresh) assert.equal(rig.refreshTokens.length > 1, profile.refresh === 'rotated');

  assert.equal(await rig.isRefreshable(), true);
  const left = await alice.agent('POST', '/logout');
  assert.equal(left.status, 200);
  await alice.leaveProvider(left);
  assert.equal((await alice.session()).is_logged_in, false);
  assert.equal((await alice.call('/api/orders')).status, withoutSession);
  await until('the refresh token is revoked', async () => !(await rig.isRefreshable()));
  assert.deepEqual(rig.tokenRequests('refresh_token').filter(({ status, error }) => status !== 200 && error !== 'use_dpop_nonce'), []);
}

async function signIn(rig, user, profile) {
  const { url, text } = await user.startSignIn();
  assert.ok(url, text);
  const { href, body } = await user.leave(url);
  assert.equal(body !== undefined, profile.posted ?? false);
  const response = new URLSearchParams(body ?? new URL(href).search);
  assert.deepEqual([...response.keys()].sort(), profile.callback ?? ['code', 'iss', 'state'], `${response.get('error')} ${response.get('error_description')}`);
  const { status, headers } = await user.navigate(body === undefined ? 'GET' : 'POST', href, body);
  assert.equal(status, 303);
  assert.equal(headers.location, `${rig.url}/`);
}

/** More calls than the API's nonces are good for. */
async function called(rig, user) {
  for (let calls = 0; calls < 5; calls += 1) {
    const { status, text } = await user.call('/api/orders');
    assert.equal(status, 200, text);
  }
  if (rig.otherApi) assert.equal((await user.call('/other/orders')).status, 200);
}

async function refreshed(rig, user, profile) {
  const before = new Set(rig.api.verified.map(({ token }) => token));
  await until('the session is refreshed and the API sees what came of it', async () => {
    // A token that is made for the API may outlive the session's own.
    if (profile.route) await user.agent('POST', '/refresh');
    const { status, text } = await user.call('/api/orders');
    assert.equal(status, 200, text);
    const wasRefreshed = rig.tokenRequests('refresh_token').some((answer) => answer.status === 200);
    return wasRefreshed && (profile.route || rig.api.verified.some(({ token }) => !before.has(token)));
  }, { timeout: 30_000 });
}
