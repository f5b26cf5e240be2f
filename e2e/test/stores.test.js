// Sessions in stores: one refresh for each session however many replicas race for it, nobody lost by a replica that is
// killed or a store that is restarted, nothing readable in what a store keeps, and streams that live as long as their
// session. The long forms are `make race`, `make faults` and `make soak`.
//
// A store's server that is not installed is a failure that says what to install; Valkey alone may be missing.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { test } from 'node:test';

import { fleetOptions, objections, race } from '../race/race.js';
import { Fleet } from '../rig/fleet.js';
import { request } from '../rig/http.js';
import { findSecrets } from '../rig/needles.js';
import { startStreamingApi } from '../rig/streaming_api.js';
import { isInstalled } from '../rig/stores.js';
import { until, within } from '../rig/wait.js';

const TIMEOUT = 180_000;
const SESSION_ENDED = 3000;
const ACCESS_TOKEN_LIFE = 3;
const PACKAGES = { postgres: 'postgresql' };

for (const [store, replicas] of [['redis', 3], ['valkey', 3], ['postgres', 3], ['cluster', 3], ['sqlite', 1]]) {
  stores(`${store}: a race costs one refresh for each session, and what is stored shows nothing`, [store], async (t) => {
    const fleet = await fleetFor(t, { store, replicas, ...fleetOptions() });
    const form = { sessions: 100, calls: 20, atOnce: 50 };
    const result = await race(fleet, form);
    t.diagnostic(JSON.stringify(result));
    assert.deepEqual(objections(result, form), [], (await fleet.report()).join('\n'));
    const dump = await fleet.store.dump();
    assert.ok(dump.length > 10_000, `a dump of ${dump.length} bytes cannot hold 100 sessions`);
    assert.deepEqual(findSecrets(dump, await secretsOf(fleet)), []);
  });
}

for (const store of ['redis', 'postgres']) {
  stores(`${store}: restarted in the middle of a race it loses nobody`, [store], async (t) => {
    const fleet = await fleetFor(t, { store, durable: true, ...fleetOptions() });
    const form = { sessions: 60, calls: 10, atOnce: 30, disturbance: 'restart-store' };
    const result = await race(fleet, form);
    t.diagnostic(JSON.stringify(result));
    assert.deepEqual(objections(result, form), [], (await fleet.report()).join('\n'));
  });
}

stores('redis: a replica killed in the middle of a race costs no more than its refreshes under way', ['redis'], async (t) => {
  const fleet = await fleetFor(t, { store: 'redis', durable: true, ...fleetOptions() });
  const form = { sessions: 60, calls: 10, atOnce: 30, disturbance: 'kill' };
  const result = await race(fleet, form);
  t.diagnostic(JSON.stringify(result));
  assert.deepEqual(objections(result, form), [], (await fleet.report()).join('\n'));
});

test('cookies: a race through three replicas costs one refresh for each session', { timeout: TIMEOUT }, async (t) => {
  const fleet = await fleetFor(t, fleetOptions());
  const form = { sessions: 30, calls: 20, atOnce: 30 };
  const result = await race(fleet, form);
  t.diagnostic(JSON.stringify(result));
  assert.deepEqual(objections(result, form), [], (await fleet.report()).join('\n'));
});

stores('redis: a socket and an event stream outlive two refreshes and end with a sign-out on the other replica', ['redis'], (t) => (
  streamsOutliveRefreshes(t, 'redis', ([first, second]) => ({ streamedBy: first, signedOutAt: second }))
));

test('cookies: a socket and an event stream outlive two refreshes and end with a sign-out on their replica', { timeout: TIMEOUT }, (t) => (
  streamsOutliveRefreshes(t, 'cookie', ([first]) => ({ streamedBy: first, signedOutAt: first }))
));

test('the search in dumps finds a secret however it is written, and answers none', () => {
  const token = ['eyJhbGciOiJub25lIn0', Buffer.from(JSON.stringify({ sub: 'alice', jti: 'x'.repeat(40) })).toString('base64url'),
    randomBytes(64).toString('base64url')].join('.');
  const secrets = [{ kind: 'token', text: token }, { kind: 'subject', text: 'racer00001@example.com' }];
  for (const { kind, text } of secrets) {
    for (const [encoding, written] of [
      ['as it is', text],
      ['in hexadecimal', Buffer.from(text).toString('hex')],
      ['in hexadecimal', Buffer.from(text).toString('hex').toUpperCase()],
      ...['', 'x', 'xy', 'xyz'].flatMap((before) => ['base64', 'base64url'].map((alphabet) => (
        ['in base64', Buffer.from(`${before}${text}&more`).toString(alphabet)]
      ))),
      ...(kind === 'token' ? [['as it is', Buffer.from(text.split('.')[2], 'base64url')]] : []),
    ]) {
      const haystack = Buffer.concat([randomBytes(999), Buffer.from(written), randomBytes(999)]);
      assert.ok(findSecrets(haystack, secrets).includes(`${kind} ${encoding}`), `${kind} ${encoding}`);
    }
  }
  assert.deepEqual(findSecrets(randomBytes(100_000), secrets), []);
});

