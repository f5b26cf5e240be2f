// An API that verifies what it is sent, as an API should: JWTs by the provider's key set (RFC 9068 §4), opaque tokens by
// introspection (RFC 7662), DPoP proofs (RFC 9449 §4.3) with nonces of its own (§9), and certificate-bound tokens against
// the certificate of the connection (RFC 8705 §3).
//
// It takes exactly one kind of token: a Bearer token that is bound to something, or a bound one that came as a Bearer token,
// is refused. It shares no code with Coatroom.

import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

import { closeServer, listen } from '../../demo/provider.js';
import { request } from '../rig/http.js';
import { CLIENT_ID } from '../rig/rig.js';
import { jose } from './jose.js';
import { API_CLIENT } from './provider.js';

const PROOF_LIFE = 60;
/** A nonce is good for so many requests, so that a client meets a new one in the middle of a session. */
const NONCE_USES = 4;
const PROOF_ALGORITHMS = ['ES256', 'Ed25519', 'EdDSA'];
const thumbprint = (bytes) => createHash('sha256').update(bytes).digest('base64url');

/**
 * Starts one and answers `{url, verified, refused, close()}`: what it verified of each request that it accepted, and why it
 * refused the others.
 *
 * @param {object} options
 * @param {string} options.issuer
 * @param {object} options.token what it takes: `{kind: 'bearer' | 'dpop' | 'certificate', format: 'jwt' | 'opaque' |
 *   'introspection-jwt', audience}`
 * @param {object} options.keys what `makeKeys` answered
 */
