// `coatroom sessions` beside a server on the same store: operators see who is signed in and end it, and the server
// hears of it without being asked.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';

import { BINARY } from '../rig/coatroom.js';
import { CLIENT_SECRET, scenario } from '../rig/rig.js';
import { User } from '../rig/user.js';
import { until } from '../rig/wait.js';

const NONE_FOUND = 3;
/** How soon a session that an operator ended is over for the API. */
const ENDED_WITHIN = 3_000;
const IN_A_FILE = { store: 'sqlite:sessions.db', idle: '30m', absolute: '12h' };

scenario('an operator lists a user’s sessions and ends them, and the next calls are refused', { session: IN_A_FILE }, async (rig) => {
  const [laptop, phone, bob] = await Promise.all(['alice', 'alice', 'bob'].map((name) => signedIn(rig, name)));
  const listed = await sessions(rig, 'list', '--sub', 'alice', '--json');
  assert.equal(listed.code, 0, listed.stderr);
  const found = JSON.parse(listed.stdout).sessions;
  const ids = await Promise.all([laptop, phone].map(async (user) => (await user.session()).session.id));
  assert.deepEqual(found.map(({ session }) => session).sort(), ids.sort());
  for (const { application, created_at: createdAt, last_active_at: lastActiveAt } of found) {
    assert.equal(application, 'shop');
    assert.ok(Math.abs(Date.now() / 1_000 - createdAt) < 60 && lastActiveAt >= createdAt);
  }
  const table = await sessions(rig, 'list', '--sub', 'alice');
  assert.match(table.stdout, /application +session +created +last used +browser/);
  assert.ok(ids.every((id) => table.stdout.includes(id)), table.stdout);

  const phoneId = (await phone.session()).session.id;
  assert.equal((await sessions(rig, 'end', '--session', phoneId)).code, 0);
  await isRefusedSoon(phone);
  assert.equal((await laptop.call('/api/orders')).status, 200);

  const ended = await sessions(rig, 'end', '--sub', 'alice');
  assert.equal(ended.code, 0, ended.stderr);
  await isRefusedSoon(laptop);
  assert.equal((await bob.call('/api/orders')).status, 200);

  for (const again of ['list', 'end']) {
    const none = await sessions(rig, again, '--sub', 'alice');
    assert.equal(none.code, NONE_FOUND, none.stderr);
    assert.match(none.stdout, /no session was found/);
  }
  // Within the second of the end nobody can tell what began before it.
  await until('she can sign in again', () => laptop.signIn().then(() => true), { every: 500 });
  assert.equal((await laptop.call('/api/orders')).status, 200);
});

scenario('an operator ends what a user has in cookies, and cannot name one of them', {
  session: { store: 'cookie', revocation_store: 'sqlite:ended.db', idle: '30m', absolute: '12h' },
}, async (rig) => {
  const [alice, bob] = await Promise.all(['alice', 'bob'].map((name) => signedIn(rig, name)));
  const { id } = (await alice.session()).session;
  for (const words of [['list', '--sub', 'alice'], ['end', '--session', id]]) {
    const refused = await sessions(rig, ...words);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: sessions of `shop` are in cookies: .+\nhint: /);
  }
  assert.equal((await alice.call('/api/orders')).status, 200);
  const ended = await sessions(rig, 'end', '--sub', 'alice');
  assert.equal(ended.code, 0, ended.stderr);
  assert.match(ended.stdout, /noted: what began until now has ended/);
  await isRefusedSoon(alice);
  assert.equal((await bob.call('/api/orders')).status, 200);
});

async function signedIn(rig, name) {
  const user = new User({ name, url: rig.url });
  rig.onStop(async () => user.close());
  await user.signIn();
  assert.equal((await user.call('/api/orders')).status, 200);
  return user;
}

async function isRefusedSoon(user) {
  const refusal = await until('the session is over', async () => {
    const answer = await user.script('GET', '/api/orders');
    return answer.status !== 200 && answer;
  }, { timeout: ENDED_WITHIN, every: 50 });
  assert.equal(refusal.status, 401);
  assert.equal(refusal.headers['token-handler-error'], 'session_expired');
}

/** Runs `coatroom sessions` with the server's own configuration. */
function sessions(rig, action, ...words) {
  return new Promise((done) => {
    execFile(BINARY, ['sessions', action, '--config', 'coatroom.yaml', ...words], {
      cwd: rig.directory, env: { PATH: process.env.PATH, SHOP_CLIENT_SECRET: CLIENT_SECRET }, timeout: 20_000,
    }, (error, stdout, stderr) => done({ code: error ? error.code ?? error.signal : 0, stdout, stderr }));
  });
}
