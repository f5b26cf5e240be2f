// `coatroom doctor` against a real OpenID Provider: good as it is, and each thing that operators get wrong first.
//
// It asks beside a server that runs, and no user is the worse for it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { BINARY } from '../rig/coatroom.js';
import { CLIENT_SECRET, scenario } from '../rig/rig.js';

/** The run has to end within this, whoever hangs. */
const BOUND = 30_000;

scenario('the doctor finds nothing at a real provider where nothing is wrong, and then what is', {
  session: { store: 'sqlite:sessions.db', idle: '30m', absolute: '12h' },
}, async (rig) => {
  const healthy = await doctor(rig);
  assert.equal(healthy.code, 0, healthy.text);
  for (const check of ['issuer', 'PKCE', 'client_auth', 'signing keys', 'client', 'redirect URI', 'upstream']) {
    assert.equal(healthy.of(check).state, 'good', `${check}: ${healthy.text}`);
  }
  assert.match(healthy.of('an entry').found, /written, read and deleted/);
  assert.match(healthy.of('listen').found, /serves here already/);

  const wrongSecret = await doctor(rig, { secret: 'another-secret-4hTz9' });
  assert.equal(wrongSecret.code, 1);
  assert.equal(wrongSecret.of('client').state, 'failed', wrongSecret.text);
  assert.match(wrongSecret.of('client').todo, /provider\.client_secret/);
  assert.equal(wrongSecret.of('redirect URI').state, 'good', wrongSecret.text);

  const elsewhere = await doctor(rig, { change: (text) => text.replaceAll(rig.url, 'http://localhost:1') });
  assert.equal(elsewhere.code, 1);
  assert.equal(elsewhere.of('redirect URI').state, 'failed', elsewhere.text);
  assert.match(elsewhere.of('redirect URI').todo, /register exactly "http:\/\/localhost:1\/auth\/callback"/);

  const posted = (text) => text.replace(/^( *)client_id: /m, '$1response_mode: form_post\n$&');
  const form = await doctor(rig, { change: posted });
  assert.match(form.of('response mode').found, /form_post/);
  assert.equal(form.of('redirect URI').state, 'good', `its answer is a form with status 400: ${form.text}`);
  const formElsewhere = await doctor(rig, { change: (text) => posted(text).replaceAll(rig.url, 'http://localhost:1') });
  assert.equal(formElsewhere.of('redirect URI').state, 'failed', formElsewhere.text);

  const pushed = (text) => text.replace(/^ *pushed_authorization_requests: .*\n/m, '');
  const unknownThere = await doctor(rig, { secret: 'another-secret-4hTz9', change: pushed });
  assert.match(unknownThere.of('redirect URI').found, /refuses the pushed request \(invalid_client\)/, unknownThere.text);

  const slash = await doctor(rig, { change: (text) => text.replaceAll(rig.issuer, `${rig.issuer}/`) });
  assert.equal(slash.code, 1);
  assert.match(slash.of('issuer').found, /ours has a slash at its end/, slash.text);
  assert.equal(slash.of('client').state, 'unclear', 'nobody shows a secret to somebody else');

  rig.provider.settings.down = true;
  const down = await doctor(rig);
  assert.equal(down.code, 1);
  assert.equal(down.of('metadata').state, 'failed', down.text);
  assert.equal(down.of('upstream').state, 'good', 'the rest is examined');
  rig.provider.settings.down = false;

  const page = await rig.openSignedIn();
  assert.equal(await page.innerText('#status') === 'signed out', false, 'who comes afterwards signs in as ever');
});

/** Runs it with the server's own configuration, or with a changed copy of it. */
async function doctor(rig, { secret = CLIENT_SECRET, change } = {}) {
  let file = 'coatroom.yaml';
  if (change) {
    const text = await readFile(join(rig.directory, file), 'utf8');
    file = 'changed.yaml';
    await writeFile(join(rig.directory, file), change(text), { mode: 0o600 });
  }
  const began = Date.now();
  const { code, stdout, stderr } = await new Promise((done) => {
    execFile(BINARY, ['doctor', '--config', file, '--json'], {
      cwd: rig.directory, env: { PATH: process.env.PATH, SHOP_CLIENT_SECRET: secret }, timeout: BOUND,
    }, (error, out, err) => done({ code: error ? error.code ?? error.signal : 0, stdout: out, stderr: err }));
  });
  assert.ok(Date.now() - began < BOUND);
  assert.ok(!stdout.includes(secret) && !stderr.includes(secret), 'no secret is shown');
  const { checks } = JSON.parse(stdout || assert.fail(stderr));
  return { code, text: stdout, of: (check) => checks.find((finding) => finding.check === check) ?? assert.fail(`${check}: ${stdout}`) };
}
