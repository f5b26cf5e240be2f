// django-oauth-toolkit, the ordinary OAuth server: a Django site of one file (`django_site.py`) in a process of its own,
// with Python packages below `.tools` (see `install.sh`).
//
// Its access tokens are opaque and short, its responses have no `iss`, it asks before it signs out, and a refresh token that
// comes a second time ends everything that came from the same sign-in.

import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { request } from '../rig/http.js';
import { ServerProcess } from '../rig/stores/process.js';

const PYTHON = join(import.meta.dirname, '../.tools/django/bin/python');
const SITE = join(import.meta.dirname, 'django_site.py');
const USER_PASSWORD = 'a password of nobody';

/** Why its tests cannot run here; false if they can. */
export function missing() {
  return existsSync(PYTHON) ? false : 'no django-oauth-toolkit below e2e/.tools: e2e/install.sh';
}

/**
 * Starts one and answers `{issuer, fillForm, refreshTokens(), answersAt(path), log(), stop()}` once it serves.
 *
 * @param {object} options
 * @param {string} options.directory for its database
 * @param {number} options.port
 * @param {string} options.clientId
 * @param {string} options.clientSecret
 * @param {string} options.redirectUri
 * @param {string} options.postLogoutRedirectUri
 * @param {string[]} options.users login names
 * @param {number} [options.accessTokenTtl] seconds
 */
export async function startDjango({
  directory, port, clientId, clientSecret, redirectUri, postLogoutRedirectUri, users, accessTokenTtl = 300,
}) {
  const home = join(directory, 'django');
  await mkdir(home);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const settings = join(home, 'settings.json');
  await writeFile(settings, JSON.stringify({
    directory: home,
    port,
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uri: redirectUri,
    post_logout_redirect_uri: postLogoutRedirectUri,
    users,
    password: USER_PASSWORD,
    access_token_ttl: accessTokenTtl,
    signing_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  }), { mode: 0o600 });
  const issuer = `http://127.0.0.1:${port}/o`;
  const server = new ServerProcess({
    name: 'django',
    command: PYTHON,
    words: ['-u', SITE, settings],
    directory: home,
    env: { PATH: process.env.PATH, PYTHONDONTWRITEBYTECODE: '1' },
    isReady: async () => (await request(`${issuer}/.well-known/openid-configuration`, { timeout: 2_000 })).status === 200,
  });
  await server.start();
  return {
    issuer,
    fillForm,
    log: () => server.output(),
    /** Every refresh token of its database, the oldest first. */
    refreshTokens: () => refreshTokens(join(home, 'django.sqlite3')),
    /** The statuses with which it answered requests at a path, the oldest first. */
    answersAt: (path) => [...server.output().matchAll(/"[A-Z]+ (\S+) HTTP\/1.1" (\d{3}) /g)]
      .filter(([, target]) => target.split('?')[0] === path).map(([, , status]) => Number(status)),
    stop: () => server.stop(),
  };
}

async function refreshTokens(file) {
  const program = 'import json, sqlite3, sys; print(json.dumps([token for (token,) in '
    + 'sqlite3.connect(sys.argv[1], timeout=20).execute("SELECT token FROM oauth2_provider_refreshtoken ORDER BY id")]))';
  const { stdout } = await promisify(execFile)(PYTHON, ['-c', program, file], { timeout: 20_000 });
  return JSON.parse(stdout);
}

/** Its forms, plain HTML: login, consent, sign-out. What is hidden in them goes back as it came. */
function fillForm(page, user) {
  const form = /<form[^>]*method="post"[^>]*>([^]*?)<\/form>/.exec(page.text)?.[1];
  if (!form) throw new Error(`django answers ${page.status} at ${new URL(page.url).pathname}`);
  const fields = new URLSearchParams();
  for (const [tag] of form.matchAll(/<input[^>]*>/g)) {
    const attribute = (name) => unescaped(new RegExp(` ${name}="([^"]*)"`).exec(tag)?.[1] ?? '');
    if (attribute('type') === 'hidden') fields.append(attribute('name'), attribute('value'));
    if (attribute('name') === 'allow') fields.append('allow', attribute('value') || 'on');
  }
  if (form.includes('name="username"')) {
    fields.set('username', user.name);
    fields.set('password', USER_PASSWORD);
  }
  return user.navigate('POST', page.url, String(fields));
}

function unescaped(text) {
  return text.replace(/&#x([0-9a-f]+);/gi, (_all, code) => String.fromCharCode(parseInt(code, 16)))
    .replace(/&#(\d+);/g, (_all, code) => String.fromCharCode(code))
    .replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
}
