// A provider or an API that is gone, slow or broken: what users see while it lasts (docs/http-api.md, "Errors"), that
// nobody is signed out, that no cookie is touched, that nobody hammers what is down, and that everything recovers by
// itself.
//
// Coatroom is never restarted to make it recover; it is restarted in the middle of an outage, which is worse.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { ReplicaRig } from '../rig/replica_rig.js';
import { scenario } from '../rig/rig.js';
import { request } from '../rig/http.js';
import { until } from '../rig/wait.js';

// Short deadlines, so that what hangs is soon slower than them.
const DEADLINE = 1_000;
const SHORT = { providerSettings: { timeout: '1s' }, route: { timeout: '1s', connect_timeout: '1s' } };
const HTML = '<!doctype html><title>Maintenance</title><p>We will be back soon.';
const outage = (name, options, body) => scenario(name, { Rig: ReplicaRig, ...SHORT, ...options }, body);

const UNAVAILABLE = [503, 'provider_unavailable'];
const UNUSABLE = [502, 'provider_error'];

/** `answer`: what whoever needs the provider gets. `isLater`: whether the same callback can be tried again. */
const PROVIDER_FAULTS = [
  { name: 'is stopped', fault: 'stop', answer: UNAVAILABLE, isLater: true },
  { name: 'hangs longer than the deadline', fault: 'hang', answer: UNAVAILABLE, isLater: true },
  { name: 'resets every connection', fault: 'reset', answer: UNAVAILABLE, isLater: true },
  { name: 'answers 500', fault: { status: 500 }, answer: UNAVAILABLE, isLater: true },
  { name: 'answers 503', fault: { status: 503 }, answer: UNAVAILABLE, isLater: true },
  { name: 'answers 429', fault: { status: 429 }, answer: UNAVAILABLE, isLater: true },
  { name: 'answers HTML with 200', fault: { status: 200, body: HTML, type: 'text/html' }, answer: UNUSABLE, isLater: false },
  { name: 'answers an empty 400', fault: { status: 400 }, answer: UNUSABLE, isLater: false },
];

for (const { name, fault, answer, isLater } of PROVIDER_FAULTS) {
  outage(`while the provider ${name} nobody is signed out, and it recovers by itself`, {}, async (rig) => {
    const [first, second] = rig.replicas;
    const [alice, bob, carol, dave] = ['alice', 'bob', 'carol', 'dave'].map((user) => rig.user(user));
    for (const user of [alice, bob, carol]) await user.signIn();
    const callback = await dave.passForms((await dave.startSignIn()).url);
    const before = [alice, bob, dave].map((user) => user.cookies());
    await rig.chaos.become(fault);
    const at = (replica, user) => ({
      script: (method, path) => rig.steerTo(replica).then(() => user.script(method, path)),
      navigate: (path) => rig.steerTo(replica).then(() => user.navigate('GET', new URL(path, rig.url).href)),
    });

    // With the metadata known, as they are after the first sign-in.
    for (const replica of rig.replicas) {
      assertRefused(await at(replica, alice).script('POST', '/auth/refresh'), answer);
      assertWorks(await at(replica, alice).script('GET', '/api/orders'));
      assert.equal(assertWorks(await at(replica, alice).script('GET', '/auth/session')).is_logged_in, true);
      const start = assertWorks(await at(replica, rig.user('erin')).script('POST', '/auth/login/start'));
      assert.equal(new URL(start.authorization_url).origin, rig.issuer);
    }
    const landed = await at(second, dave).navigate(callback);
    assert.equal(landed.status, 303);
    assert.equal(new URL(landed.headers.location).searchParams.get('login_error'), answer[1]);
    const logout = await timed(() => at(second, carol).script('POST', '/auth/logout'));
    assert.ok(assertWorks(logout.value).logout_url, 'and then to the provider, whose pages may be back by then');
    assert.ok(logout.milliseconds < DEADLINE, `signing out waited ${logout.milliseconds} ms for the provider`);
    assert.equal((await carol.session()).is_logged_in, false);

    // Started in the outage: no metadata, and every session all the same.
    assert.equal(await first.restart('alive'), 0);
    const cold = await at(first, rig.user('frank')).script('POST', '/auth/login/start');
    assertRefused(cold, answer);
    const page = await at(first, rig.user('frank')).navigate('/auth/login?return_to=/');
    assert.deepEqual([page.status, page.headers['token-handler-error'], page.setCookies], [...answer, []]);
    assert.match(page.headers['content-type'], /^text\/html/);
    assertRefused(await at(first, alice).script('POST', '/auth/refresh'), answer);
    assertWorks(await at(first, alice).script('GET', '/api/orders'));
    assert.equal(assertWorks(await at(first, alice).script('GET', '/auth/session')).is_logged_in, true);
    const ready = await request(`${first.admin}/readyz`);
    assert.deepEqual([ready.status, ready.json().status], [200, 'degraded']);
    assert.deepEqual(alice.cookies(), before[0], 'no cookie was touched');
    assertWorks(await at(first, bob).script('POST', '/auth/logout'));
    assert.equal((await bob.session()).is_logged_in, false, 'signing out needs no provider');

    await rig.chaos.become('pass');
    for (const replica of rig.replicas) {
      await until(`the ${replica.name} replica refreshes again`, async () => (
        (await at(replica, alice).script('POST', '/auth/refresh')).status === 200
      ), { timeout: 20_000, every: 250 });
      assert.equal(await replica.answers('refresh', { error_code: 'session_expired' }), 0);
    }
    await until('readiness recovers', async () => (await request(`${first.admin}/readyz`)).json().status === 'ready');
    assert.equal((await alice.call('/api/orders')).status, 200);
    await bob.signIn();
    assert.equal((await bob.call('/api/orders')).status, 200);
    if (isLater) {
      const again = await at(second, dave).navigate(callback);
      assert.deepEqual([again.status, again.headers.location], [303, `${rig.url}/`], 'the same callback, tried again');
      assert.equal((await dave.session()).is_logged_in, true);
    }
  });
}

