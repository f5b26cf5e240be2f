// HTTP/1.1 and HTTP/2 on both sides: WebSockets of a real browser, events, gRPC, large bodies, and who hears when
// somebody leaves or signs out.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:http2';
import { setTimeout as pause } from 'node:timers/promises';

import { callApiOnce } from '../rig/page_actions.js';
import { ProtocolRig, ROUTES } from '../rig/protocol_rig.js';
import { scenario } from '../rig/rig.js';
import { until, within } from '../rig/wait.js';

const VERSIONS = Object.keys(ROUTES);
const SESSION_ENDED = 3000;
const MEGABYTE = 1024 * 1024;

const PAIRS = VERSIONS.flatMap((client) => VERSIONS.map((upstream) => [client, upstream]));

scenario('sockets and events of a browser run over its http/2 connection, outlive the token and end with the session',
  { Rig: ProtocolRig, provider: { accessTokenTtl: 3 } }, async (rig) => {
    const page = await rig.openSignedIn();
    const handshakes = await watchHandshakes(rig, page);
    for (const version of VERSIONS) {
      await openSocket(page, version);
      await openEvents(page, version);
      assert.equal(await say(page, version, 'hello'), 'hello');
      await until('the first event', () => eventsOf(page, version).then((events) => events.includes('first')));
    }
    // 200 is what answers an extended CONNECT; over HTTP/1.1 it would be 101.
    assert.deepEqual(handshakes, [200, 200]);
    const [toHttp1] = rig.apis['1.1'].requests.filter(({ path }) => path === '/ws');
    assert.equal(toHttp1.method, 'GET');
    assert.equal(toHttp1.headers.upgrade, 'websocket');
    const [toHttp2] = rig.apis['2'].requests.filter(({ path }) => path === '/ws');
    assert.equal(toHttp2.method, 'CONNECT');
    assert.equal(toHttp2.headers[':protocol'], 'websocket');
    for (const { headers } of [toHttp1, toHttp2]) {
      assert.match(headers.authorization, /^Bearer /);
      assert.equal(headers.cookie, undefined);
    }

    await until('the access token runs out', async () => {
      const { code } = await callApiOnce(page);
      return code === 'access_token_expired';
    });
    for (const version of VERSIONS) {
      assert.equal(await say(page, version, 'still there'), 'still there');
      rig.apis[version].push('after the token');
      await until('an event', () => eventsOf(page, version).then((events) => events.includes('after the token')));
    }

    rig.provider.settings.accessTokenTtl = 300;
    assert.equal((await page.evaluate(async () => (await window.client.callApi('/orders')).status)), 200);
    for (const version of VERSIONS) assert.equal(await say(page, version, 'refreshed'), 'refreshed');

    await page.evaluate(() => window.client.signOut());
    for (const version of VERSIONS) {
      const code = await until('the socket closes', () => page.evaluate((version) => window.closeCodes[version], version));
      assert.equal(code, SESSION_ENDED);
      const [socket] = rig.apis[version].sockets;
      await until('the api hears why', () => socket.closeCode === SESSION_ENDED);
      await until('the api hears the end', () => socket.ended);
      await until('the events end', () => rig.apis[version].streams.size === 0);
    }
  });

scenario('a socket ends with its session by the clock, which a refresh moves',
  { Rig: ProtocolRig, provider: { accessTokenTtl: 6, tellRefreshTokenLife: true, refreshTokenTtl: 12 } }, async (rig) => {
    const page = await rig.openSignedIn();
    const start = Date.now();
    await openSocket(page, '2');
    await openEvents(page, '1.1');
    assert.equal(await say(page, '2', 'hello'), 'hello');
    await until('the access token runs out', async () => (await callApiOnce(page)).code === 'access_token_expired');
    assert.equal(await page.evaluate(async () => (await window.client.callApi('/orders')).status), 200);
    const refreshed = Date.now();

    // Longer than the session that the socket was opened with.
    await pause(Math.max(0, start + 13_000 - Date.now()));
    assert.equal(await page.evaluate(() => window.closeCodes['2']), undefined);
    assert.equal(await say(page, '2', 'extended'), 'extended');

    const code = await until('the socket closes', () => page.evaluate(() => window.closeCodes['2']));
    assert.equal(code, SESSION_ENDED);
    const lasted = Date.now() - refreshed;
    assert.ok(lasted > 10_000 && lasted < 17_000, `${lasted} ms after the refresh`);
    await until('the events end', () => rig.apis['1.1'].streams.size === 0);
  });

scenario('a page of another origin opens no socket over http/2', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  for (const [origin, status] of [[rig.url, 200], ['https://evil.example', 403], [undefined, 403]]) {
    const headers = await rig.headersFor('/h1/ws');
    delete headers.origin;
    const session = rig.http2();
    await new Promise((ready) => session.once('remoteSettings', ready));
    assert.equal(session.remoteSettings.enableConnectProtocol, true);
    const stream = session.request({
      ...headers, ...origin && { origin }, ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/h1/ws',
      'sec-websocket-version': '13',
    }, { endStream: false });
    const head = await within('an answer', new Promise((resolve) => stream.on('response', resolve)));
    assert.equal(head[':status'], status, String(origin));
    stream.destroy();
  }
  assert.equal(rig.apis['1.1'].requests.filter(({ path }) => path === '/ws').length, 1);
});

