// A real OpenID Provider for the demo and the end-to-end tests: npm `oidc-provider`, an OpenID-certified
// implementation, with its development login (a login form and a consent form; any name, any password).
//
// It never listens anywhere but on the given host (loopback by default), never checks a password, never keeps
// anything on disk, and never writes a token, code or secret into the logs it hands out. It is not for production.
//
// OpenID Connect Core 1.0; RFC 6749 (OAuth 2.0), 7009 (revocation), 7636 (PKCE), 8707 (resource indicators),
// 9068 (JWT access tokens), 9126 (PAR), 9207 (issuer in the authorization response); RP-initiated logout.

import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

quietenLibrary();
const { default: Provider, errors } = await import('oidc-provider');

/** The API that access tokens are for when a client asks for no resource (RFC 8707). */
export const DEFAULT_RESOURCE = 'https://api.coatroom.example';

/**
 * Starts a provider and answers when it accepts connections.
 *
 * @param {object} [options]
 * @param {string} [options.host] address to listen on
 * @param {number} [options.port] 0 takes a free one
 * @param {string} [options.issuer] default: the scheme, host and port it listens on
 * @param {object[]} [options.clients] client metadata (RFC 7591 names); default: the demo client made of the next four
 * @param {string} [options.clientId]
 * @param {string} [options.clientSecret]
 * @param {string[]} [options.redirectUris]
 * @param {string[]} [options.postLogoutRedirectUris]
 * @param {number} [options.accessTokenTtl] seconds
 * @param {'jwt' | 'opaque'} [options.accessTokenFormat]
 * @param {number} [options.accessTokenPadding] bytes by which access tokens are longer than they need to be
 * @param {number} [options.refreshTokenPadding] the same for refresh tokens
 * @param {boolean} [options.rotateRefreshToken] each refresh replaces the refresh token; a reused one kills the family
 * @param {number} [options.refreshTokenTtl] seconds
 * @param {boolean} [options.tellRefreshTokenLife] token answers carry `refresh_expires_in`, as Keycloak's do
 * @param {boolean} [options.expiresWithSession] refresh tokens die when the user leaves the provider
 * @param {string | null} [options.defaultResource] null: tokens without a resource (opaque, good for userinfo)
 * @param {Record<string, object>} [options.resources] further resources: identifier → oidc-provider's server info
 * @param {(name: string) => object} [options.claimsOf] claims of a login name, without `sub`
 * @param {{key: string, cert: string}} [options.tls] serve https
 * @param {typeof fetch} [options.fetch] for back-channel logout and `jwks_uri`; default: the global one
 * @param {string} [options.stylesheet] CSS for the login, consent and sign-out pages; default: the library's own, which
 *   asks for a web font
 * @param {(request: {method: string, path: string, status: number, grant_type?: string}) => void} [options.observe]
 *   hears of every answered request
 * @param {(context: object, next: () => Promise<void>) => unknown} [options.around] Koa middleware around every request
 * @param {(configuration: object) => object} [options.configure] last word on oidc-provider's configuration
 */
export async function startProvider({
  host = '127.0.0.1',
  port = 0,
  issuer,
  clientId = 'demo',
  clientSecret = 'demo-secret-that-is-not-a-secret',
  redirectUris = ['http://localhost:8080/auth/callback'],
  postLogoutRedirectUris = ['http://localhost:8080/auth/logout/callback'],
  clients = [{
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: redirectUris,
    post_logout_redirect_uris: postLogoutRedirectUris,
  }],
  accessTokenTtl = 300,
  accessTokenFormat = 'jwt',
  accessTokenPadding = 0,
  refreshTokenPadding = 0,
  rotateRefreshToken = true,
  refreshTokenTtl = 14 * 24 * 60 * 60,
  tellRefreshTokenLife = false,
  expiresWithSession = false,
  defaultResource = DEFAULT_RESOURCE,
  resources = {},
  claimsOf = claimsOfName,
  tls,
  fetch = globalThis.fetch,
  stylesheet,
  observe = () => {},
  around,
  configure = (configuration) => configuration,
} = {}) {
  // Read at every use: a test may change them while the provider runs.
  const settings = {
    accessTokenTtl,
    accessTokenFormat,
    accessTokenPadding,
    refreshTokenPadding,
    rotateRefreshToken,
    refreshTokenTtl,
    expiresWithSession,
    /** Milliseconds to wait before a token request is processed. */
    tokenDelay: 0,
    /** Milliseconds to hold back the answer of a token request that was processed already. */
    tokenAnswerDelay: 0,
    /** Answer token requests with this instead: `{status, body, type}`. */
    tokenFailure: null,
    /** Cut every connection without an answer, as an unreachable provider would. */
    down: false,
  };
  const requests = [];
  const tokenRequests = [];
  const records = new Map();

  let handle = (_request, response) => response.writeHead(503).end();
  const listener = (request, response) => (settings.down ? request.socket.destroy() : handle(request, response));
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await listen(server, port, host);
  port = server.address().port;
  issuer ??= `${tls ? 'https' : 'http'}://${host}:${port}`;

  const provider = new Provider(issuer, configure(configurationFor({
    clients, settings, records, defaultResource, resources, claimsOf, fetch,
  })));
  provider.use(recordRequests({ settings, requests, tokenRequests, observe }));
  if (around) provider.use(around);
  if (tellRefreshTokenLife) provider.use(tellLife(records));
  if (stylesheet) provider.use(restyle(stylesheet));
  provider.on('server_error', (_context, error) => console.error(`provider: ${error.stack ?? error}`));
  handle = provider.callback();

  return {
    issuer,
    host,
    port,
    settings,
    /** Every answered request: `{method, path, status, at}`. No query, no body. */
    requests,
    /** Every answered token request: `{grant_type, status, error, client_id, at}`. */
    tokenRequests,
    /** The library's own object, for what is missing here. */
    provider,
    /** Makes every refresh token useless, as an administrator would: the next refresh gets `invalid_grant`. */
    revokeRefreshTokens() {
      for (const key of [...records.keys()]) if (key.startsWith('RefreshToken:')) records.delete(key);
    },
    /** Ends the users' sessions at the provider itself: the next sign-in shows the login form again. */
    endProviderSessions() {
      for (const key of [...records.keys()]) if (key.startsWith('Session:')) records.delete(key);
    },
    /** Nobody listens until `resume`; users, grants and tokens stay. */
    ...outage(server, port, host),
    close: () => closeServer(server),
  };
}

