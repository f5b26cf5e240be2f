// The table of profiles: how oidc-provider is set up, what stands below `provider:` in Coatroom's configuration, and what kind
// of token the API must get. `test/profiles.test.js` runs each of them and writes `docs/profiles.md` from it.
//
// A profile with `needs` waits for a feature: the provider's side and the API are tested with the client in `client.js`,
// Coatroom's side is skipped and said to be, and `docs/profiles.md` does not list it. To switch it on, remove `needs`.
//
//     name      what tests and the page call it
//     demands   what the provider demands of the client, in words
//     setup     for `startProfileProvider`
//     settings  of `provider:`, from the paths of the keys and the issuer
//     route     more settings of the API's route, from the same
//     token     for `startVerifyingApi`: `{kind, format, audience}`
//     callback  the names of the parameters that lead back; default: those of RFC 6749 §4.1.2 and RFC 9207
//     claims    claims that the session has to have
//     posted    whether a form leads back (form_post)
//     subject   whose token the API gets, if it is not the user's
//     anonymous whether the API's route is for everybody, signed in or not
//     plain     whether there are no ID tokens; the client in `client.js`, which wants some, is not run then
//     other     a second API and its route: `{route, token}`
//     refresh   `rotated` or `kept`: what happens to the refresh token

import { DEFAULT_RESOURCE } from '../../demo/provider.js';
import { CLIENT_ID } from '../rig/rig.js';
import { SUBJECT } from './keys.js';
import { API_CLIENT, dpopFeature, fapiFeature, plainOAuth, refuseBasic } from './provider.js';