export async function startVerifyingApi({ issuer, token: wanted, keys }) {
  const ca = keys.texts.ca;
  const tls = wanted.kind === 'certificate'
    ? { key: keys.texts.server_key, cert: keys.texts.server, ca, requestCert: true, rejectUnauthorized: false }
    : null;
  const api = { verified: [], refused: [] };
  const state = { issuer, ca, wanted, nonces: nonceSource(), proofs: new Set() };
  const answer = async (incoming, outgoing) => {
    const url = `${api.url}${incoming.url.split('?')[0]}`;
    try {
      const verified = await verify({ incoming, url, ...state });
      api.verified.push(verified);
      reply(outgoing, 200, { sub: verified.claims.sub });
    } catch (error) {
      api.refused.push(error.message);
      const scheme = wanted.kind === 'dpop' ? 'DPoP' : 'Bearer';
      if (error.nonce) outgoing.setHeader('DPoP-Nonce', error.nonce);
      outgoing.setHeader('WWW-Authenticate', `${scheme} error="${error.nonce ? 'use_dpop_nonce' : 'invalid_token'}"`);
      reply(outgoing, 401, { error: 'invalid_token' });
    }
  };
  const server = tls ? createTlsServer(tls, answer) : createServer(answer);
  await listen(server, 0, '127.0.0.1');
  api.url = `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  api.close = () => closeServer(server);
  return api;
}

async function verify({ incoming, url, issuer, ca, wanted, nonces, proofs }) {
  const [scheme, token, ...rest] = (incoming.headers.authorization ?? '').split(' ');
  if (!token || rest.length > 0) throw new Error('no token');
  const isDpop = wanted.kind === 'dpop';
  if (scheme.toLowerCase() !== (isDpop ? 'dpop' : 'bearer')) throw new Error(`the scheme ${scheme}`);
  const claims = await claimsOf({ token, issuer, ca, wanted });
  const { jkt, 'x5t#S256': x5t, ...foreign } = claims.cnf ?? {};
  if (Object.keys(foreign).length > 0) throw new Error('an unknown confirmation');
  if (!isDpop && (jkt || incoming.headers.dpop)) throw new Error('a DPoP token where another is wanted');
  if (wanted.kind !== 'certificate' && x5t) throw new Error('a certificate-bound token where another is wanted');
  if (isDpop) await verifyProof({ incoming, url, token, jkt, nonces, proofs });
  if (wanted.kind === 'certificate') {
    const raw = incoming.socket.getPeerCertificate()?.raw;
    if (!raw) throw new Error('no client certificate');
    if (!x5t || x5t !== thumbprint(new X509Certificate(raw).raw)) throw new Error('bound to another certificate');
  }
  return { kind: wanted.kind, format: wanted.format, token, claims };
}

async function claimsOf({ token, issuer, ca, wanted }) {
  const metadata = await json(`${issuer}/.well-known/openid-configuration`, ca);
  if (wanted.format === 'opaque') {
    if (token.split('.').length === 3) throw new Error('a JWT where an opaque token is wanted');
    const credentials = Buffer.from(`${API_CLIENT.client_id}:${API_CLIENT.client_secret}`).toString('base64');
    const { status, text } = await request(metadata.introspection_endpoint, {
      ca, method: 'POST', body: String(new URLSearchParams({ token })),
      headers: { authorization: `Basic ${credentials}`, 'content-type': 'application/x-www-form-urlencoded' },
    });
    const claims = status === 200 ? JSON.parse(text) : {};
    if (claims.active !== true) throw new Error('not active');
    if (wanted.audience && claims.aud !== wanted.audience) throw new Error(`for ${claims.aud}`);
    return claims;
  }
  const keySet = jose.createLocalJWKSet(await json(metadata.jwks_uri, ca));
  if (wanted.format === 'introspection-jwt') {
    // who asks is the audience (RFC 9701 §5), and that is the token handler
    const { payload } = await jose.jwtVerify(token, keySet, { issuer, audience: CLIENT_ID, typ: 'token-introspection+jwt' });
    if (payload.token_introspection?.active !== true) throw new Error('not active');
    return payload.token_introspection;
  }
  const { payload } = await jose.jwtVerify(token, keySet, {
    issuer, audience: wanted.audience, typ: 'at+jwt', requiredClaims: ['exp', 'iat', 'jti', 'sub', 'client_id'],
  });
  return payload;
}

async function verifyProof({ incoming, url, token, jkt, nonces, proofs }) {
  const { dpop } = incoming.headersDistinct;
  if (dpop?.length !== 1) throw new Error('not one proof');
  const { payload, protectedHeader: { jwk } } = await jose.jwtVerify(dpop[0], jose.EmbeddedJWK, {
    typ: 'dpop+jwt', algorithms: PROOF_ALGORITHMS,
  });
  if ('d' in jwk) throw new Error('a private key in the proof');
  if (!jkt || (await jose.calculateJwkThumbprint(jwk)) !== jkt) throw new Error('bound to another key');
  if (payload.htm !== incoming.method) throw new Error('a proof for another method');
  if (payload.htu !== url) throw new Error('a proof for another address');
  if (payload.ath !== thumbprint(token)) throw new Error('a proof for another token');
  if (Math.abs(Date.now() / 1000 - payload.iat) > PROOF_LIFE) throw new Error('a proof of another time');
  if (typeof payload.jti !== 'string' || proofs.has(payload.jti)) throw new Error('a proof that was used');
  if (!nonces.take(payload.nonce)) throw Object.assign(new Error('a proof without the nonce'), { nonce: nonces.current() });
  proofs.add(payload.jti);
}

function nonceSource() {
  let nonce = randomBytes(12).toString('base64url');
  let uses = 0;
  return {
    current: () => nonce,
    take(given) {
      if (given !== nonce) return false;
      uses += 1;
      if (uses % NONCE_USES === 0) nonce = randomBytes(12).toString('base64url');
      return true;
    },
  };
}

async function json(url, ca) {
  const { status, text } = await request(url, { ca });
  if (status !== 200) throw new Error(`${url}: ${status}`);
  return JSON.parse(text);
}

function reply(outgoing, status, value) {
  outgoing.writeHead(status, { 'content-type': 'application/json' });
  outgoing.end(JSON.stringify(value));
}
