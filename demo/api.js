// The demo's API: a small JSON server that stands behind the token handler and wants a Bearer token (RFC 6750).
//
// It never sees a browser's cookies (the token handler takes them off), never answers a token back, and never
// verifies one: it shows what arrived. A real API checks signature, issuer, audience and expiry.

import { createServer } from 'node:http';

import { closeServer, listen, outage } from './provider.js';

const LARGEST_BODY = 1024 * 1024;
const SLOW_MILLISECONDS = 3000;

/**
 * Starts the API and answers when it accepts connections.
 *
 * `requests` holds `{method, url, headers, bodyLength, at}` of every request, with the headers as they came:
 * only tests may look at it, no answer is made of it.
 * `keepAliveMilliseconds`: how long a connection may idle before the API closes it.
 * `observe` hears of every answered request: `{method, path, status, token, cookies}`, the last two as booleans.
 */
export async function startApi({
  host = '127.0.0.1', port = 0, slowMilliseconds = SLOW_MILLISECONDS, keepAliveMilliseconds, observe = () => {},
} = {}) {
  const requests = [];
  const server = createServer((request, response) => {
    response.once('finish', () => observe(inShort(request, response)));
    answer(request, response, { requests, slowMilliseconds }).catch((error) => {
      if (!response.headersSent) sendJson(response, 500, { error: 'server_error' });
      else response.destroy();
      if (error.code !== 'ECONNRESET') console.error(`api: ${error.message}`);
    });
  });
  if (keepAliveMilliseconds) server.keepAliveTimeout = keepAliveMilliseconds;
  await listen(server, port, host);
  port = server.address().port;
  return { url: `http://${host}:${port}`, port, requests, ...outage(server, port, host), close: () => closeServer(server) };
}

function inShort({ method, url, headers }, { statusCode }) {
  return {
    method, path: url.split('?')[0], status: statusCode, token: 'authorization' in headers, cookies: 'cookie' in headers,
  };
}

async function answer(request, response, { requests, slowMilliseconds }) {
  const record = { method: request.method, url: request.url, headers: request.headers, bodyLength: 0, at: Date.now() };
  requests.push(record);
  const body = await readBody(request, record);
  if (body === null) return sendJson(response, 413, { error: 'payload_too_large' });

  const { pathname } = new URL(request.url, 'http://api.invalid');
  const path = pathname.replace(/^\/(api)(?=\/)/, '');
  const operation = `${request.method === 'HEAD' ? 'GET' : request.method} ${path}`;

  if (operation === 'GET /public/status' || operation === 'GET /status') {
    return sendJson(response, 200, { status: 'open', cloakroom: 'main hall', free_hooks: 42 });
  }
  if (!/^Bearer [\w.~+/-]+=*$/i.test(request.headers.authorization ?? '')) {
    response.setHeader('WWW-Authenticate', 'Bearer realm="orders"');
    return sendJson(response, 401, { error: 'missing_token' });
  }

  switch (operation) {
    case 'GET /orders':
      return sendJson(response, 200, { orders: ORDERS });
    case 'GET /whoami':
      return sendJson(response, 200, whatArrived(request));
    case 'POST /echo':
      return sendJson(response, 200, {
        content_type: request.headers['content-type'] ?? null,
        length: body.length,
        body: body.toString('utf8'),
      });
    case 'GET /photo.svg':
      return send(response, 200, 'image/svg+xml', PHOTO);
    case 'GET /report.csv':
      response.setHeader('Content-Disposition', 'attachment; filename="orders.csv"');
      return send(response, 200, 'text/csv; charset=utf-8', csvOf(ORDERS));
    case 'GET /slow':
      await pause(slowMilliseconds, request);
      return sendJson(response, 200, { slept_milliseconds: slowMilliseconds });
    default:
      return sendJson(response, 404, { error: 'not_found' });
  }
}

/** The request as it came, safe to show: the token itself is replaced by what can be said about it. */
function whatArrived(request) {
  const [scheme, token] = request.headers.authorization.split(' ');
  const headers = Object.fromEntries(
    Object.entries(request.headers).filter(([name]) => name !== 'authorization' && name !== 'cookie'),
  );
  return {
    method: request.method,
    url: request.url,
    headers,
    authorization: { scheme, length: token.length, claims: claimsOf(token) },
    // Names only; the token handler should have left none.
    cookies: (request.headers.cookie ?? '').split(';').map((pair) => pair.split('=')[0].trim()).filter(Boolean),
  };
}

/** The claims of a JWT, read without checking it; null for an opaque token. */
function claimsOf(token) {
  const segments = token.split('.');
  if (segments.length !== 3) return null;
  try {
    const { padding, ...claims } = JSON.parse(Buffer.from(segments[1], 'base64url').toString('utf8'));
    return padding === undefined ? claims : { ...claims, padding: `${padding.length} characters` };
  } catch {
    return null;
  }
}

/** The whole body, or null when it is larger than this API takes. */
async function readBody(request, record) {
  const chunks = [];
  for await (const chunk of request) {
    record.bodyLength += chunk.length;
    if (record.bodyLength <= LARGEST_BODY) chunks.push(chunk);
  }
  return record.bodyLength <= LARGEST_BODY ? Buffer.concat(chunks) : null;
}

function pause(milliseconds, request) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    request.socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function sendJson(response, status, value) {
  send(response, status, 'application/json', `${JSON.stringify(value)}\n`);
}

function send(response, status, type, body) {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

function csvOf(orders) {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = orders.map(({ id, item, date, state, amount }) => [id, quoted(item), date, state, amount].join(','));
  return `${['id,item,date,state,amount', ...lines].join('\n')}\n`;
}

const ORDERS = [
  { id: 'A-1041', item: 'Wool overcoat, charcoal', date: '2025-11-03', state: 'delivered', amount: '189.00' },
  { id: 'A-1058', item: 'Umbrella, wooden handle', date: '2025-11-11', state: 'delivered', amount: '34.50' },
  { id: 'A-1063', item: 'Leather gloves, size 8', date: '2025-11-17', state: 'on its way', amount: '59.00' },
  { id: 'A-1070', item: 'Silk scarf, ink blue', date: '2025-11-20', state: 'packed', amount: '42.00' },
];

const PHOTO = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200" role="img" aria-label="Coats on a rail">
  <rect width="320" height="200" fill="#efe7da"/>
  <rect y="168" width="320" height="32" fill="#c9b79c"/>
  <path d="M28 52h264" stroke="#5b4a36" stroke-width="6" stroke-linecap="round"/>
  <g stroke="#5b4a36" stroke-width="3" fill="none"><path d="M80 52v12M160 52v12M240 52v12"/></g>
  <path d="M80 64l32 18 8 78H40l8-78z" fill="#2f4858"/>
  <path d="M160 64l32 18 6 66h-76l6-66z" fill="#b5523b"/>
  <path d="M240 64l32 18 8 84h-80l8-84z" fill="#4f6d4a"/>
  <g stroke="#fff" stroke-opacity=".45" stroke-width="2"><path d="M80 66v94M160 66v82M240 66v100"/></g>
  <g fill="#f6d77e"><circle cx="104" cy="100" r="9"/><circle cx="184" cy="100" r="9"/><circle cx="264" cy="100" r="9"/></g>
</svg>
`;
