// Glewlwyd 2.7, a real OpenID Provider in C with habits of its own: Debian's package unpacked below `.tools` (see
// `install.sh`), a database of its own in SQLite, provisioned through its JSON admin API.
//
// It never listens anywhere but on loopback, and its log tells what it refused: its answers mostly do not.
//
// Its habits, for which nothing here makes up: it answers 400 with an empty body where RFC 6749 §5.2 wants a JSON object,
// it does not form-decode what `client_secret_basic` sends (§2.3.1), its logout tokens have `typ: JWT`, no `exp` and no
// `sid`, its authorization responses carry `session_state`, and its revocation answers without a content type.

import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { request } from '../rig/http.js';
import { ServerProcess } from '../rig/stores/process.js';

const UNPACKED = join(import.meta.dirname, '../.tools/glewlwyd/usr');
/** The name of the plugin is part of every address. */
const PLUGIN = 'oidc';
const ADMIN = { username: 'admin', password: 'password' };
const USER_PASSWORD = 'a password of nobody';

/** Why its tests cannot run here; false if they can. */
export function missing() {
  return existsSync(join(UNPACKED, 'bin/glewlwyd')) ? false : 'no Glewlwyd below e2e/.tools: e2e/install.sh';
}

/**
 * Starts one and answers `{issuer, fillForm, log(), stop()}` once the client and the users are there.
 *
 * @param {object} options
 * @param {string} options.directory for configuration and database
 * @param {number} options.port
 * @param {string} options.clientId
 * @param {string} options.clientSecret
 * @param {string} options.redirectUri
 * @param {string} options.postLogoutRedirectUri
 * @param {string} [options.backchannelLogoutUri]
 * @param {string[]} options.users login names
 * @param {number} [options.accessTokenTtl] seconds
 * @param {object} [options.parameters] further parameters of its OpenID Connect plugin
 * @param {object} [options.client] further properties of the client
 */
export async function startGlewlwyd({
  directory, port, clientId, clientSecret, redirectUri, postLogoutRedirectUri, backchannelLogoutUri, users,
  accessTokenTtl = 300, parameters = {}, client = {},
}) {
  const root = UNPACKED;
  const home = join(directory, 'glewlwyd');
  await mkdir(home);
  const origin = `http://127.0.0.1:${port}`;
  const issuer = `${origin}/api/${PLUGIN}`;
  await makeDatabase(join(home, 'glewlwyd.db'), join(root, 'share/dbconfig-common/data/glewlwyd/install/sqlite3'));
  const configuration = join(home, 'glewlwyd.conf');
  await writeFile(configuration, configurationFor({ root, home, origin, port }));
  const server = new ServerProcess({
    name: 'glewlwyd',
    command: join(root, 'bin/glewlwyd'),
    words: ['--config-file', configuration],
    directory: home,
    isReady: async () => (await request(`${origin}/config`, { timeout: 1_000 })).status === 200,
  });
  await server.start();
  try {
    const admin = await signInAsAdmin(origin);
    const scopes = ['openid', 'orders'];
    await admin('POST', '/scope/', { name: 'orders', display_name: 'Orders', password_required: false });
    for (const name of users) {
      await admin('POST', '/user/', {
        username: name, name, email: `${name}@example.com`, password: USER_PASSWORD, scope: [...scopes, 'g_profile'], enabled: true,
      });
    }
    // Its own form of a client has a single string there, which its end-session endpoint does not read.
    const { parameters: storage, ...module } = await admin('GET', '/mod/client/database');
    storage['data-format'].post_logout_redirect_uris = { multiple: true, read: true, write: true };
    await admin('PUT', '/mod/client/database', { ...module, parameters: storage });
    await admin('PUT', '/mod/client/database/reset');
    await admin('POST', '/client/', {
      client_id: clientId,
      name: 'the shop',
      client_secret: clientSecret,
      confidential: true,
      enabled: true,
      scope: [],
      redirect_uri: [redirectUri],
      authorization_type: ['code', 'refresh_token'],
      token_endpoint_auth_method: ['client_secret_basic'],
      post_logout_redirect_uris: [postLogoutRedirectUri],
      ...(backchannelLogoutUri ? { backchannel_logout_uri: backchannelLogoutUri } : {}),
      ...client,
    });
    await admin('POST', '/mod/plugin/', {
      module: 'oidc',
      name: PLUGIN,
      display_name: 'OpenID Connect',
      enabled: true,
      order_rank: 0,
      readonly: false,
      parameters: { ...pluginParameters(issuer, accessTokenTtl), ...parameters },
    });
  } catch (error) {
    await server.stop();
    error.message += `\n${server.output()}`;
    throw error;
  }
  return {
    issuer,
    log: () => server.output(),
    stop: () => server.stop(),
    fillForm: (page, user) => fillPage(page, user, origin, clientId),
  };
}

