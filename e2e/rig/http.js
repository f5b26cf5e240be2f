// HTTP without a browser: one request with exactly the headers given, and what a test does with a copy of cookies.
//
// It never follows a redirect, never keeps a cookie, and asks the system's resolver only where it is told to: every
// other name is loopback.

import http from 'node:http';
import https from 'node:https';

const LOOPBACK = '127.0.0.1';

/**
 * One request. Answers `{status, headers, setCookies, text, json()}`.
 *
 * @param {string} url
 * @param {object} [options]
 * @param {string} [options.method]
 * @param {Record<string, string>} [options.headers]
 * @param {string} [options.body]
 * @param {string} [options.ca]
 * @param {{key: string, cert: string}} [options.certificate] the client's own, in PEM
 * @param {number} [options.timeout] milliseconds
 * @param {boolean} [options.systemResolver] for a server that listens on whatever `localhost` is first
 */
export function request(url, { method = 'GET', headers = {}, body, ca, certificate = {}, timeout = 15_000, systemResolver = false } = {}) {
  const client = url.startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    const outgoing = client.request(url, { method, headers, ca, ...certificate, agent: false, lookup: systemResolver ? undefined : toLoopback }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({
          status: response.statusCode,
          headers: response.headers,
          setCookies: response.headers['set-cookie'] ?? [],
          text,
          json: () => JSON.parse(text),
        });
      });
    });
    outgoing.setTimeout(timeout, () => outgoing.destroy(new Error(`${method} ${url}: no answer in ${timeout} ms`)));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** The `Cookie` header a browser would send to `url` with these cookies (as `context.cookies()` lists them). */
export function cookieHeader(cookies, url) {
  const { hostname, pathname } = new URL(url);
  const sentTo = (path) => pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
  return cookies
    .filter(({ domain, path }) => domain === hostname && sentTo(path))
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ');
}

/** The headers of a script of the application at `origin`, with a copy of its cookies. */
export function scriptHeaders({ origin, cookies, url }) {
  return {
    accept: 'application/json',
    'content-type': 'application/x-www-form-urlencoded',
    cookie: cookieHeader(cookies, url),
    origin,
    'sec-fetch-dest': 'empty',
    'sec-fetch-mode': 'cors',
    'sec-fetch-site': 'same-origin',
    'token-handler-version': '1',
  };
}

function toLoopback(_hostname, { all }, callback) {
  if (all) callback(null, [{ address: LOOPBACK, family: 4 }]);
  else callback(null, LOOPBACK, 4);
}
