// An instance that only forwards API calls, beside the agent: it has a part of the agent's key, no provider and no
// client secret.
//
// The cookies are a real browser's, signed in at the agent. Nothing here gives the second process the agent's key.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { BINARY, startCoatroom } from '../rig/coatroom.js';
import { request } from '../rig/http.js';
import { postToAgent } from '../rig/page_actions.js';
import { freePorts } from '../rig/ports.js';
import { scenario } from '../rig/rig.js';

scenario('a proxy with its part of the key serves the calls of users who signed in at the agent', {}, async (rig) => {
  const proxy = await startProxy(rig);
  const page = await rig.openSignedIn();
  const call = async (path, method = 'GET') => {
    const cookies = await rig.cookies();
    return request(`http://${proxy.address}${path}`, {
      method,
      headers: {
        host: new URL(rig.url).host, origin: rig.url, 'token-handler-version': '1',
        cookie: cookies.map(({ name, value }) => `${name}=${value}`).join('; '),
      },
    });
  };

  const answer = await call('/api/orders');
  assert.equal(answer.status, 200, answer.text);
  const seen = rig.api.requests.at(-1);
  assert.match(seen.headers.authorization, /^Bearer ey/);
  assert.equal(seen.headers.cookie, undefined);

  // There is no agent, whatever is asked of it.
  for (const [path, method] of [['/auth/session', 'GET'], ['/auth/refresh', 'POST'], ['/auth/logout', 'POST'], ['/auth/login', 'GET']]) {
    const { status, headers } = await call(path, method);
    assert.deepEqual([status, headers['token-handler-error']], [404, 'not_found'], path);
  }

  // A sign-out at the agent is one here, also for an access cookie that comes back.
  const late = (await rig.cookies()).find(({ name }) => name.endsWith('-access'));
  assert.equal((await postToAgent(page, '/logout')).status, 200);
  const without = await call('/api/orders');
  assert.deepEqual([without.status, without.headers['token-handler-error']], [401, 'unauthorized']);
  await rig.browser.context.addCookies([late]);
  const again = await call('/api/orders');
  assert.deepEqual([again.status, again.headers['token-handler-error']], [401, 'session_expired']);
});

async function startProxy(rig) {
  const directory = join(rig.directory, 'proxy');
  await mkdir(directory);
  const { stdout: key } = await promisify(execFile)(BINARY, ['keygen', '--proxy', '--key', join(rig.directory, 'coatroom.key')]);
  assert.match(key, /^coatroom-proxy-key-1:/m);
  await writeFile(join(directory, 'proxy.key'), key, { mode: 0o600 });
  const [port, adminPort] = await freePorts(2);
  const proxy = await startCoatroom({
    directory,
    configuration: {
      listen: `127.0.0.1:${port}`,
      admin: `127.0.0.1:${adminPort}`,
      keys: [{ file: 'proxy.key' }],
      apps: { shop: { url: rig.url, routes: { '/api/': { upstream: rig.api.url, strip_prefix: true } } } },
    },
  });
  rig.onStop(() => proxy.stop());
  return { address: `127.0.0.1:${port}` };
}