scenario('grpc calls stream both ways, with trailers', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  const headers = { ...await rig.headersFor('/h2/'), 'content-type': 'application/grpc', te: 'trailers' };
  const message = Buffer.from('\0\0\0\0\x05hello', 'latin1');
  const session = rig.http2();

  const unary = grpc(session, '/h2/shop.Orders/Get', headers);
  unary.stream.end(message);
  assert.deepEqual(await unary.whole(), { body: message, status: '0', message: 'fine' });
  const [{ headers: sent }] = rig.apis['2'].requests.filter(({ path }) => path === '/shop.Orders/Get');
  assert.equal(sent.te, 'trailers');
  assert.match(sent.authorization, /^Bearer /);

  const watch = grpc(session, '/h2/shop.Orders/Watch', headers);
  for (const text of ['one', 'two', 'three']) {
    watch.stream.write(text);
    await until('the message comes back while the call is open', () => watch.text().endsWith(text));
  }
  watch.stream.end();
  const { status, body } = await watch.whole();
  assert.equal(status, '0');
  assert.equal(body.toString(), 'onetwothree');

  // A client that leaves takes its call with it, also in the middle of its own messages.
  const leave = new AbortController();
  const left = grpc(session, '/h2/shop.Orders/Watch', headers, leave);
  left.stream.write('here');
  await until('it runs', () => left.text() === 'here');
  leave.abort();
  const codes = () => rig.apis['2'].closed.filter(({ path }) => path === '/shop.Orders/Watch').map(({ code }) => code);
  await until('the api hears of it', () => codes().length > 0);
  assert.deepEqual(codes(), [constants.NGHTTP2_CANCEL]);
});

scenario('errors of grpc calls are statuses of grpc', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  const session = rig.http2();
  const script = { ...await rig.headersFor('/h2/'), 'content-type': 'application/grpc', te: 'trailers' };
  const { cookie: _, ...signedOut } = script;
  const { 'token-handler-version': __, ...unguarded } = script;
  for (const [headers, path, status, code] of [
    [signedOut, '/h2/shop.Orders/Get', '16', 'unauthorized'],
    [unguarded, '/h2/shop.Orders/Get', '7', 'csrf_rejected'],
    [script, '/gone/shop.Orders/Get', '14', 'upstream_unavailable'],
    [{ ...signedOut, 'content-type': 'application/grpc-web+proto' }, '/h2/shop.Orders/Get', '16', 'unauthorized'],
  ]) {
    const call = grpc(session, path, headers);
    call.stream.end('x');
    const head = await call.head;
    assert.equal(head[':status'], 200, code);
    assert.equal(head['grpc-status'], status, code);
    assert.equal(head['token-handler-error'], code);
    assert.ok(head['content-type'].startsWith(headers['content-type'].split('+')[0]));
    assert.equal((await call.whole()).body.length, 0);
  }
});

scenario('an event arrives while the api still holds the next, and who leaves is heard', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  for (const [client, upstream] of PAIRS) {
    const path = `${ROUTES[upstream]}/events`;
    const call = rig.begin(client, path, { headers: await rig.headersFor(path) });
    if (client === '1.1') call.request.end();
    const { status, body } = await within('an answer', call.answer);
    assert.equal(status, 200);
    let text = '';
    body.on('data', (chunk) => { text += chunk; });
    body.on('error', () => {});
    for (const event of ['first', 'second', 'third']) {
      if (event !== 'first') rig.apis[upstream].push(event);
      await until(`the ${event} event`, () => text.endsWith(`data: ${event}\n\n`), { every: 5 });
    }
    call.abort();
    await until(`${client} → ${upstream}: the api hears of it`, () => rig.apis[upstream].streams.size === 0);
  }
});

scenario('what has no body has none, over every pair of protocols', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  for (const [client, upstream] of PAIRS) {
    for (const [method, path, status, length] of [
      ['HEAD', '/plain', 200, 0], ['GET', '/empty?status=204', 204, 0], ['GET', '/empty?status=304', 304, 0], ['GET', '/plain', 200, 5],
    ]) {
      const name = `${client} → ${upstream}: ${method} ${path}`;
      const full = `${ROUTES[upstream]}${path}`;
      const call = rig.begin(client, full, { method, headers: await rig.headersFor(full) });
      if (client === '1.1') call.request.end();
      const answer = await within(name, call.answer);
      assert.equal(answer.status, status, name);
      if (method === 'HEAD') assert.equal(answer.headers['content-length'], '5', name);
      assert.equal((await collect(answer.body)).length, length, name);
    }
  }
});