function configurationFor({ clients, settings, records, defaultResource, resources, claimsOf, fetch }) {
  const resourceServer = (identifier) => ({
    audience: identifier,
    // With the scopes of OpenID Connect, so that token and answer name what was granted, as most providers do.
    scope: 'openid profile email orders:read orders:write',
    accessTokenFormat: settings.accessTokenFormat,
    accessTokenTTL: settings.accessTokenTtl,
    jwt: { sign: { alg: 'RS256' } },
  });
  const known = new Map(Object.entries(resources));
  if (defaultResource !== null && !known.has(defaultResource)) known.set(defaultResource, {});

  return {
    adapter: adapterOver(records),
    clients: clients.map((client) => ({
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      ...client,
    })),
    jwks: { keys: signingKeys() },
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    scopes: ['openid', 'profile', 'email', 'offline_access', 'orders:read', 'orders:write'],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
    },
    // The claims of the scopes go into the ID token too: the application needs no userinfo request.
    conformIdTokenClaims: false,
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ ...claimsOf(id), sub: id }) }),
    pkce: { required: () => true },
    responseTypes: ['code'],
    rotateRefreshToken: () => settings.rotateRefreshToken,
    // The default asks for `offline_access`; a confidential client gets one because it may use the grant type.
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: async () => settings.expiresWithSession,
    clientBasedCORS: () => false,
    // The library's default refuses loopback addresses; everything here is on loopback.
    fetch: (url, { dispatcher: _refusesLoopback, ...options }) => fetch(url, options),
    extraTokenClaims: (_context, token) => paddingClaims(token, settings),
    formats: { bitsOfOpaqueRandomness: (_context, token) => opaqueBits(token, settings) },
    ttl: {
      AccessToken: (_context, token) => token.resourceServer?.accessTokenTTL ?? settings.accessTokenTtl,
      AuthorizationCode: 60,
      Grant: 14 * 24 * 60 * 60,
      IdToken: 60 * 60,
      Interaction: 60 * 60,
      RefreshToken: () => settings.refreshTokenTtl,
      Session: 14 * 24 * 60 * 60,
    },
    features: {
      devInteractions: { enabled: true },
      backchannelLogout: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_context, client, token) => token.clientId === client.clientId },
      jwtResponseModes: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_context, client, token) => token.clientId === client.clientId },
      rpInitiatedLogout: { enabled: true },
      userinfo: { enabled: true },
      resourceIndicators: {
        enabled: defaultResource !== null || known.size > 0,
        defaultResource: (_context, _client, oneOf) => oneOf?.[0] ?? defaultResource ?? undefined,
        // Without this a token of a request with the scope `openid` would be for userinfo only.
        useGrantedResource: () => true,
        getResourceServerInfo(_context, identifier) {
          const info = known.get(identifier);
          if (!info) throw new errors.InvalidTarget();
          return { ...resourceServer(identifier), ...info };
        },
      },
    },
  };
}

function claimsOfName(login) {
  const user = login.split('@')[0];
  const name = user
    .split(/[._\s-]+/)
    .filter(Boolean)
    .map((word) => word[0].toUpperCase() + word.slice(1))
    .join(' ');
  return {
    name: name || login,
    preferred_username: user || login,
    email: login.includes('@') ? login : `${user.toLowerCase().replace(/\s+/g, '.')}@example.com`,
    email_verified: true,
  };
}

// Random, so that nothing between here and the browser can make it short again.
function paddingClaims(token, { accessTokenPadding }) {
  if (!accessTokenPadding || token.kind !== 'AccessToken') return undefined;
  // A JWT writes its claims in base64url: four characters for three bytes.
  const length = Math.ceil((accessTokenPadding * 3) / 4);
  return { padding: randomBytes(length).toString('base64url').slice(0, length) };
}