/** Python has SQLite with it wherever it has anything. */
function makeDatabase(file, script) {
  const program = 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(open(sys.argv[2]).read())';
  return promisify(execFile)('python3', ['-c', program, file, script], { timeout: 20_000 });
}

function configurationFor({ root, home, origin, port }) {
  const library = join(root, 'lib/glewlwyd');
  return `
    port = ${port}
    bind_address = "127.0.0.1"
    external_url = "${origin}"
    login_url = "login.html"
    api_prefix = "api"
    static_files_path = "${join(root, 'share/glewlwyd/webapp')}/"
    log_mode = "console"
    log_level = "INFO"
    cookie_secure = 0
    cookie_same_site = "lax"
    session_key = "GLEWLWYD2_SESSION_ID"
    admin_scope = "g_admin"
    profile_scope = "g_profile"
    user_module_path = "${library}/user"
    user_middleware_module_path = "${library}/user_middleware"
    client_module_path = "${library}/client"
    user_auth_scheme_module_path = "${library}/scheme"
    plugin_module_path = "${library}/plugin"
    hash_algorithm = "SHA512"
    database = { type = "sqlite3" path = "${join(home, 'glewlwyd.db')}" };
    static_files_mime_types = ( { extension = ".html" mime_type = "text/html" compress = 0 } )
  `;
}

async function signInAsAdmin(origin) {
  const headers = { 'content-type': 'application/json' };
  const signedIn = await request(`${origin}/api/auth/`, { method: 'POST', headers, body: JSON.stringify(ADMIN) });
  if (signedIn.status !== 200) throw new Error(`glewlwyd knows no administrator: ${signedIn.status}`);
  const cookie = signedIn.setCookies.map((line) => line.split(';')[0]).join('; ');
  return async (method, path, value) => {
    const body = value === undefined ? undefined : JSON.stringify(value);
    const answer = await request(`${origin}/api${path}`, { method, headers: { ...headers, cookie }, body });
    if (answer.status !== 200) throw new Error(`glewlwyd: ${method} ${path} → ${answer.status} ${answer.text}`);
    return answer.text ? answer.json() : null;
  };
}

function pluginParameters(issuer, accessTokenTtl) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    iss: issuer,
    'jwt-type': 'rsa',
    'jwt-key-size': '256',
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    cert: publicKey.export({ type: 'spki', format: 'pem' }),
    'code-duration': 60,
    'access-token-duration': accessTokenTtl,
    'refresh-token-duration': 3600,
    'refresh-token-rolling': true,
    'refresh-token-one-use': 'always',
    'allow-non-oidc': false,
    'auth-type-code-enabled': true,
    'auth-type-refresh-enabled': true,
    'pkce-allowed': true,
    'pkce-required': true,
    'introspection-revocation-allowed': true,
    'introspection-revocation-allow-target-client': true,
    'name-claim': 'mandatory',
    'email-claim': 'mandatory',
    'session-management-allowed': true,
    'session-cookie-name': 'GLEWLWYD2_OIDC_SID',
    'session-cookie-expiration': 2419200,
    'back-channel-logout-allowed': true,
    'front-channel-logout-allowed': false,
  };
}

/** What the script of its login page does for a person who types a name and a password, and says yes to what is asked. */
async function fillPage(page, user, origin, clientId) {
  const { searchParams, pathname } = new URL(page.url);
  if (!pathname.endsWith('login.html')) throw new Error(`glewlwyd answers ${page.status} at ${pathname}`);
  const back = searchParams.get('callback_url');
  if (searchParams.get('prompt') === 'end_session') {
    await expectOk(user.pageScript('DELETE', `${origin}/api/${PLUGIN}/session/${searchParams.get('sid')}`));
    await expectOk(user.pageScript('DELETE', `${origin}/api/auth/`));
    return user.navigate('GET', back);
  }
  await expectOk(user.pageScript('POST', `${origin}/api/auth/`, { username: user.name, password: USER_PASSWORD }));
  await expectOk(user.pageScript('PUT', `${origin}/api/auth/grant/${clientId}`, { scope: searchParams.get('scope') }));
  return user.navigate('GET', `${back}${back.includes('?') ? '&' : '?'}g_continue`);
}

async function expectOk(answer) {
  const { status, url, text } = await answer;
  if (status !== 200) throw new Error(`glewlwyd: ${new URL(url).pathname} → ${status} ${text}`);
}
