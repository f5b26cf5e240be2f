// oidc-provider set up for one profile: what the client is registered with makes the provider demand the profile, so that a
// client which falls short of it gets no token.
//
// With `mtls` everything is https, and a second listener that asks for a certificate serves `mtls_endpoint_aliases`
// (RFC 8705 §5); the browser's listener asks for none.

import { randomBytes, X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';

import { closeServer, listen, startProvider } from '../../demo/provider.js';
import { CLIENT_ID, CLIENT_SECRET } from '../rig/rig.js';
import { SUBJECT } from './keys.js';

/** The API asks about opaque tokens by this name, and exchanged tokens are for nobody else. */
export const API_CLIENT = { client_id: 'orders-api', client_secret: 'of-the-api-in-these-tests-8Kc2' };
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token';
const ALIASED = {
  token_endpoint: 'token', revocation_endpoint: 'token/revocation', introspection_endpoint: 'token/introspection',
  userinfo_endpoint: 'me', pushed_authorization_request_endpoint: 'request',
};

// Newer than the oldest Node.js that these tests run on; oidc-provider reads the addresses in DPoP proofs with it.
URL.parse ??= (text, base) => {
  try {
    return new URL(text, base);
  } catch {
    return null;
  }
};

/**
 * @param {object} options
 * @param {object} options.setup `{client, provider, features, configuration, https, mtls, exchange, backchannel, replayAssertions}` of a profile
 * @param {object} options.keys what `makeKeys` answered
 * @param {number} options.port
 * @param {number} options.mtlsPort
 * @param {string} options.url the application's origin
 */
export async function startProfileProvider({ setup, keys, port, mtlsPort, url }) {
  const { client = {}, features = {}, configuration = {}, mtls = false, https = mtls, exchange, replayAssertions = false } = setup;
  const issuer = `${https ? 'https' : 'http'}://127.0.0.1:${port}`;
  const aliases = Object.fromEntries(Object.entries(ALIASED).map(([name, path]) => [name, `https://127.0.0.1:${mtlsPort}/${path}`]));
  const started = await startProvider({
    port,
    issuer,
    tls: https ? { key: keys.texts.server_key, cert: keys.texts.server } : undefined,
    clients: [
      {
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        redirect_uris: [`${url}/auth/callback`],
        post_logout_redirect_uris: [`${url}/auth/logout/callback`],
        jwks: keys.jwks,
        ...(setup.backchannel ? { backchannel_logout_uri: `${url}/auth/backchannel-logout`, backchannel_logout_session_required: true } : {}),
        ...client,
      },
      { ...API_CLIENT, redirect_uris: [], grant_types: [], response_types: [] },
    ],
    ...setup.provider,
    configure: (base) => ({
      ...base,
      ...configuration,
      clientAuthMethods: [
        'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none',
        ...(mtls ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
      ],
      discovery: mtls ? { mtls_endpoint_aliases: aliases } : {},
      features: {
        ...base.features,
        introspection: {
          enabled: true,
          allowedPolicy: (_context, asker, token) => asker.clientId === API_CLIENT.client_id || token.clientId === asker.clientId,
        },
        mTLS: mtls ? {
          enabled: true,
          certificateBoundAccessTokens: true,
          tlsClientAuth: true,
          selfSignedTlsClientAuth: true,
          getCertificate: peerCertificate,
          certificateAuthorized: ({ socket }) => socket.authorized,
          certificateSubjectMatches: (context, property, expected) => property === 'tls_client_auth_subject_dn'
            && expected === SUBJECT && peerCertificate(context)?.subject === expected,
        } : { enabled: false },
        ...features,
      },
    }),
  });
  if (replayAssertions) started.provider.ReplayDetection.unique = async () => true;
  if (exchange) allowExchange(started.provider);
  if (!mtls) return started;

  const listener = createServer({
    key: keys.texts.server_key, cert: keys.texts.server, ca: keys.texts.ca, requestCert: true, rejectUnauthorized: false,
  }, started.provider.callback());
  await listen(listener, mtlsPort, '127.0.0.1');
  return { ...started, close: () => Promise.all([started.close(), closeServer(listener)]) };
}

/** DPoP with nonces that the provider demands (RFC 9449 §8). */
export function dpopFeature() {
  return { dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true } };
}

/** FAPI 2.0 for the application's client alone. */
export function fapiFeature() {
  return { fapi: { enabled: true, profile: (_context, client) => (client?.clientId === CLIENT_ID ? '2.0' : undefined) } };
}

/** The library takes a secret in the header from a client that registered for the body, too. */
export function refuseBasic(context, next) {
  if (context.path !== '/token' || !/^basic /i.test(context.get('authorization'))) return next();
  context.status = 401;
  context.body = { error: 'invalid_client' };
  return undefined;
}

/**
 * An authorization server without OpenID Connect: its own metadata (RFC 8414) without keys, and `/account`, which answers
 * whose an access token is.
 */
export async function plainOAuth(context, next) {
  if (context.path === '/account') {
    const token = await context.app.AccessToken.find((context.get('authorization').match(/^Bearer (\S+)$/) ?? [])[1] ?? '-');
    context.status = token ? 200 : 401;
    context.body = token ? { account: token.accountId, role: 'member' } : { error: 'invalid_token' };
    return undefined;
  }
  const isAsked = context.path === '/.well-known/oauth-authorization-server';
  if (isAsked) context.path = '/.well-known/openid-configuration';
  await next();
  if (isAsked) {
    const { jwks_uri: _keys, end_session_endpoint: _page, ...metadata } = context.body;
    context.body = { ...metadata, userinfo_endpoint: `${metadata.issuer}/account` };
  }
  return undefined;
}

function peerCertificate({ socket }) {
  const raw = socket.getPeerCertificate?.()?.raw;
  return raw && new X509Certificate(raw);
}

/** RFC 8693 as far as it is used here: an access token of the user's becomes one for another audience. */
function allowExchange(provider) {
  provider.registerGrantType(TOKEN_EXCHANGE, async (context) => {
    const { params, client } = context.oidc;
    const subject = await provider.AccessToken.find(params.subject_token);
    const refuse = (error) => {
      context.status = 400;
      context.body = { error };
    };
    if (params.subject_token_type !== ACCESS_TOKEN_TYPE || subject?.clientId !== client.clientId) return refuse('invalid_grant');
    if (params.audience !== API_CLIENT.client_id) return refuse('invalid_target');
    const token = new provider.AccessToken({
      accountId: subject.accountId, claims: {}, client, grantId: subject.grantId, gty: 'token_exchange', scope: 'orders:read',
    });
    token.resourceServer = new provider.ResourceServer(API_CLIENT.client_id, {
      audience: API_CLIENT.client_id, scope: 'orders:read', accessTokenFormat: 'jwt', accessTokenTTL: 60, jwt: { sign: { alg: 'RS256' } },
    });
    const value = await token.save();
    context.body = { access_token: value, issued_token_type: ACCESS_TOKEN_TYPE, token_type: 'Bearer', expires_in: 60 };
    return undefined;
  }, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope', 'actor_token', 'actor_token_type']);
}