async function streamsOutliveRefreshes(t, store, choose) {
  const streaming = await startStreamingApi('1.1');
  t.after(() => streaming.close());
  const fleet = await fleetFor(t, {
    store, replicas: 2, provider: { accessTokenTtl: ACCESS_TOKEN_LIFE },
    routes: { '/h1/': { upstream: streaming.url, strip_prefix: true, resources: true } },
  });
  const alice = fleet.user('alice@example.com');
  await alice.signIn();
  const { streamedBy, signedOutAt } = choose(fleet.replicas);
  const socket = await openSocket(fleet, streamedBy, alice);
  const events = await openEvents(fleet, streamedBy, alice);
  t.after(() => [socket, events].forEach(({ close }) => close()));
  await until('the first event', () => events.text().includes('first'));

  const since = Date.now();
  for (const time of [1, 2]) {
    await until(`refresh ${time} is due and done`, async () => {
      const { status } = await alice.call('/api/orders');
      assert.equal(status, 200);
      return (await fleet.refreshesSince(since)).length === time;
    }, { timeout: 20_000, every: 250 });
    streaming.push(`after refresh ${time}`);
    await until('an event', () => events.text().includes(`after refresh ${time}`));
    assert.equal(await socket.echoed(`hello ${time}`), `hello ${time}`);
  }
  assert.equal(events.hasEnded(), false);
  assert.equal(socket.closeCode(), null);

  const answer = await request(`http://${signedOutAt.address}/auth/logout`, {
    method: 'POST', headers: { ...scriptHeadersOf(fleet, alice, '/auth/logout'), 'content-length': '0' },
  });
  assert.equal(answer.status, 200, answer.text);
  await until('the socket is closed', () => socket.closeCode() !== null);
  assert.equal(socket.closeCode(), SESSION_ENDED);
  await until('the events have ended', () => events.hasEnded());
}

/** A WebSocket at one replica, frame by frame. */
async function openSocket(fleet, replica, user) {
  const outgoing = httpRequest(`http://${replica.address}/h1/ws`, {
    agent: false,
    headers: {
      ...scriptHeadersOf(fleet, user, '/h1/ws'),
      'sec-fetch-mode': 'websocket',
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': randomBytes(16).toString('base64'),
    },
  });
  outgoing.end();
  const opened = new Promise((resolve, reject) => {
    outgoing.once('upgrade', (_answer, stream) => resolve(stream));
    outgoing.once('response', ({ statusCode, headers }) => reject(new Error(`no socket: ${statusCode} ${headers['token-handler-error']}`)));
    outgoing.once('error', reject);
  });
  const stream = await within('the socket opens', opened);
  let bytes = Buffer.alloc(0);
  stream.on('data', (chunk) => { bytes = Buffer.concat([bytes, chunk]); });
  stream.on('error', () => {});
  const frames = () => {
    const list = [];
    for (let at = 0; at + 2 <= bytes.length && at + 2 + bytes[at + 1] <= bytes.length; at += 2 + bytes[at + 1]) {
      list.push({ opcode: bytes[at] & 0xf, payload: bytes.subarray(at + 2, at + 2 + bytes[at + 1]) });
    }
    return list;
  };
  return {
    async echoed(text) {
      // A mask of zeros is a mask.
      stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
      const found = await until('the echo', () => frames().find(({ opcode, payload }) => opcode === 1 && payload.equals(Buffer.from(text))));
      return found.payload.toString();
    },
    closeCode: () => frames().find(({ opcode }) => opcode === 8)?.payload.readUInt16BE() ?? null,
    close: () => stream.destroy(),
  };
}

async function openEvents(fleet, replica, user) {
  const outgoing = httpRequest(`http://${replica.address}/h1/events`, {
    agent: false, headers: { ...scriptHeadersOf(fleet, user, '/h1/events'), accept: 'text/event-stream' },
  });
  outgoing.end();
  const [answer] = await within('the events begin', once(outgoing, 'response'));
  assert.equal(answer.statusCode, 200);
  let text = '';
  let hasEnded = false;
  answer.on('data', (chunk) => { text += chunk; });
  answer.on('close', () => { hasEnded = true; });
  answer.on('error', () => {});
  return { text: () => text, hasEnded: () => hasEnded, close: () => outgoing.destroy() };
}

function scriptHeadersOf(fleet, user, path) {
  return {
    host: new URL(fleet.url).host,
    origin: fleet.url,
    cookie: user.cookies(path).join('; '),
    'sec-fetch-dest': 'empty',
    'sec-fetch-mode': 'cors',
    'sec-fetch-site': 'same-origin',
    'token-handler-version': '1',
  };
}

/** Tokens, subjects and addresses: enough of them to meet any way of writing them. */
async function secretsOf(fleet) {
  const tokens = await fleet.outsideProvider.ask('issued');
  const some = [...tokens.slice(0, 30), ...tokens.slice(-30)];
  return [
    ...some.map((text) => ({ kind: 'token', text })),
    ...[0, 1, 50, 99].map((index) => ({ kind: 'subject or address', text: `racer${String(index).padStart(5, '0')}@example.com` })),
  ];
}

/** A test that needs these stores' servers on this machine. */
function stores(name, needed, body) {
  const missing = needed.filter((store) => !isInstalled(store));
  const skip = missing.includes('valkey') ? 'valkey-server is not installed' : false;
  test(name, { timeout: TIMEOUT, skip }, async (t) => {
    const packages = missing.map((store) => PACKAGES[store] ?? 'redis-server');
    assert.deepEqual(missing, [], `not installed: apt-get install ${packages.join(' ')} (or e2e/install.sh)`);
    await body(t);
  });
}

async function fleetFor(t, options) {
  const fleet = new Fleet();
  t.after(() => fleet.stop());
  await fleet.start(options);
  return fleet;
}
