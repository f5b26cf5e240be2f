// A small OAuth client that reads the same settings as Coatroom and shares no code with it: what it can do at the provider of
// a profile and at the verifying API is possible, and what a test lets it leave out must be refused.
//
// It is no token handler: it holds tokens in variables, and its user's browser never visits the application.

import { createHash, createPrivateKey, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { request } from '../rig/http.js';
import { CLIENT_ID, CLIENT_SECRET } from '../rig/rig.js';
import { jose } from './jose.js';

const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token';
const random = () => randomBytes(18).toString('base64url');
const digest = (text) => createHash('sha256').update(text).digest('base64url');

export class Client {
  #nonces = new Map();

  /**
   * @param {object} options
   * @param {string} options.issuer
   * @param {string} options.url the application's origin
   * @param {object} options.settings as below `provider:`
   * @param {object} [options.route] as below a route
   * @param {object} [options.other] as below another route
   * @param {object} options.keys what `makeKeys` answered
   */
  constructor({ issuer, url, settings, route = {}, other = {}, keys }) {
    Object.assign(this, { issuer, settings, route, other, keys, redirectUri: `${url}/auth/callback` });
    const { profile = '', client_auth: auth = {} } = settings;
    this.auth = typeof auth === 'string' ? { method: auth.startsWith('client_secret_') ? auth : `client_secret_${auth}` } : { method: 'client_secret_basic', ...auth };
    this.pushes = settings.pushed_authorization_requests === 'required' || profile.startsWith('fapi2');
    this.signsRequests = Boolean(settings.request_object);
    this.responseMode = settings.response_mode ?? (profile === 'fapi2-message-signing' ? 'jwt' : undefined);
    this.ca = keys.texts.ca;
  }

  async prepare() {
    this.metadata = await this.#json(`${this.issuer}/.well-known/openid-configuration`);
    this.keySet = jose.createLocalJWKSet(await this.#json(this.metadata.jwks_uri));
    const { certificate, key } = this.auth;
    if (certificate) this.certificate = { cert: await readFile(certificate.file, 'utf8'), key: await readFile(key.file, 'utf8') };
    const { dpop } = this.settings;
    if (dpop) this.dpop = await jose.generateKeyPair(dpop.algorithm ?? 'ES256', { extractable: true });
  }

  /** Where the browser goes. */
  async authorizationUrl() {
    this.login = { state: random(), nonce: random(), verifier: random() + random() };
    let parameters = {
      response_type: 'code', client_id: CLIENT_ID, redirect_uri: this.redirectUri, scope: 'openid profile orders:read',
      state: this.login.state, nonce: this.login.nonce, code_challenge: digest(this.login.verifier), code_challenge_method: 'S256',
      ...this.settings.parameters, ...(this.responseMode ? { response_mode: this.responseMode } : {}),
      ...this.#resources(),
    };
    if (this.signsRequests) {
      parameters = { client_id: CLIENT_ID, request: await this.#sign({ ...parameters, aud: this.issuer }, 'oauth-authz-req+jwt') };
    }
    if (this.pushes) {
      const { status, value } = await this.#post('pushed_authorization_request_endpoint', parameters);
      if (status !== 201) throw new Error(`pushed request: ${status} ${value.error} ${value.error_description}`);
      parameters = { client_id: CLIENT_ID, request_uri: value.request_uri };
    }
    return `${this.metadata.authorization_endpoint}?${this.#form(parameters)}`;
  }

  /** The code becomes tokens; `response` are the parameters that led back. */
  async exchange(response) {
    let answer = Object.fromEntries(response);
    if (answer.response) {
      ({ payload: answer } = await jose.jwtVerify(answer.response, this.keySet, { issuer: this.issuer, audience: CLIENT_ID, requiredClaims: ['exp'] }));
    }
    if (answer.state !== this.login.state || answer.iss !== this.issuer || !answer.code) throw new Error(`not ours: ${answer.error} ${answer.error_description}`);
    await this.#take({
      grant_type: 'authorization_code', code: answer.code, redirect_uri: this.redirectUri, code_verifier: this.login.verifier,
    });
    let idToken = this.tokens.id_token;
    if (this.settings.id_token_decryption_keys) {
      const [{ file }] = this.settings.id_token_decryption_keys;
      const { plaintext } = await jose.compactDecrypt(idToken, createPrivateKey(await readFile(file, 'utf8')));
      idToken = new TextDecoder().decode(plaintext);
    }
    const { payload } = await jose.jwtVerify(idToken, this.keySet, { issuer: this.issuer, audience: CLIENT_ID });
    if (payload.nonce !== this.login.nonce) throw new Error('another nonce');
    this.claims = this.settings.userinfo === 'always' ? { ...payload, ...await this.#userinfo() } : payload;
  }

  refresh() {
    return this.#take({ grant_type: 'refresh_token', refresh_token: this.tokens.refresh_token });
  }

  /** A `GET` at the API; `forge` may spoil its headers, `change` its proof, `certificate` what the connection shows. */
  async call(url, { forge = (headers) => headers, change, route = this.route, certificate } = {}) {
    const token = await this.#apiToken(route.token);
    const headers = async () => forge(this.dpop
      ? { authorization: `DPoP ${token}`, dpop: await this.proof('GET', url, { token, change }) }
      : { authorization: `Bearer ${token}` });
    const answer = await this.#send(url, { headers, certificate });
    return { status: answer.status, challenge: answer.headers['www-authenticate'] };
  }

  async revoke() {
    const { status } = await this.#post('revocation_endpoint', { token: this.tokens.refresh_token, token_type_hint: 'refresh_token' });
    if (status !== 200) throw new Error(`revocation: ${status}`);
  }

  /** A DPoP proof (RFC 9449 §4.2); `change` may spoil it. */
  async proof(method, url, { token, change = {} } = {}) {
    const { origin, pathname } = new URL(url);
    const payload = {
      jti: random(), htm: method, htu: `${origin}${pathname}`, iat: Math.floor(Date.now() / 1000),
      ...(token ? { ath: digest(token) } : {}), ...(this.#nonces.has(origin) ? { nonce: this.#nonces.get(origin) } : {}), ...change,
    };
    const jwk = await jose.exportJWK(this.dpop.publicKey);
    const alg = jwk.kty === 'OKP' ? 'EdDSA' : 'ES256';
    return new jose.SignJWT(payload).setProtectedHeader({ typ: 'dpop+jwt', alg, jwk }).sign(this.dpop.privateKey);
  }

  async #apiToken({ exchange, client_credentials: own, introspection, resource } = {}) {
    if (exchange) {
      return (await this.#tokens({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', subject_token: this.tokens.access_token,
        subject_token_type: ACCESS_TOKEN_TYPE, audience: exchange.audience,
      })).access_token;
    }
    if (own) return (await this.#tokens({ grant_type: 'client_credentials', scope: own.scopes.join(' ') })).access_token;
    if (introspection?.response === 'jwt') {
      const { text } = await this.#post('introspection_endpoint', { token: this.tokens.access_token }, 'application/token-introspection+jwt');
      return text;
    }
    if (resource) {
      this.tokens = { ...this.tokens, ...await this.#tokens({ grant_type: 'refresh_token', refresh_token: this.tokens.refresh_token, resource }) };
    }
    return this.tokens.access_token;
  }

  #resources() {
    const resource = [this.route, this.other].map(({ token }) => token?.resource).filter(Boolean);
    return resource.length > 0 ? { resource } : {};
  }

  async #userinfo() {
    const { text } = await request(this.metadata.userinfo_endpoint, { ca: this.ca, headers: { authorization: `Bearer ${this.tokens.access_token}` } });
    return (await jose.jwtVerify(text, this.keySet, { issuer: this.issuer, audience: CLIENT_ID })).payload;
  }

  async #take(parameters) {
    this.tokens = { ...this.tokens, ...await this.#tokens(parameters) };
  }

  async #tokens(parameters) {
    const { status, value } = await this.#post('token_endpoint', parameters);
    if (status !== 200) throw new Error(`${parameters.grant_type}: ${status} ${value.error} ${value.error_description}`);
    return value;
  }

  /** One authenticated request of the client at an endpoint of the provider. */
  async #post(endpoint, parameters, accept = 'application/json') {
    const url = (this.certificate && this.metadata.mtls_endpoint_aliases?.[endpoint]) || this.metadata[endpoint];
    const { headers, fields } = await this.#authentication();
    const isProved = this.dpop && endpoint === 'token_endpoint';
    const answer = await this.#send(url, {
      method: 'POST',
      body: this.#form({ ...parameters, ...fields }),
      again: async () => this.#form({ ...parameters, ...(await this.#authentication()).fields }),
      headers: async () => ({
        accept, 'content-type': 'application/x-www-form-urlencoded', ...headers, ...(isProved ? { dpop: await this.proof('POST', url) } : {}),
      }),
    });
    return { status: answer.status, text: answer.text, value: accept === 'application/json' && answer.text ? answer.json() : null };
  }

  /** Sent, and once more with the nonce that was asked for (RFC 9449 §8, §9). */
  async #send(url, { method = 'GET', body, again, headers, certificate = this.certificate }) {
    const { origin } = new URL(url);
    let answer;
    for (const attempt of [1, 2]) {
      answer = await request(url, {
        method, body: attempt === 2 && again ? await again() : body, ca: this.ca, certificate, headers: await headers(),
      });
      const nonce = answer.headers['dpop-nonce'];
      if (nonce) this.#nonces.set(origin, nonce);
      if (!nonce || answer.status < 400) break;
    }
    return answer;
  }

  async #authentication() {
    const { method, file } = this.auth;
    switch (method) {
      case 'client_secret_basic':
        return { headers: { authorization: `Basic ${Buffer.from(`${CLIENT_ID}:${CLIENT_SECRET}`).toString('base64')}` }, fields: {} };
      case 'client_secret_post':
        return { headers: {}, fields: { client_id: CLIENT_ID, client_secret: CLIENT_SECRET } };
      case 'private_key_jwt':
        return this.#asserted(await this.#sign({ sub: CLIENT_ID, aud: this.issuer }));
      case 'client_secret_jwt':
        return this.#asserted(await claims({ sub: CLIENT_ID, aud: this.issuer }).setProtectedHeader({ alg: 'HS256' })
          .sign(new TextEncoder().encode(CLIENT_SECRET)));
      case 'assertion_file':
        return this.#asserted((await readFile(file, 'utf8')).trim());
      case 'tls_client_auth':
      case 'self_signed_tls_client_auth':
        return { headers: {}, fields: { client_id: CLIENT_ID } };
      default:
        throw new Error(`unknown client authentication ${method}`);
    }
  }

  #asserted(assertion) {
    return { headers: {}, fields: { client_id: CLIENT_ID, client_assertion_type: ASSERTION, client_assertion: assertion } };
  }

  #sign(payload, typ) {
    return signedByClient(this.keys, payload, typ);
  }

  #form(parameters) {
    const pairs = Object.entries(parameters).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
    return String(new URLSearchParams(pairs));
  }

  async #json(url) {
    return (await request(url, { ca: this.ca })).json();
  }
}

/** A JWT of the client's, by its registered key. */
export function signedByClient({ texts, jwks }, payload, typ, life) {
  const [{ kid }] = jwks.keys;
  return claims(payload, life).setProtectedHeader({ alg: 'ES256', kid, ...(typ ? { typ } : {}) }).sign(createPrivateKey(texts.sign));
}

function claims(payload, life = '60s') {
  return new jose.SignJWT({ ...payload }).setIssuer(CLIENT_ID).setJti(random()).setIssuedAt().setNotBefore('0s').setExpirationTime(life);
}