// Who hammers: twenty clients that want to sign in and never wait, where nobody has the metadata.

const IMPATIENT = { clients: 20, every: 50, for: 5_000 };
// After 0, 1, 3 and 7 s (1 s that doubles), and clocks of whole seconds may cut each pause by one.
const MOST_DISCOVERIES = 4;

for (const { name, fault } of PROVIDER_FAULTS.filter(({ fault: kind }) => kind === 'hang' || kind === 'reset' || kind.status === 503)) {
  outage(`a provider that ${name} is asked for its metadata no oftener than the pauses allow`, {}, async (rig) => {
    const [first] = rig.replicas;
    await rig.chaos.become(fault);
    await first.restart('alive');
    const since = rig.chaos.requests.length;
    const answers = await impatiently(Array.from({ length: IMPATIENT.clients }, (_, index) => rig.user(`user${index}`)), async (user) => {
      const { status } = await request(`http://${first.address}/auth/login/start`, {
        method: 'POST', headers: { host: new URL(rig.url).host, origin: user.url, 'token-handler-version': '1' },
      });
      return status;
    });
    const arrived = rig.chaos.requests.slice(since);
    assert.deepEqual([...new Set(answers)], [503]);
    assert.ok(answers.length > 5 * MOST_DISCOVERIES, `${answers.length} clients were answered`);
    assert.ok(arrived.length >= 1 && arrived.length <= MOST_DISCOVERIES, `${arrived.length} requests for ${answers.length} clients`);
  });
}

// Who refreshes: after three failures in a row a replica gives the token endpoint a rest, and then asks once for each rest.

const REPLICAS = 2;

