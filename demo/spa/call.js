// One call, seen from both ends: what this page sent, and what the API says it received.
//
// Every line is a fact of this call: the left from the request, the middle from the answer, the right from the API's
// own report. A script cannot see the cookie that the browser adds, and so nothing is said of its value.

import { $, fillFacts } from './dom.js';

const PATH = '/api/whoami';
const HEADERS = { accept: 'application/json' };
const CLIENT_HEADER = 'token-handler-version';

export function showWhatIsSent() {
  fillFacts('sent-rows', [
    ['Request', `GET ${PATH}`],
    ['Headers', `accept, ${CLIENT_HEADER}`],
    ['Authorization', 'none: this page has no token'],
    ['Cookie', 'added by the browser, hidden from scripts'],
  ]);
}

/** Makes the call; `api` answers `{response, body}`. */
export async function followCall(api) {
  const from = performance.now();
  const { response, body } = await api(PATH, { headers: HEADERS });
  const milliseconds = Math.round(performance.now() - from);
  const { scheme, length, claims } = body.authorization;

  fillFacts('answer-rows', [
    ['Status', `${response.status} ${response.statusText}`.trim()],
    ['Time', `${milliseconds} ms, API included`],
    ['Cache', response.headers.get('cache-control') ?? 'not said'],
    ['Vary', response.headers.get('vary') ?? 'not said'],
  ]);
  fillFacts('api-rows', [
    ['Request', `${body.method} ${body.url}`],
    ['Authorization', `${scheme} token of ${length} characters`],
    ['Cookies', body.cookies.length === 0 ? 'none' : body.cookies.join(', ')],
    ['Subject', claims?.sub ?? 'an opaque token'],
  ]);
  fillFacts('token-rows', claims ? Object.entries(claims).map(claimRow) : [['claims', 'none: the token is opaque']]);
  fillFacts('header-rows', [
    ['authorization', `${scheme} … (${length} characters, not sent back)`],
    ...Object.entries(body.headers),
  ]);
  $('api-details').hidden = false;
}

function claimRow([name, value]) {
  const isTime = ['exp', 'iat', 'nbf', 'auth_time'].includes(name) && typeof value === 'number';
  if (isTime) return [name, `${value} (${new Date(value * 1000).toLocaleTimeString()})`];
  return [name, typeof value === 'string' ? value : JSON.stringify(value)];
}
