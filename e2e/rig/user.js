// A browser without a screen: it keeps cookies, signs in through the provider's own forms, and calls APIs as a
// correct single-page application does. For what needs many users at once; what a page sees is tested in a browser.
//
// It never reads a cookie, never refreshes before it is told to, and never repeats a request that the documentation
// does not let it repeat: an API call once after `access_token_expired`, a refresh when it was told when to come again.

import { Agent, request as httpRequest } from 'node:http';
import { Agent as TlsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';

const LOOPBACK = '127.0.0.1';
const TIMEOUT = 20_000;
const MAX_REDIRECTS = 12;
const LARGEST_COOKIE = 4_096;

/** An answer that was not hoped for. */
export class Unexpected extends Error {
  constructor(what, { status, headers, text }) {
    super(`${what}: ${status} ${headers['token-handler-error'] ?? ''} ${text.slice(0, 120)}`);
    this.status = status;
    this.code = headers['token-handler-error'] ?? null;
  }
}

export class User {
  #jar = new Jar();
  #agent;
  #tlsAgent;
  #timeout;
  #fillForm;
  #refreshing = null;
  #refreshedAt = 0;

  /**
   * @param {object} options
   * @param {string} options.name
   * @param {string} options.url the application's origin
   * @param {(event: string) => void} [options.onEvent]
   * @param {number} [options.sockets] requests that are under way at once
   * @param {number} [options.timeout] milliseconds without an answer
   * @param {(page: object, user: User) => Promise<object>} [options.fillForm] fills in a page of the provider and sends
   *   it: the answer to that; default: the forms of oidc-provider
   * @param {string} [options.ca] PEM: whom to trust where an address is `https`
   */
  constructor({ name, url, onEvent = () => {}, sockets = 6, timeout = TIMEOUT, fillForm = fillPlainForm, ca }) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: sockets, timeout });
    this.#tlsAgent = new TlsAgent({ keepAlive: true, maxSockets: sockets, timeout, ca });
    this.#timeout = timeout;
    this.#fillForm = fillForm;
    this.name = name;
    this.url = url;
    this.onEvent = onEvent;
  }

  /** When the last refresh of this user succeeded, in milliseconds; zero if none did. */
  get refreshedAt() {
    return this.#refreshedAt;
  }

  /** From `login/start` over both forms of the provider, back through the callback, to the application's page. */
  async signIn() {
    const { url } = expect(200, 'login/start', await this.startSignIn());
    await this.finishSignIn(url);
  }

  /** The answer of `login/start`; `url` is where to go on. */
  async startSignIn() {
    const answer = await this.agent('POST', '/login/start', 'return_to=/');
    return { ...answer, url: answer.status === 200 ? answer.json().authorization_url : null };
  }

  /** Follows the provider's pages from `url` and through the callback into the application. */
  async finishSignIn(url) {
    let next = url;
    // A sign-in that cannot be finished is begun once more by the agent itself.
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const { href, body } = await this.leave(next);
      const answer = await this.navigate(body === undefined ? 'GET' : 'POST', href, body);
      const location = new URL(answer.headers.location ?? '/no-location', this.url);
      if (answer.status !== 303 || location.searchParams.has('login_error')) throw new Unexpected(`callback → ${location}`, answer);
      next = location.href;
      if (location.origin === this.url) return this.navigate('GET', next);
    }
    throw new Unexpected('the sign-in is begun again and again', { status: 303, headers: {}, text: next.split('?')[0] });
  }

  /** Goes where the answer of `logout` leads, and says at the provider that it is meant. */
  async leaveProvider(answer) {
    const { logout_url: url } = answer.status === 200 ? answer.json() : {};
    if (!url) return;
    const { headers } = await this.navigate('GET', url);
    const next = new URL(headers.location, url).href;
    if (!next.startsWith(`${this.url}/`)) await this.navigate('GET', await this.passForms(next));
  }

  /** Follows the provider's pages from `url`, forms included; the address at which they lead back, not yet visited. */
  async passForms(url) {
    return (await this.leave(url)).href;
  }

  /** As `passForms`: `{href}`, and `body` where the way back is a form that sends itself (form_post). */
  async leave(url) {
    let answer = await this.navigate('GET', url);
    for (let step = 0; step < MAX_REDIRECTS; step += 1) {
      const posted = postedBack(answer);
      if (posted && new URL(posted.href).origin === this.url) return posted;
      if (answer.headers.location) {
        const next = new URL(answer.headers.location, answer.url);
        if (next.origin === this.url) return { href: next.href };
        answer = await this.navigate('GET', next.href);
      } else {
        answer = await this.#fillForm(answer, this);
      }
    }
    throw new Unexpected('the sign-in does not end', answer);
  }

  /** One navigation of the address bar or of a form; no redirect is followed. */
  navigate(method, url, body) {
    return this.#send(method, url, body, {
      accept: 'text/html',
      'sec-fetch-dest': 'document',
      'sec-fetch-mode': 'navigate',
      'sec-fetch-site': 'cross-site',
    });
  }

  /** One `fetch` of a script of the provider's own page, in JSON. */
  pageScript(method, url, value) {
    const body = value === undefined ? undefined : JSON.stringify(value);
    return this.#send(method, url, body, { accept: 'application/json', 'content-type': 'application/json' });
  }

  /** One `fetch` of the application's own script; nothing is repeated. */
  script(method, path, { body, type = 'application/x-www-form-urlencoded', signal } = {}) {
    return this.#send(method, `${this.url}${path}`, body, {
      accept: 'application/json',
      origin: this.url,
      'sec-fetch-dest': 'empty',
      'sec-fetch-mode': 'cors',
      'sec-fetch-site': 'same-origin',
      'token-handler-version': '1',
      ...(body === undefined ? {} : { 'content-type': type }),
    }, signal);
  }

  /** One call of the agent; nothing is repeated. */
  agent(method, path, body) {
    return this.script(method, `/auth${path}`, { body });
  }

  async session() {
    return expect(200, 'session', await this.agent('GET', '/session')).json();
  }

  /** An API call as a correct client makes it: an access token that ran out costs one refresh and one retry. */
  async call(path, { method = 'GET', ...init } = {}) {
    const startedAt = Date.now();
    const first = await this.script(method, path, init);
    if (first.status !== 401 || first.headers['token-handler-error'] !== 'access_token_expired') return first;
    const refreshed = await this.refresh(startedAt);
    return refreshed.status === 200 ? this.script(method, path, init) : refreshed;
  }

  /**
   * One refresh at a time; who waited for somebody else's has nothing left to do. While the provider is away it
   * comes again when it was told to.
   */
  refresh(since = Infinity) {
    if (this.#refreshedAt > since) return Promise.resolve({ status: 200 });
    this.#refreshing ??= this.#refreshUntilDecided().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refreshUntilDecided() {
    for (let deferred = false; ; deferred = true) {
      const answer = await this.agent('POST', '/refresh');
      if (answer.status === 200) {
        this.#refreshedAt = Date.now();
        this.onEvent(deferred ? 'deferred refresh succeeded' : 'refresh succeeded');
        return answer;
      }
      const wait = Number(answer.headers['retry-after']);
      if (answer.status !== 503 || !(wait > 0)) return answer;
      this.onEvent('refresh put off');
      await pause(wait * 1_000);
    }
  }

  /** The `name=value` of every cookie that goes to `path`: to compare or to send again, not to read. */
  cookies(path = '/auth/session') {
    return this.#jar.sentTo(new URL(path, this.url)).map(({ name, value }) => `${name}=${value}`).sort();
  }

  close() {
    this.#agent.destroy();
    this.#tlsAgent.destroy();
  }

  #send(method, url, body, headers, signal) {
    const target = new URL(url);
    const cookies = this.#jar.sentTo(target).map(({ name, value }) => `${name}=${value}`).join('; ');
    if (method === 'POST' && headers['sec-fetch-mode'] === 'navigate') {
      headers['content-type'] = 'application/x-www-form-urlencoded';
    }
    if (body !== undefined) headers['content-length'] = String(Buffer.byteLength(body));
    else if (method === 'POST') headers['content-length'] = '0';
    return new Promise((resolve, reject) => {
      const isTls = target.protocol === 'https:';
      const outgoing = (isTls ? httpsRequest : httpRequest)(target, {
        method,
        agent: isTls ? this.#tlsAgent : this.#agent,
        signal,
        headers: { host: target.host, ...headers, ...(cookies ? { cookie: cookies } : {}) },
        lookup: (_name, { all }, found) => (all ? found(null, [{ address: LOOPBACK, family: 4 }]) : found(null, LOOPBACK, 4)),
      }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const setCookies = response.headers['set-cookie'] ?? [];
          this.#jar.store(target, setCookies);
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({
            status: response.statusCode, headers: response.headers, setCookies, text, url, json: () => JSON.parse(text),
          });
        });
      });
      outgoing.setTimeout(this.#timeout, () => outgoing.destroy(new Error(`${method} ${target.pathname}: no answer in ${this.#timeout} ms`)));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
}