for (const { name, refresh } of [
  { name: 'that never wait', refresh: (user) => user.agent('POST', '/refresh') },
  { name: 'that wait as they are told', refresh: (user) => user.refresh() },
]) {
  outage(`a provider that answers 503 is left alone by twenty users ${name}, and all are refreshed in the end`, {}, async (rig) => {
    const users = Array.from({ length: 20 }, (_, index) => rig.user(`user${index}`));
    for (const user of users) await user.signIn();
    await rig.chaos.become({ status: 503 });
    const since = rig.chaos.requests.length;
    const waits = name.includes('wait as');
    const waiting = waits ? users.map(refresh) : [];
    const answers = waits ? [] : await impatiently(users, async (user) => (await refresh(user)).status);
    if (waits) await pause(IMPATIENT.for);
    const arrived = rig.chaos.requests.slice(since);
    await rig.chaos.become('pass');

    assert.deepEqual([...new Set(arrived.map(({ path }) => path))], ['/token']);
    // What was under way before anybody knew, and one for each rest of a second or more.
    const most = users.length + REPLICAS * (IMPATIENT.for / 1_000);
    assert.ok(arrived.length >= 3 && arrived.length <= most, `${arrived.length} token requests for ${answers.length} calls`);
    if (!waits) {
      assert.deepEqual([...new Set(answers)], [503]);
      assert.ok(answers.length > 10 * most, `${answers.length} calls were answered`);
    }
    const refreshed = await Promise.all(waits ? waiting : users.map((user) => user.refresh()));
    assert.deepEqual(refreshed.map(({ status }) => status), Array(20).fill(200));
  });
}

outage('twenty calls of one user that refresh without waiting are one request that hangs, and no API call waits for it', {}, async (rig) => {
  const [alice, bob] = ['alice', 'bob'].map((user) => rig.user(user));
  for (const user of [alice, bob]) await user.signIn();
  await rig.chaos.become('hang');
  const since = rig.chaos.requests.length;
  const hanging = Array.from({ length: 20 }, () => alice.script('POST', '/auth/refresh'));
  await until('the provider has it', () => rig.chaos.requests.length > since, { every: 5 });
  for (let call = 0; call < 10; call += 1) {
    const { value, milliseconds } = await timed(() => bob.script('GET', '/api/orders'));
    assert.equal(value.status, 200);
    assert.ok(milliseconds < DEADLINE / 2, `an API call took ${milliseconds} ms`);
  }
  for (const answer of await Promise.all(hanging)) assertRefused(answer, UNAVAILABLE);
  // A client has six connections, so the twenty come in four groups; each replica sends one request for a group.
  const sent = rig.chaos.requests.length - since;
  assert.ok(sent <= 8, `${sent} token requests for 20 refreshes of one session`);
});

// The provider's keys: replaced while Coatroom runs.

outage('a provider that replaced its signing keys is understood without a restart', {}, async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  await rig.replaceProviderKeys();
  for (const replica of rig.replicas) {
    await rig.steerTo(replica);
    assert.equal((await alice.script('POST', '/auth/refresh')).status, 200, replica.name);
    const user = rig.user(`new to the ${replica.name}`);
    const callback = await user.passForms((await user.startSignIn()).url);
    await rig.steerTo(replica);
    assert.equal((await user.navigate('GET', callback)).headers.location, `${rig.url}/`, replica.name);
    assert.equal((await user.session()).is_logged_in, true);
    assert.doesNotMatch(replica.log(), /WARN|ERROR/);
  }
  assert.ok(rig.chaos.requests.filter(({ path }) => path === '/jwks').length <= 4, 'two fetches of each replica');
});

outage('new signing keys that cannot be fetched sign nobody in and nobody out', {}, async (rig) => {
  const [alice, bob] = ['alice', 'bob'].map((user) => rig.user(user));
  await alice.signIn();
  await rig.replaceProviderKeys();
  await rig.chaos.become({ status: 500 }, (path) => path === '/jwks');
  for (const replica of rig.replicas) {
    await rig.steerTo(replica);
    assert.equal((await alice.script('POST', '/auth/refresh')).status, 200, replica.name);
    assert.equal((await alice.session()).id_token_claims.sub, 'alice', 'the old ID token stays');
    assert.match(replica.log(), /key that the provider does not publish/);
  }
  const refused = await bob.navigate('GET', await bob.passForms((await bob.startSignIn()).url));
  assert.match(new URL(refused.headers.location).searchParams.get('login_error'), /^provider_(unavailable|error)$/);
  assert.equal((await bob.session()).is_logged_in, false);

  await rig.chaos.become('pass');
  await until('signing in recovers', () => bob.signIn().then(() => true), { timeout: 45_000, every: 1_000 });
});

// The API.

