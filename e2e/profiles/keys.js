// Keys and certificates of one test: the client's keys for signatures and decryption, an authority, the servers' certificate,
// and the client's certificates, one from the authority and one signed by itself.
//
// Nothing outside the test's directory ever trusts them, and they are over in two days.

import { execFile } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The subject of the client's certificate, as RFC 4514 writes it. */
export const SUBJECT = 'CN=shop';
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-sha256'];
const END_ENTITY = 'basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n';

/**
 * Makes them in `directory`/keys. Answers `{files, texts, jwks}`: paths and PEM texts by name (`sign`, `decrypt`, `ca`,
 * `server`, `server_key`, `client`, `client_key`, `self`, `self_key`), and what a client registers.
 */
export async function makeKeys(directory) {
  const home = join(directory, 'keys');
  await mkdir(home);
  const names = ['sign', 'decrypt', 'ca', 'ca_key', 'server', 'server_key', 'client', 'client_key', 'self', 'self_key'];
  const files = Object.fromEntries(names.map((name) => [name, join(home, `${name}.pem`)]));
  const pkcs8 = ({ privateKey }) => privateKey.export({ type: 'pkcs8', format: 'pem' });
  await writeFile(files.sign, pkcs8(generateKeyPairSync('ec', { namedCurve: 'P-256' })), { mode: 0o600 });
  await writeFile(files.decrypt, pkcs8(generateKeyPairSync('rsa', { modulusLength: 2048 })), { mode: 0o600 });

  const openssl = (...words) => promisify(execFile)('openssl', words, { cwd: home, timeout: 20_000 });
  const extensions = join(home, 'end_entity.cnf');
  await writeFile(extensions, END_ENTITY);
  await openssl('req', '-x509', ...EC, '-days', '2', '-subj', '/CN=authority of one test', '-keyout', files.ca_key, '-out', files.ca);
  for (const [name, subject] of [['server', '/CN=127.0.0.1'], ['client', '/CN=shop']]) {
    const request = join(home, `${name}.csr`);
    await openssl('req', ...EC, '-subj', subject, '-keyout', files[`${name}_key`], '-out', request);
    await openssl('x509', '-req', '-in', request, '-CA', files.ca, '-CAkey', files.ca_key, '-CAcreateserial', '-days', '2', '-sha256', '-extfile', extensions, '-out', files[name]);
  }
  await openssl('req', '-x509', ...EC, '-days', '2', '-subj', '/CN=shop by itself', '-keyout', files.self_key, '-out', files.self);

  const texts = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(files[name], 'utf8')])));
  const self = new X509Certificate(texts.self);
  const publicJwk = (pem, more) => ({ ...createPublicKey(pem).export({ format: 'jwk' }), ...more });
  return {
    files,
    texts,
    jwks: {
      keys: [
        publicJwk(texts.sign, { kid: 'sign', use: 'sig', alg: 'ES256' }),
        publicJwk(texts.decrypt, { kid: 'decrypt', use: 'enc', alg: 'RSA-OAEP-256' }),
        publicJwk(texts.self, { kid: 'self', use: 'sig', x5c: [self.raw.toString('base64')] }),
      ],
    },
  };
}