/** The form of hidden fields in a page of `form_post` (OAuth 2.0 Form Post Response Mode), or null. */
function postedBack({ text, url }) {
  const action = /<form method="post" action="([^"]+)"/.exec(text)?.[1];
  if (!action) return null;
  const fields = [...text.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)];
  const plain = (value) => value.replace(/&#(\d+);/g, (_all, code) => String.fromCharCode(code))
    .replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
  const body = new URLSearchParams(fields.map(([, name, value]) => [plain(name), plain(value)]));
  return { href: new URL(plain(action), url).href, body: String(body) };
}

/** The forms of oidc-provider's development pages: login, consent, sign-out. */
function fillPlainForm(page, user) {
  const action = /<form[^>]* action="([^"]+)"/.exec(page.text)?.[1];
  const prompt = /name="prompt" value="(\w+)"/.exec(page.text)?.[1];
  const xsrf = /name="xsrf" value="(\w+)"/.exec(page.text)?.[1];
  if (action && xsrf) {
    return user.navigate('POST', new URL(action, page.url).href, String(new URLSearchParams({ xsrf, logout: 'yes' })));
  }
  if (!action || !prompt) throw new Unexpected(`no form at ${page.url.split('?')[0]}`, page);
  const fields = new URLSearchParams({ prompt });
  if (prompt === 'login') {
    fields.set('login', user.name);
    fields.set('password', 'any password');
  }
  return user.navigate('POST', new URL(action, page.url).href, String(fields));
}