function opaqueBits(token, { accessTokenFormat, accessTokenPadding, refreshTokenPadding }) {
  const bitsPerCharacter = 6;
  let padding = 0;
  if (token.kind === 'RefreshToken') padding = refreshTokenPadding;
  if (token.kind === 'AccessToken' && accessTokenFormat === 'opaque') padding = accessTokenPadding;
  return 256 + padding * bitsPerCharacter;
}

function recordRequests({ settings, requests, tokenRequests, observe }) {
  return async function record(context, next) {
    const isToken = context.method === 'POST' && context.path === '/token';
    if (isToken && settings.tokenDelay > 0) {
      await new Promise((resolve) => setTimeout(resolve, settings.tokenDelay));
    }
    if (isToken && settings.tokenFailure) {
      const { status = 503, body = '', type = 'text/plain' } = settings.tokenFailure;
      context.status = status;
      context.type = type;
      context.body = body;
    } else {
      await next();
    }
    if (isToken && settings.tokenAnswerDelay > 0) {
      await new Promise((resolve) => setTimeout(resolve, settings.tokenAnswerDelay));
    }
    const at = Date.now();
    const grantType = context.oidc?.params?.grant_type ?? null;
    requests.push({ method: context.method, path: context.path, status: context.status, at });
    observe({ method: context.method, path: context.path, status: context.status, grant_type: grantType });
    if (isToken) {
      tokenRequests.push({
        grant_type: grantType,
        status: context.status,
        error: context.body?.error ?? null,
        client_id: context.oidc?.client?.clientId ?? null,
        at,
      });
    }
  };
}

/** How long the refresh token of an answer can be used: the store knows. */
function tellLife(records) {
  return async function told(context, next) {
    await next();
    const token = context.path === '/token' ? context.body?.refresh_token : undefined;
    const record = token && records.get(`RefreshToken:${token}`);
    if (record) context.body.refresh_expires_in = Math.floor((record.expiresAt - Date.now()) / 1000);
  };
}

/** The library's pages keep their markup and get another style sheet. */
function restyle(stylesheet) {
  return async function restyled(context, next) {
    await next();
    if (context.response.is('html') && typeof context.body === 'string') {
      context.body = context.body.replace(/<style>[^]*?<\/style>/, () => `<style>${stylesheet}</style>`);
    }
  };
}

// One store per provider, without the size limit of the library's own.
function adapterOver(records) {
  return (model) => {
    const keyOf = (id) => `${model}:${id}`;
    const live = (key) => {
      const record = records.get(key);
      if (record && record.expiresAt <= Date.now()) {
        records.delete(key);
        return undefined;
      }
      return record;
    };
    const findBy = (field, value) => {
      for (const key of records.keys()) {
        if (key.startsWith(`${model}:`) && live(key)?.payload[field] === value) return records.get(key).payload;
      }
      return undefined;
    };
    return {
      async upsert(id, payload, expiresIn) {
        const expiresAt = typeof expiresIn === 'number' ? Date.now() + expiresIn * 1000 : Infinity;
        records.set(keyOf(id), { payload, expiresAt });
      },
      find: async (id) => live(keyOf(id))?.payload,
      findByUid: async (uid) => findBy('uid', uid),
      findByUserCode: async (code) => findBy('userCode', code),
      async consume(id) {
        const record = live(keyOf(id));
        if (record) record.payload.consumed = Math.floor(Date.now() / 1000);
      },
      async destroy(id) {
        records.delete(keyOf(id));
      },
      // Asked once for each model; a reused refresh token ends here, with everything that came from the same grant.
      async revokeByGrantId(grantId) {
        for (const [key, { payload }] of [...records]) {
          if (key.startsWith(`${model}:`) && payload.grantId === grantId) records.delete(key);
        }
      },
    };
  };
}

function signingKeys() {
  const { privateKey: rsa } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const { privateKey: ec } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = (key) => createPrivateKey(key.export({ type: 'pkcs8', format: 'pem' })).export({ format: 'jwk' });
  return [
    { ...jwk(rsa), kid: 'rsa', use: 'sig' },
    { ...jwk(ec), kid: 'ec', use: 'sig', alg: 'ES256' },
  ];
}

/** Resolves when `server` listens; rejects with the system's error (`EADDRINUSE`) when it cannot. */
export function listen(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** An outage of `server` for show: nobody listens on its port for a while. What it keeps in memory stays. */
export function outage(server, port, host) {
  return {
    async suspend() {
      if (server.listening) await closeServer(server);
    },
    async resume() {
      if (!server.listening) await listen(server, port, host);
    },
  };
}

/** Stops `server` at once: connections that browsers keep open are cut. */
export function closeServer(server) {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

// The library tells on the console that a quick start is not for production. True, known, and noise here.
function quietenLibrary() {
  for (const level of ['info', 'warn']) {
    const write = console[level];
    console[level] = (...line) => {
      if (!/^(\x1b\[[\d;]*m)?oidc-provider (NOTICE|WARNING):/.test(String(line[0]))) write.apply(console, line);
    };
  }
}