const API_FAULTS = [
  { name: 'is stopped', fault: 'stop', answer: [502, 'upstream_unavailable'], arrived: 0 },
  { name: 'resets every connection', fault: 'reset', answer: [502, 'upstream_unavailable'], arrived: 2 },
  { name: 'hangs longer than its deadline', fault: 'hang', answer: [504, 'upstream_timeout'], arrived: 2 },
  { name: 'answers 500', fault: { status: 500, body: 'broken' }, answer: [500, undefined], arrived: 2 },
  { name: 'answers 503', fault: { status: 503, body: 'full' }, answer: [503, undefined], arrived: 2 },
];

for (const { name, fault, answer, arrived } of API_FAULTS) {
  outage(`while the API ${name} its callers are told, and nothing else is touched`, {}, async (rig) => {
    const alice = rig.user('alice');
    await alice.signIn();
    assert.equal((await alice.call('/api/orders')).status, 200);
    const before = alice.cookies();
    await rig.apiChaos.become(fault);
    const since = rig.apiChaos.requests.length;
    for (const [method, path, body] of [['GET', '/api/orders'], ['POST', '/api/echo', 'once']]) {
      const refused = await alice.script(method, path, { body, type: 'text/plain' });
      assert.deepEqual([refused.status, refused.headers['token-handler-error'], refused.setCookies], [...answer, []]);
      if (answer[1]) assert.equal(refused.json().error_code, answer[1]);
      else assert.equal(refused.text, fault.body, 'the answer is the API’s own');
    }
    assert.equal(rig.apiChaos.requests.length - since, arrived, 'nothing is sent twice');
    assert.equal((await alice.session()).is_logged_in, true);
    assert.equal((await alice.agent('POST', '/refresh')).status, 200);
    assert.equal((await alice.script('GET', '/')).status, 200, 'other routes');
    assert.notDeepEqual(alice.cookies(), before, 'a refresh writes cookies as ever');

    await rig.apiChaos.become('pass');
    for (let call = 0; call < 4; call += 1) assert.equal((await alice.call('/api/orders')).status, 200);
  });
}

outage('an answer that breaks off reaches the caller as broken, never as whole', {}, async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  await rig.apiChaos.become('cut');
  // Where not even the head got through before it broke, nginx says 502 in its place.
  const outcome = await alice.script('GET', '/api/orders').then(({ status }) => status, (error) => error.message);
  assert.match(String(outcome), /^502$|aborted|ECONNRESET|socket hang up/);
  await rig.apiChaos.become('pass');
  assert.equal((await alice.call('/api/orders')).status, 200);
});

outage('an API that restarts between two calls loses none, although connections to it were kept', {}, async (rig) => {
  const alice = rig.user('alice');
  await alice.signIn();
  const calls = (method) => Promise.all(Array.from({ length: 12 }, async () => (
    (await alice.script(method, method === 'GET' ? '/api/orders' : '/api/echo', method === 'GET' ? {} : { body: 'x', type: 'text/plain' })).status
  )));
  assert.deepEqual(await calls('GET'), Array(12).fill(200));
  for (const method of ['GET', 'POST']) {
    await rig.apiChaos.become('stop');
    await rig.apiChaos.become('pass');
    assert.deepEqual(await calls(method), Array(12).fill(200), method);
  }
});

function assertRefused({ status, headers, setCookies, json }, [wanted, code]) {
  assert.deepEqual([status, headers['token-handler-error'], json().error_code], [wanted, code, code]);
  assert.equal(headers['content-type'], 'application/json');
  if (wanted === 503) assert.match(headers['retry-after'] ?? '', /^[1-9]\d?$/);
  assert.deepEqual(setCookies, []);
}

/** A success of Coatroom's or the API's own: its JSON. */
function assertWorks({ status, headers, json, text }) {
  assert.equal(status, 200, text.slice(0, 200));
  assert.equal(headers['token-handler-error'], undefined);
  return json();
}

async function timed(work) {
  const startedAt = performance.now();
  return { value: await work(), milliseconds: Math.round(performance.now() - startedAt) };
}

/** Everybody tries again and again, without listening to anybody: all outcomes. */
async function impatiently(users, attempt) {
  const until = Date.now() + IMPATIENT.for;
  const outcomes = [];
  await Promise.all(users.map(async (user) => {
    while (Date.now() < until) {
      outcomes.push(await attempt(user));
      await pause(IMPATIENT.every);
    }
  }));
  return outcomes;
}