scenario('large bodies pass every pair of protocols in little memory, also when one side is slow', { Rig: ProtocolRig }, async (rig, t) => {
  await rig.openSignedIn();
  const size = 48 * MEGABYTE;
  const chunk = Buffer.alloc(64 * 1024, 'u');
  const before = await resident(rig);
  for (const [client, upstream] of PAIRS) {
    const up = `${ROUTES[upstream]}/upload`;
    const headers = { ...await rig.headersFor(up), 'content-type': 'application/octet-stream' };
    const sending = rig.begin(client, up, { method: 'POST', headers });
    const hash = createHash('sha256');
    for (let left = size; left > 0; left -= chunk.length) {
      hash.update(chunk);
      if (!sending.request.write(chunk)) await new Promise((drained) => sending.request.once('drain', drained));
    }
    sending.request.end();
    const answer = await within('an answer', sending.answer, 30_000);
    assert.deepEqual(JSON.parse(await collect(answer.body)), { bytes: size, hash: hash.digest('hex') });

    const down = `${ROUTES[upstream]}/download?bytes=${size}`;
    const reading = rig.begin(client, down, { headers: await rig.headersFor(down) });
    if (client === '1.1') reading.request.end();
    const { body } = await within('an answer', reading.answer);
    // A client that does not read for a while: what the API sends meanwhile has nowhere to go but its own memory.
    body.pause();
    await pause(500);
    let bytes = 0;
    for await (const part of body) bytes += part.length;
    assert.equal(bytes, size, `${client} → ${upstream}`);
  }
  const grown = await resident(rig) - before;
  t.diagnostic(`${(grown / MEGABYTE).toFixed(1)} MB more after ${8 * size / MEGABYTE} MB`);
  assert.ok(grown < 16 * MEGABYTE, `${(grown / MEGABYTE).toFixed(1)} MB more`);
});

scenario('an upload that asks first is sent when the api agrees, and never when it refuses', { Rig: ProtocolRig }, async (rig) => {
  await rig.openSignedIn();
  for (const [path, status, continues] of [['/h1/upload', 200, true], ['/h1/refuse', 403, false]]) {
    const headers = { ...await rig.headersFor(path), 'content-type': 'application/octet-stream', expect: '100-continue', 'content-length': '5' };
    const call = rig.begin('1.1', path, { method: 'POST', headers });
    let continued = false;
    call.request.on('continue', () => {
      continued = true;
      call.request.end('hello');
    });
    call.request.flushHeaders();
    const answer = await within('an answer', call.answer);
    assert.equal(answer.status, status);
    assert.equal(continued, continues);
    call.abort();
  }
});

/** The statuses of the WebSocket handshakes of a page, as the browser saw them. */
async function watchHandshakes(rig, page) {
  const statuses = [];
  const devtools = await rig.browser.context.newCDPSession(page);
  await devtools.send('Network.enable');
  devtools.on('Network.webSocketHandshakeResponseReceived', ({ response }) => statuses.push(response.status));
  return statuses;
}

function openSocket(page, version) {
  return page.evaluate(([version, path]) => new Promise((opened, failed) => {
    const socket = new WebSocket(`wss://${location.host}${path}`);
    (window.sockets ??= {})[version] = socket;
    window.closeCodes ??= {};
    socket.onopen = () => opened();
    socket.onerror = () => failed(new Error('no socket'));
    socket.onclose = ({ code }) => { window.closeCodes[version] = code; };
  }), [version, `${ROUTES[version]}/ws`]);
}

function openEvents(page, version) {
  return page.evaluate(([version, path]) => {
    const source = new EventSource(path);
    const events = ((window.events ??= {})[version] = []);
    source.onmessage = ({ data }) => events.push(data);
  }, [version, `${ROUTES[version]}/events`]);
}

function eventsOf(page, version) {
  return page.evaluate((version) => window.events[version], version);
}

/** Says something on a socket, and answers what comes back. */
function say(page, version, text) {
  return page.evaluate(([version, text]) => new Promise((answered, failed) => {
    const socket = window.sockets[version];
    setTimeout(() => failed(new Error(`no echo; state ${socket.readyState}`)), 5_000);
    socket.onmessage = ({ data }) => answered(data);
    socket.send(text);
  }), [version, text]);
}

/**
 * A call in the shape of gRPC. `leave` cancels it by a reset and nothing else: `stream.close(code)` ends the request
 * first, so a server may take it for whole and answer before it reads the reset.
 */
function grpc(session, path, headers, leave = new AbortController()) {
  const stream = session.request({ ...headers, ':method': 'POST', ':path': path }, { endStream: false, signal: leave.signal });
  const chunks = [];
  let trailers = {};
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('trailers', (sent) => { trailers = sent; });
  stream.on('error', () => {});
  const ended = new Promise((resolve) => stream.on('close', resolve));
  return {
    stream,
    head: within('a head', new Promise((resolve) => stream.on('response', resolve))),
    text: () => Buffer.concat(chunks).toString(),
    async whole() {
      await within('the end', ended);
      return { body: Buffer.concat(chunks), status: trailers['grpc-status'], message: trailers['grpc-message'] };
    },
  };
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The memory of the binary, in bytes. */
async function resident(rig) {
  const status = await readFile(`/proc/${rig.coatroom.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)[1]) * 1024;
}
