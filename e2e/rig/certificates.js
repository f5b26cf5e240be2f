// A certificate authority for one test: made by `coatroom dev-cert`, trusted by one browser profile through certutil.
//
// The authority's key is written nowhere, and nothing outside the test's directory ever trusts it.

import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { BINARY } from './coatroom.js';

const TIMEOUT = 20_000;

/**
 * Makes a CA and one certificate for `names`, and a home directory whose NSS store trusts the CA.
 *
 * @param {string} directory
 * @param {string[]} names below `localhost`
 * @returns `{ca, cert, key, authorityFile, certificateFile, keyFile, home}`: three PEM texts, four paths
 */
export async function makeCertificates(directory, names) {
  const run = (program, ...parameters) => promisify(execFile)(program, parameters, { cwd: directory, timeout: TIMEOUT });
  await run(BINARY, 'dev-cert', ...names);

  const home = join(directory, 'home');
  const store = join(home, '.pki', 'nssdb');
  await mkdir(store, { recursive: true });
  await run('certutil', '-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'end-to-end-test-ca', '-i', 'dev-ca.pem');

  const text = (name) => readFile(join(directory, name), 'utf8');
  return {
    ca: await text('dev-ca.pem'),
    cert: await text('dev-cert.pem'),
    key: await text('dev-key.pem'),
    authorityFile: join(directory, 'dev-ca.pem'),
    certificateFile: join(directory, 'dev-cert.pem'),
    keyFile: join(directory, 'dev-key.pem'),
    home,
  };
}
