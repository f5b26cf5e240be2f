// An API that streams, over HTTP/1.1 or HTTP/2 in the clear: events, WebSockets, uploads, downloads, and calls in the
// shape of gRPC. WebSockets are read and written here frame by frame, so that a test sees each byte.
//
// It never verifies a token, it keeps what arrived for the tests; it never buffers a body.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import * as http2 from 'node:http2';

const ACCEPT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const CHUNK = Buffer.alloc(64 * 1024, 'x');

/**
 * Starts the API. `{url, requests, sockets, streams, closed, push(text), close()}`.
 *
 * `requests`: `{method, path, headers, version}` of each, the pseudo-headers among the headers.
 * `sockets`: each open WebSocket with `closeCode`, once it got a close frame, and `ended`.
 * `closed`: paths of answers that were broken off from the other side, with the code of the reset over HTTP/2.
 * `push`: sends an event to each open event stream.
 *
 * @param {'1.1' | '2'} version
 */
export async function startStreamingApi(version) {
  const api = { requests: [], sockets: [], closed: [], streams: new Set() };
  const sessions = new Set();
  const server = version === '2'
    ? http2.createServer({ settings: { enableConnectProtocol: true } }).on('session', (session) => {
      sessions.add(session);
      session.on('close', () => sessions.delete(session));
    })
    : createServer();
  server.on('request', (request, response) => {
    record(api, request, version);
    answer(api, request, response).catch((error) => response.destroy(error));
  });
  server.on('checkContinue', (request, response) => {
    record(api, request, version);
    if (request.url.startsWith('/refuse')) return response.writeHead(403).end();
    response.writeContinue();
    answer(api, request, response).catch((error) => response.destroy(error));
  });
  server.on('upgrade', (request, socket) => {
    record(api, request, version);
    const proof = createHash('sha1').update(request.headers['sec-websocket-key'] + ACCEPT).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${proof}\r\n\r\n`);
    echo(api, socket);
  });
  // Node offers an extended CONNECT as a stream only.
  server.on('connect', (request, response) => {
    record(api, request, version);
    request.stream.respond({ ':status': 200 });
    void response;
    echo(api, request.stream);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    ...api,
    url: `http://127.0.0.1:${server.address().port}`,
    push(text) {
      for (const response of api.streams) response.write(`data: ${text}\n\n`);
    },
    close: () => new Promise((closed) => {
      server.close(closed);
      server.closeAllConnections?.();
      for (const session of sessions) session.destroy();
      for (const { stream } of api.sockets) stream.destroy();
    }),
  };
}

function record(api, { method, url, headers, httpVersion }, version) {
  api.requests.push({ method, path: url, headers, version: version === '2' ? httpVersion : '1.1' });
}

async function answer(api, request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://api.invalid');
  response.stream?.on('aborted', () => api.closed.push({ path: pathname, code: response.stream.rstCode }));
  response.on('close', () => {
    api.streams.delete(response);
    if (!response.writableFinished && !response.stream) api.closed.push({ path: pathname });
  });
  switch (pathname) {
    case '/events':
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\n\n');
      return api.streams.add(response);
    case '/download':
      return download(response, Number(searchParams.get('bytes')));
    case '/upload':
      return upload(request, response);
    case '/empty':
      return response.writeHead(Number(searchParams.get('status')), { etag: '"1"' }).end();
    case '/never':
      return undefined;
    case '/shop.Orders/Get':
      return unary(request, response);
    case '/shop.Orders/Watch':
      return bidirectional(request, response);
    default:
      return response.writeHead(200, { 'content-type': 'text/plain', 'content-length': 5 }).end(request.method === 'HEAD' ? undefined : 'hello');
  }
}

async function download(response, bytes) {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    if (!response.write(CHUNK.subarray(0, Math.min(left, CHUNK.length)))) {
      await new Promise((drained) => response.once('drain', drained));
    }
  }
  response.end();
}

async function upload(request, response) {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ bytes, hash: hash.digest('hex') }));
}

/** One message in, the same message out, then trailers: as a gRPC server does. */
async function unary(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  response.writeHead(200, { 'content-type': 'application/grpc' });
  response.addTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' });
  response.end(Buffer.concat(chunks));
}

/** Each message comes back as it arrives; trailers when the client has ended. */
async function bidirectional(request, response) {
  response.writeHead(200, { 'content-type': 'application/grpc' });
  response.addTrailers({ 'grpc-status': '0' });
  for await (const chunk of request) response.write(chunk);
  response.end();
}

/** Sends each text frame back, unmasked; notes a close frame, and answers it. */
function echo(api, stream) {
  const socket = { stream, closeCode: null, ended: false };
  api.sockets.push(socket);
  let pending = Buffer.alloc(0);
  stream.on('error', () => {});
  stream.on('close', () => { socket.ended = true; });
  stream.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (let frame = parse(pending); frame; frame = parse(pending)) {
      pending = pending.subarray(frame.size);
      if (frame.opcode === 8) socket.closeCode = frame.payload.readUInt16BE();
      stream.write(Buffer.concat([Buffer.from([0x80 | frame.opcode, frame.payload.length]), frame.payload]));
      if (frame.opcode === 8) stream.end();
    }
  });
}

/** One masked frame of less than 126 bytes, if it is there. */
function parse(bytes) {
  if (bytes.length < 6) return null;
  const length = bytes[1] & 0x7f;
  if (!(bytes[1] & 0x80) || length > 125) throw new Error('a browser masks, and tests send little');
  if (bytes.length < 6 + length) return null;
  const mask = bytes.subarray(2, 6);
  const payload = Buffer.from(bytes.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]));
  return { opcode: bytes[0] & 0xf, payload, size: 6 + length };
}
