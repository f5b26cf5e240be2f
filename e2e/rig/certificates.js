// A certificate authority for one test: made by openssl, trusted by one browser profile through certutil.
//
// Its keys never leave the test's directory, and nothing outside that directory ever trusts it.

import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const TIMEOUT = 20_000;
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const DAYS = ['-days', '2'];

/**
 * Makes a CA and one certificate for `names`, and a home directory whose NSS store trusts the CA.
 *
 * @returns `{ca, cert, key, certificateFile, keyFile, home}`: three PEM texts, three paths
 */
export async function makeCertificates(directory, names) {
  const run = (program, ...parameters) => promisify(execFile)(program, parameters, { cwd: directory, timeout: TIMEOUT });
  await run('openssl', 'req', '-x509', ...KEY, ...DAYS, '-keyout', 'ca.key', '-out', 'ca.pem',
    '-subj', '/CN=End-to-end test CA',
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
  await run('openssl', 'req', ...KEY, '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', `/CN=${names[0]}`);
  await writeFile(join(directory, 'leaf.extensions'), [
    `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`,
    'basicConstraints=CA:FALSE',
    'keyUsage=digitalSignature',
    'extendedKeyUsage=serverAuth',
  ].join('\n'));
  await run('openssl', 'x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
    ...DAYS, '-extfile', 'leaf.extensions', '-out', 'leaf.pem');

  const home = join(directory, 'home');
  const store = join(home, '.pki', 'nssdb');
  await mkdir(store, { recursive: true });
  await run('certutil', '-d', `sql:${store}`, '-N', '--empty-password');
  await run('certutil', '-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'end-to-end-test-ca', '-i', 'ca.pem');

  const text = (name) => readFile(join(directory, name), 'utf8');
  return {
    ca: await text('ca.pem'),
    cert: await text('leaf.pem'),
    key: await text('leaf.key'),
    certificateFile: join(directory, 'leaf.pem'),
    keyFile: join(directory, 'leaf.key'),
    home,
  };
}
