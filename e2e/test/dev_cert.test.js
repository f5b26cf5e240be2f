// `coatroom dev-cert`: the certificate that it makes, trusted by the command that it prints, in a real browser.
//
// These tests never make a certificate themselves and never ignore a certificate error.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import https from 'node:https';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { BINARY } from '../rig/coatroom.js';
import { callApiOnce } from '../rig/page_actions.js';
import { freePorts } from '../rig/ports.js';
import { FOREIGN, Rig, scenario, shopConfiguration } from '../rig/rig.js';

const run = promisify(execFile);

/** Coatroom at `https://<host>:<port>`, with what `dev-cert` made and said. */
class DevCertRig extends Rig {
  /** @param {{host?: string, names?: string[]}} [options] names for `dev-cert`; default: its own */
  async start({ host = 'localhost', names = [] } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort] = await freePorts(3);
    this.url = `https://${host}:${port}`;
    this.appUrl = this.url;
    this.port = port;
    this.home = join(this.directory, 'home');
    await mkdir(this.home);
    ({ stdout: this.said } = await run(BINARY, ['dev-cert', ...names], { cwd: this.directory, timeout: 20_000 }));
    this.prepareProvider({ port: providerPort, redirectUri: `${this.url}/auth/callback`, options: {} });
    await this.startProvider();
    await this.startApi();
    const [, certificate, key] = /tls: \{certificate: \{file: (\S+)\}, key: \{file: (\S+)\}\}/.exec(this.said);
    await this.startCoatroom({
      wait: 'ready',
      configuration: shopConfiguration({
        rig: this,
        port,
        adminPort,
        pages: { static: FOREIGN },
        top: { tls: { certificate: { file: certificate }, key: { file: key } } },
      }),
    });
  }

  /** The command printed for Chromium on Linux, pasted into a shell. */
  async trust() {
    const lines = this.said.split('\n');
    const command = lines[lines.findIndex((line) => line.includes('Chromium on Linux')) + 1];
    await run('sh', ['-c', command], {
      cwd: this.directory,
      env: { PATH: process.env.PATH, HOME: this.home },
      timeout: 20_000,
    });
  }

  openBrowser() {
    return super.openBrowser({ home: this.home });
  }
}

scenario('a page over https on localhost signs in with the certificate of dev-cert', { Rig: DevCertRig }, async (rig) => {
  await rig.trust();
  // As after `--force`: a second time does no harm.
  await rig.trust();
  const page = await rig.openSignedIn();
  assert.equal(new URL(page.url()).origin, rig.url);
  assert.equal((await callApiOnce(page)).status, 200);
  assert.ok(await page.evaluate(() => window.isSecureContext));
});

scenario('names below localhost work as well, the wildcard included',
  { Rig: DevCertRig, host: 'www.shop.localhost', names: ['shop.localhost', '*.shop.localhost'] }, async (rig) => {
    await rig.trust();
    const page = await rig.openSignedIn();
    assert.equal((await callApiOnce(page)).status, 200);
  });

scenario('a browser that was told nothing refuses it', { Rig: DevCertRig }, async (rig) => {
  await rig.openBrowser();
  const page = await rig.browser.tab();
  await assert.rejects(page.goto(rig.url), /ERR_CERT_AUTHORITY_INVALID/);
});

scenario('node trusts the ca for the names it was made for', { Rig: DevCertRig }, async (rig) => {
  const ca = await readFile(join(rig.directory, 'dev-ca.pem'), 'utf8');
  for (const [servername, good] of [['localhost', true], ['shop.localhost', false], ['example.com', false]]) {
    const answer = new Promise((resolve) => {
      const request = https.get({ host: '127.0.0.1', port: rig.port, servername, ca, agent: false, headers: { host: `localhost:${rig.port}` } },
        (response) => { response.resume(); resolve(response.statusCode === 200); });
      request.on('error', () => resolve(false));
    });
    assert.equal(await answer, good, servername);
  }
});