function expect(status, what, answer) {
  if (answer.status !== status) throw new Unexpected(what, answer);
  return answer;
}

/** The cookies of a browser as far as they are used here: host, name, path, deletion, and the limit on length. */
class Jar {
  #cookies = new Map();

  store({ hostname, pathname }, lines) {
    for (const line of lines) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const equals = pair.indexOf('=');
      const [name, value] = [pair.slice(0, equals), pair.slice(equals + 1)];
      const attribute = (wanted) => attributes
        .map((text) => text.split('='))
        .find(([key]) => key.toLowerCase() === wanted)?.[1];
      const path = attribute('path') ?? (pathname.slice(0, pathname.lastIndexOf('/')) || '/');
      const key = `${hostname} ${path} ${name}`;
      const life = attribute('max-age');
      const isOver = life !== undefined ? Number(life) <= 0 : new Date(attribute('expires') ?? Infinity) <= Date.now();
      if (isOver) this.#cookies.delete(key);
      else if (name.length + value.length <= LARGEST_COOKIE) this.#cookies.set(key, { hostname, path, name, value });
    }
  }

  sentTo({ hostname, pathname }) {
    const covers = (path) => pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
    return [...this.#cookies.values()].filter((cookie) => cookie.hostname === hostname && covers(cookie.path));
  }
}
