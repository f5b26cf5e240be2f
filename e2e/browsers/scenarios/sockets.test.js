// What a page is told of a WebSocket through Coatroom, in every engine: while it works, when the API drops it, when the
// session ends, and when there is none.
//
// One replica: with sessions in cookies alone only the process that was told of a sign-out ends its sockets.

import assert from 'node:assert/strict';

import { eachEngine } from '../engine_rig.js';
import { chromium } from '../engines/chromium.js';
import { firefox } from '../engines/firefox.js';
import { webkit } from '../engines/webkit.js';
import { expired } from '../page.js';

eachEngine('a socket carries messages, tells a drop from the end of the session, and is refused without one', { replicas: 1 }, async (rig, t) => {
  const tab = await rig.openSignedIn();
  const url = `${rig.url.replace('https', 'wss')}/live/socket`;
  assert.deepEqual(await tab.evaluate(openSocket, ['first', url]), 'open');
  assert.equal(await tab.evaluate(say, ['first', 'hello']), 'hello');

  rig.live.sockets[0].stream.destroy();
  assert.deepEqual(await tab.evaluate(closed, 'first'), { code: 1006, reason: '', wasClean: false }, 'a drop');

  assert.deepEqual(await tab.evaluate(openSocket, ['second', url]), 'open');
  const other = await rig.openApp();
  await other.click('#sign-out');
  const { code, reason, wasClean } = await tab.evaluate(closed, 'second');
  assert.deepEqual({ code, reason }, { code: 3000, reason: 'session ended' }, 'the end');
  // nginx closes at once when the replica does, before the browser's own close frame: not every engine minds.
  t.diagnostic(`${rig.browser.name}: the end of the session is ${wasClean ? 'clean' : 'not clean'}`);

  assert.deepEqual(await tab.evaluate(openSocket, ['third', url]), 'refused');
  assert.deepEqual(await tab.evaluate(closed, 'third'), { code: 1006, reason: '', wasClean: false }, 'no reason is told');
  assert.equal(rig.live.sockets.length, 2);
});

const COME_BACK = 'a socket and an event stream of the library come back after a drop and stop when the session ends';
const LIVE = { replicas: 1, accessTokenTtl: 4, client: { refreshAhead: false } };
eachEngine(COME_BACK, { ...LIVE, engines: [chromium, firefox] }, comeBack);
// Over HTTP/2 this engine (libsoup 3.2) does not tell a page that a stream was reset: it waits for ever.
eachEngine(`${COME_BACK}, over HTTP/1.1`, { ...LIVE, engines: [webkit], http2: false }, comeBack);

async function comeBack(rig) {
  const tab = await rig.openSignedIn();
  await tab.evaluate(openBoth);
  await tab.until('both stand', async () => (await tab.evaluate(heard)).join() === 'socket open,stream first');

  // Both are lost when the access token has run out already: a handshake that is refused says nothing of why.
  await expired(tab);
  rig.provider.settings.accessTokenTtl = 300;
  rig.live.sockets[0].stream.destroy();
  for (const stream of rig.live.streams) stream.destroy();
  await tab.until('both are back', async () => {
    const events = await tab.evaluate(heard);
    return ['socket', 'stream'].every((name) => events.includes(`${name} drop`))
      && events.filter((event) => event === 'socket open').length === 2 && events.filter((event) => event === 'stream first').length === 2;
  });
  assert.deepEqual(rig.refreshes.map(({ status }) => status), [200]);
  assert.equal(await tab.evaluate(() => window.both.socket.send('hello')), true);
  await tab.until('the echo comes', async () => (await tab.evaluate(heard)).includes('socket hello'));

  const other = await rig.openApp();
  await other.click('#sign-out');
  await tab.until('both are over', async () => {
    const events = await tab.evaluate(heard);
    return ['socket', 'stream'].every((name) => events.includes(`${name} over: session-ended`));
  });
  await tab.waitFor('#status[data-state=signed-out]');
  assert.deepEqual(await tab.evaluate(() => [window.both.socket.state, window.both.stream.state]), ['closed', 'closed']);
  assert.equal(rig.live.sockets.length, 2, 'and nothing is tried again');
}

/** Runs in the page: one of each, and a list of what they told. */
function openBoth() {
  const options = { minDelay: 50 };
  window.both = {
    socket: window.openWebSocket(window.client, '/live/socket', options),
    stream: window.openEventSource(window.client, '/live/events', options),
  };
  window.heard = [];
  for (const [name, source] of Object.entries(window.both)) {
    const note = (text) => window.heard.push(`${name} ${text}`);
    if (name === 'socket') source.addEventListener('open', () => note('open'));
    source.addEventListener('message', ({ data }) => note(data));
    source.addEventListener('drop', () => note('drop'));
    source.addEventListener('close', ({ reason }) => note(`over: ${reason}`));
  }
}

/** Runs in the page. */
function heard() {
  return [...window.heard].sort();
}

/** Runs in the page: keeps a socket under `name`, and how it closed. */
function openSocket([name, url]) {
  window.sockets ??= {};
  const socket = new WebSocket(url);
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
  window.sockets[name] = { socket, closed };
  return new Promise((resolve) => {
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('refused');
  });
}

/** Runs in the page: sends a message, and answers what comes back. */
function say([name, text]) {
  const { socket } = window.sockets[name];
  return new Promise((resolve) => {
    socket.onmessage = ({ data }) => resolve(data);
    socket.send(text);
  });
}

/** Runs in the page: how the socket closed. */
function closed(name) {
  return window.sockets[name].closed;
}
