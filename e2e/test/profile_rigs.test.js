// The provider of each profile and the verifying API, without Coatroom: a small client that meets the profile gets through,
// one that falls short of it does not.
//
// This tests the judges: a profile whose provider or API took everything would prove nothing of Coatroom.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { startVerifyingApi } from '../profiles/api.js';
import { Client } from '../profiles/client.js';
import { PROFILES } from '../profiles/profiles.js';
import { ProfileRig } from '../profiles/rig.js';

const TIMEOUT = 60_000;
/** What the provider does not demand: whom to trust, and a request for what it does in any case. */
const NOT_DEMANDED = ['ca', 'certificate_bound_access_tokens'];
const CERTIFICATE_PROFILE = 'tls_client_auth';

describe('profiles', { concurrency: 2 }, () => {
  for (const profile of PROFILES.filter(({ plain }) => !plain)) {
    profileTest(`${profile.name}: who meets it gets through, who leaves a part of it out does not`, profile, async (rig) => {
      const client = await passed(rig, profile, rig.settings);
      await client.refresh();
      assert.equal((await client.call(`${rig.api.url}/orders`)).status, 200, rig.api.refused.join());
      if (profile.refresh) assert.equal(rig.refreshTokens.length, profile.refresh === 'rotated' ? 2 : 1);
      await client.revoke();
      assert.equal(await rig.isRefreshable(), false);

      for (const left of Object.keys(rig.settings).filter((key) => !NOT_DEMANDED.includes(key))) {
        const { [left]: _left, ...rest } = rig.settings;
        await assert.rejects(passed(rig, profile, rest), (error) => !(error instanceof TypeError), `without ${left}`);
      }
    });
  }

  profileTest('the API refuses every proof but the right one', named('DPoP'), async (rig) => {
    const client = await passed(rig, named('DPoP'), rig.settings);
    const url = `${rig.api.url}/orders`;
    const used = { jti: 'used before' };
    assert.equal((await client.call(url, { change: used })).status, 200);
    const stale = Math.floor(Date.now() / 1000) - 600;
    const without = (name) => ({ [name]: _left, ...rest }) => rest;
    for (const [reason, spoilt] of [
      [/used/, { change: used }],
      [/another method/, { change: { htm: 'POST' } }],
      [/another address/, { change: { htu: url.replace('/orders', '/invoices') } }],
      [/another address/, { change: { htu: undefined } }],
      [/another token/, { change: { ath: 'AAAA' } }],
      [/another token/, { change: { ath: undefined } }],
      [/another time/, { change: { iat: stale } }],
      [/nonce/, { change: { nonce: 'made up' } }],
      [/nonce/, { change: { nonce: undefined } }],
      [/not one proof/, { forge: without('dpop') }],
      [/the scheme Bearer/, { forge: ({ authorization, ...rest }) => ({ ...rest, authorization: authorization.replace('DPoP', 'Bearer') }) }],
      [/no token/, { forge: without('authorization') }],
    ]) {
      assert.equal((await client.call(url, spoilt)).status, 401, String(reason));
      assert.match(rig.api.refused.at(-1), reason);
    }
    const stranger = await passed(rig, named('DPoP'), rig.settings);
    stranger.tokens = client.tokens;
    assert.equal((await stranger.call(url)).status, 401);
    assert.match(rig.api.refused.at(-1), /another key/);
    assert.equal((await client.call(url)).status, 200);
  });

  profileTest('the API refuses a certificate-bound token by another connection', named(CERTIFICATE_PROFILE), async (rig) => {
    const client = await passed(rig, named(CERTIFICATE_PROFILE), rig.settings);
    const url = `${rig.api.url}/orders`;
    const { self: cert, self_key: key } = rig.keys.texts;
    for (const [reason, certificate] of [[/no client certificate/, {}], [/another certificate/, { cert, key }]]) {
      assert.equal((await client.call(url, { certificate })).status, 401);
      assert.match(rig.api.refused.at(-1), reason);
    }
  });

  profileTest('the API refuses a token of another kind, audience, issuer or key', named('baseline'), async (rig) => {
    const client = await passed(rig, named('baseline'), rig.settings);
    const [head, body, signature] = client.tokens.access_token.split('.');
    const forged = { ...client.tokens, access_token: `${head}.${body}.${signature.split('').reverse().join('')}` };
    for (const [reason, token, tokens] of [
      [/aud/, { kind: 'bearer', format: 'jwt', audience: 'https://another.example' }, client.tokens],
      [/opaque/, { kind: 'bearer', format: 'opaque' }, client.tokens],
      [/typ/, { kind: 'bearer', format: 'introspection-jwt' }, client.tokens],
      [/scheme/, { kind: 'dpop', format: 'jwt', audience: named('baseline').token.audience }, client.tokens],
      [/client certificate/, { kind: 'certificate', format: 'jwt', audience: named('baseline').token.audience }, client.tokens],
      [/signature/, named('baseline').token, forged],
      [/typ/, named('baseline').token, { access_token: client.tokens.id_token }],
    ]) {
      const api = await startVerifyingApi({ issuer: rig.issuer, token, keys: rig.keys });
      const own = client.tokens;
      client.tokens = tokens;
      try {
        assert.equal((await client.call(`${api.url}/orders`)).status, 401, String(reason));
        assert.match(api.refused.at(-1), reason);
      } finally {
        client.tokens = own;
        await api.close();
      }
    }
  });
});

/** Signed in, and called more often than the API's nonces are good for. */
async function passed(rig, profile, settings) {
  const { route, url, issuer, keys } = rig;
  const client = new Client({ issuer, url, settings, route, other: profile.other?.route, keys });
  await client.prepare();
  const { href, body } = await rig.user('alice').leave(await client.authorizationUrl());
  assert.equal(body !== undefined, profile.posted ?? false);
  const response = new URLSearchParams(body ?? new URL(href).search);
  if (!response.has('error')) assert.deepEqual([...response.keys()].sort(), profile.callback ?? ['code', 'iss', 'state']);
  await client.exchange(response);
  for (const [name, value] of Object.entries(profile.claims ?? {})) assert.equal(client.claims[name], value);
  for (let calls = 0; calls < 6; calls += 1) assert.equal((await client.call(`${rig.api.url}/orders`)).status, 200, rig.api.refused.at(-1));
  if (profile.other) assert.equal((await client.call(`${rig.otherApi.url}/orders`, { route: profile.other.route })).status, 200);
  for (const { claims } of rig.api.verified) assert.equal(claims.sub, profile.subject ?? 'alice');
  return client;
}

function named(wanted) {
  return PROFILES.find(({ name }) => name === wanted);
}

function profileTest(name, profile, body) {
  test(name, { timeout: TIMEOUT }, async (t) => {
    const rig = new ProfileRig();
    t.after(() => rig.stop());
    await rig.start({ profile });
    await body(rig, t);
  });
}