const ORDERS = 'https://orders.coatroom.example/';
const INVOICES = 'https://invoices.coatroom.example/';
const JWT = { kind: 'bearer', format: 'jwt', audience: DEFAULT_RESOURCE };
const OPAQUE = { kind: 'bearer', format: 'opaque' };
const ES256_RESOURCE = { [DEFAULT_RESOURCE]: { jwt: { sign: { alg: 'ES256' } } } };
const IN_ES256 = { id_token_signed_response_alg: 'ES256' };
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const privateKeyJwt = ({ sign }) => ({ method: 'private_key_jwt', key: { file: sign }, algorithm: 'ES256', kid: 'sign' });
const PRIVATE_KEY_JWT = { token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256' };
const requestObject = ({ sign }) => ({ key: { file: sign }, algorithm: 'ES256', kid: 'sign' });
const REQUEST_OBJECT = { require_signed_request_object: true, request_object_signing_alg: 'ES256' };
const PUSHED = { require_pushed_authorization_requests: true };
const CERTIFICATE_BOUND = { kind: 'certificate', format: 'jwt', audience: DEFAULT_RESOURCE };

export const PROFILES = [
  {
    name: 'baseline',
    demands: 'code, PKCE, `client_secret_basic`',
    setup: { provider: { rotateRefreshToken: false } },
    settings: () => ({}),
    token: JWT,
    refresh: 'kept',
  },
  {
    name: 'rotation',
    demands: 'the same, and each refresh token once',
    setup: { provider: { rotateRefreshToken: true } },
    settings: () => ({}),
    token: JWT,
    refresh: 'rotated',
  },
  {
    name: 'client_secret_post',
    demands: 'the secret in the body',
    setup: { client: { token_endpoint_auth_method: 'client_secret_post' }, provider: { around: refuseBasic } },
    settings: () => ({ client_auth: 'post' }),
    token: JWT,
  },
  {
    name: 'opaque tokens',
    demands: 'as baseline; access tokens are opaque and for no resource',
    setup: { provider: { defaultResource: null } },
    settings: () => ({}),
    token: OPAQUE,
  },
  {
    name: 'resource, JWT',
    demands: 'a resource indicator (RFC 8707); access tokens are JWTs for it',
    setup: { provider: { defaultResource: null, resources: { [ORDERS]: {} } } },
    settings: () => ({ parameters: { resource: ORDERS } }),
    token: { ...JWT, audience: ORDERS },
  },
  {
    name: 'resource, opaque',
    demands: 'a resource indicator; access tokens are opaque and for it',
    setup: { provider: { defaultResource: null, accessTokenFormat: 'opaque', resources: { [ORDERS]: {} } } },
    settings: () => ({ parameters: { resource: ORDERS } }),
    token: { ...OPAQUE, audience: ORDERS },
  },
  {
    name: 'ES256',
    demands: 'ID tokens signed with ES256, access tokens too',
    setup: { client: IN_ES256, provider: { resources: ES256_RESOURCE } },
    settings: () => ({}),
    token: JWT,
  },
  {
    name: 'private_key_jwt',
    demands: 'a client assertion signed with ES256 (RFC 7523)',
    setup: { client: PRIVATE_KEY_JWT },
    settings: (files) => ({ client_auth: privateKeyJwt(files) }),
    token: JWT,
  },
  {
    name: 'client_secret_jwt',
    demands: 'a client assertion with a MAC by the secret',
    setup: { client: { token_endpoint_auth_method: 'client_secret_jwt' } },
    settings: () => ({ client_auth: 'client_secret_jwt' }),
    token: JWT,
  },
  {
    name: 'assertion from a file',
    demands: 'a client assertion that the platform keeps in a file, good more than once',
    setup: { client: PRIVATE_KEY_JWT, replayAssertions: true },
    settings: ({ assertion }) => ({ client_auth: { method: 'assertion_file', file: assertion } }),
    token: JWT,
  },
  {
    name: 'tls_client_auth',
    demands: 'a certificate of the provider’s authority (RFC 8705 §2.1); access tokens are bound to it (§3)',
    setup: {
      mtls: true,
      client: {
        token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: SUBJECT, tls_client_certificate_bound_access_tokens: true,
      },
    },
    settings: ({ ca, client, client_key: key }) => ({
      ca: { file: ca },
      client_auth: { method: 'tls_client_auth', certificate: { file: client }, key: { file: key } },
      certificate_bound_access_tokens: true,
    }),
    token: CERTIFICATE_BOUND,
  },
  {
    name: 'self_signed_tls_client_auth',
    demands: 'a certificate of the client’s own (RFC 8705 §2.2); access tokens are bound to it',
    setup: {
      mtls: true,
      client: { token_endpoint_auth_method: 'self_signed_tls_client_auth', tls_client_certificate_bound_access_tokens: true },
    },
    settings: ({ ca, self, self_key: key }) => ({
      ca: { file: ca },
      client_auth: { method: 'self_signed_tls_client_auth', certificate: { file: self }, key: { file: key } },
      certificate_bound_access_tokens: true,
    }),
    token: CERTIFICATE_BOUND,
  },
  {
    name: 'pushed requests',
    demands: 'pushed authorization requests (RFC 9126)',
    setup: { client: PUSHED },
    settings: () => ({ pushed_authorization_requests: 'required' }),
    token: JWT,
  },
  {
    name: 'signed requests',
    demands: 'signed request objects (RFC 9101)',
    setup: { client: REQUEST_OBJECT, features: { requestObjects: { enabled: true } } },
    settings: (files) => ({ request_object: requestObject(files) }),
    token: JWT,
  },
  {
    name: 'signed responses',
    demands: 'nothing; the authorization response is a JWT (JARM)',
    setup: { client: { authorization_signed_response_alg: 'ES256' } },
    settings: () => ({ response_mode: 'jwt' }),
    callback: ['response'],
    token: JWT,
  },
  {
    name: 'form_post',
    demands: 'nothing; the authorization response is posted',
    setup: {},
    settings: () => ({ response_mode: 'form_post' }),
    callback: ['code', 'iss', 'state'],
    posted: true,
    token: JWT,
  },
  {
    name: 'encrypted ID tokens',
    demands: 'nothing; ID tokens are encrypted to the client (RFC 7516)',
    setup: {
      client: { id_token_encrypted_response_alg: 'RSA-OAEP-256', id_token_encrypted_response_enc: 'A256GCM' },
      features: { encryption: { enabled: true } },
    },
    settings: ({ decrypt }) => ({ id_token_decryption_keys: [{ file: decrypt }] }),
    token: JWT,
  },
  {
    name: 'DPoP',
    demands: 'DPoP with nonces, of the provider and of the API (RFC 9449)',
    setup: { client: { dpop_bound_access_tokens: true }, features: dpopFeature() },
    settings: () => ({ dpop: true }),
    token: { ...JWT, kind: 'dpop' },
  },
  {
    name: 'DPoP, opaque tokens',
    demands: 'the same; access tokens are opaque',
    setup: { client: { dpop_bound_access_tokens: true }, features: dpopFeature(), provider: { defaultResource: null } },
    settings: () => ({ dpop: { algorithm: 'EdDSA' } }),
    token: { ...OPAQUE, kind: 'dpop' },
  },
  {
    name: 'FAPI 2.0',
    demands: 'FAPI 2.0 Security Profile: `private_key_jwt`, pushed requests, DPoP with nonces',
    setup: {
      https: true,
      client: { ...PRIVATE_KEY_JWT, ...PUSHED, ...IN_ES256, dpop_bound_access_tokens: true },
      features: { ...dpopFeature(), ...fapiFeature() },
      provider: { resources: ES256_RESOURCE },
    },
    settings: (files) => ({ ca: { file: files.ca }, profile: 'fapi2', client_auth: privateKeyJwt(files), dpop: true }),
    token: { ...JWT, kind: 'dpop' },
  },
  {
    name: 'FAPI 2.0, certificates',
    demands: 'FAPI 2.0 Security Profile: `tls_client_auth`, pushed requests, certificate-bound tokens',
    setup: {
      mtls: true,
      client: {
        ...PUSHED, ...IN_ES256, token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: SUBJECT,
        tls_client_certificate_bound_access_tokens: true,
      },
      features: fapiFeature(),
      provider: { resources: ES256_RESOURCE },
    },
    settings: ({ ca, client, client_key: key }) => ({
      ca: { file: ca },
      profile: 'fapi2',
      client_auth: { method: 'tls_client_auth', certificate: { file: client }, key: { file: key } },
      certificate_bound_access_tokens: true,
    }),
    token: CERTIFICATE_BOUND,
  },
  {
    name: 'FAPI 2.0 Message Signing',
    demands: 'FAPI 2.0 with signed requests and signed responses',
    setup: {
      https: true,
      client: {
        ...PRIVATE_KEY_JWT, ...PUSHED, ...REQUEST_OBJECT, ...IN_ES256, authorization_signed_response_alg: 'ES256', dpop_bound_access_tokens: true,
      },
      features: { ...dpopFeature(), ...fapiFeature(), requestObjects: { enabled: true } },
      provider: { resources: ES256_RESOURCE },
    },
    settings: (files) => ({
      ca: { file: files.ca }, profile: 'fapi2-message-signing', client_auth: privateKeyJwt(files), request_object: true, dpop: true,
    }),
    callback: ['response'],
    token: { ...JWT, kind: 'dpop' },
  },
  {
    name: 'signed userinfo',
    demands: 'nothing; claims come from userinfo alone, as a signed JWT',
    setup: {
      client: { userinfo_signed_response_alg: 'ES256' },
      features: { jwtUserinfo: { enabled: true } },
      configuration: { conformIdTokenClaims: true },
      provider: { defaultResource: null },
    },
    settings: () => ({ userinfo: 'always' }),
    claims: { name: 'Alice' },
    token: OPAQUE,
  },
  {
    name: 'plain OAuth',
    plain: true,
    demands: 'as baseline; no ID tokens, metadata by RFC 8414 without keys; an endpoint says who the user is',
    setup: { provider: { defaultResource: null, around: plainOAuth } },
    settings: () => ({ protocol: 'oauth2', scopes: ['orders:read'], user: { subject: 'account' } }),
    claims: { role: 'member' },
    token: OPAQUE,
  },
  {
    name: 'plain OAuth, nobody’s session',
    plain: true,
    demands: 'the same without metadata; nobody asks who the user is',
    setup: { provider: { around: plainOAuth } },
    settings: (_files, issuer) => ({
      protocol: 'oauth2',
      scopes: ['orders:read'],
      endpoints: { authorization: `${issuer}/auth`, token: `${issuer}/token`, revocation: `${issuer}/token/revocation` },
      user: { subject: 'none' },
    }),
    claims: { sub: undefined },
    token: JWT,
  },
  {
    name: 'resource of a route',
    demands: 'a resource indicator for each of two APIs',
    setup: { provider: { defaultResource: null, resources: { [ORDERS]: {}, [INVOICES]: {} } } },
    settings: () => ({}),
    route: () => ({ token: { resource: ORDERS } }),
    token: { ...JWT, audience: ORDERS },
    other: { route: { token: { resource: INVOICES } }, token: { ...JWT, audience: INVOICES } },
  },
  {
    name: 'token exchange',
    demands: 'token exchange (RFC 8693); the API’s tokens are JWTs for it alone',
    setup: {
      exchange: true,
      client: { grant_types: ['authorization_code', 'refresh_token', TOKEN_EXCHANGE] },
      provider: { defaultResource: null },
    },
    settings: () => ({}),
    route: () => ({ token: { exchange: { audience: API_CLIENT.client_id } } }),
    token: { ...JWT, audience: API_CLIENT.client_id },
  },
  {
    name: 'client credentials',
    demands: 'the client’s own token (RFC 6749 §4.4); the API sees no user',
    setup: {
      client: { grant_types: ['authorization_code', 'refresh_token', 'client_credentials'] },
      features: { clientCredentials: { enabled: true } },
    },
    settings: () => ({}),
    route: () => ({ auth: 'none', token: { client_credentials: { scopes: ['orders:read'] } } }),
    subject: CLIENT_ID,
    anonymous: true,
    token: JWT,
  },
  {
    name: 'introspection',
    demands: 'nothing; access tokens are opaque, the API gets the signed answer of the introspection (RFC 9701)',
    setup: {
      client: { introspection_signed_response_alg: 'ES256' },
      features: { jwtIntrospection: { enabled: true } },
      provider: { defaultResource: null },
    },
    settings: () => ({}),
    route: () => ({ token: { introspection: { response: 'jwt' } } }),
    token: { kind: 'bearer', format: 'introspection-jwt' },
  },
  {
    name: 'introspection, JSON',
    demands: 'nothing; access tokens are opaque, and each is asked about before it goes on (RFC 7662)',
    setup: { provider: { defaultResource: null } },
    settings: () => ({}),
    route: () => ({ token: { introspection: { response: 'json' } } }),
    token: OPAQUE,
  },
];

/** The settings of the route's TLS, where the API wants it: the authority; the certificate is the provider's. */
export function routeOf(profile, files) {
  const tls = profile.token.kind === 'certificate' ? { upstream_tls: { ca: { file: files.ca } } } : {};
  return { ...tls, ...profile.route?.(files) };
}
