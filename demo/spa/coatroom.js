// A compact client of the token handler: sign in, sign out, refresh, and call APIs through it.
//
// It never sees, stores or asks for a token, a code or a secret: the browser's HttpOnly cookies carry everything.
// It never refreshes on a timer, only when a call comes back with `access_token_expired`.
// HTTP interface: custom header on every call (RFC 10017, CSRF), cookies included, one refresh and one retry.

const HEADERS = { 'token-handler-version': '1' };
const ERROR_HEADER = 'token-handler-error';
const TIMEOUT_MILLISECONDS = 20_000;

/** What the token handler answered instead of what was asked for. */
export class TokenHandlerError extends Error {
  constructor({ status, code, detail = '', providerError = null, retryAfter = null }) {
    super(detail || code);
    this.name = 'TokenHandlerError';
    this.status = status;
    this.code = code;
    this.providerError = providerError;
    this.retryAfter = retryAfter;
  }

  static async from(response) {
    const body = await response.json().catch(() => ({}));
    return new this({
      status: response.status,
      code: response.headers.get(ERROR_HEADER) ?? body.error_code ?? 'server_error',
      detail: body.detailed_error,
      providerError: body.provider_error ?? null,
      retryAfter: Number(response.headers.get('retry-after')) || null,
    });
  }
}

/**
 * @param {object} [options]
 * @param {string} [options.basePath] where the agent lives
 * @param {string} [options.name] what the tabs of one application share their lock and their channel under
 * @param {typeof fetch} [options.fetch] for those who want to watch the requests
 */
export function createCoatroom({
  basePath = '/auth',
  name = 'coatroom',
  fetch = (url, options) => globalThis.fetch(url, options),
} = {}) {
  const lastRefresh = sharedTimestamp(`${name}:refreshed-at`);
  const tabs = new BroadcastChannel(`${name}:session`);
  let sessionId = null;

  /** The session, also when signed out: `{is_logged_in, id_token_claims, access_token_expires_in, session}`. */
  async function session() {
    const answer = await agent('GET', '/session');
    learn(answer.session?.id ?? null);
    return answer;
  }

  /** Leaves the page for the provider; the user comes back to `returnTo`, fragment included. */
  async function signIn({ returnTo = currentPath(), ...parameters } = {}) {
    const { authorization_url: url } = await agent('POST', '/login/start', { return_to: returnTo, ...parameters });
    location.assign(url);
  }

  /** Ends the session here and then, by navigation, at the provider. */
  async function signOut() {
    const { logout_url: url } = await agent('POST', '/logout');
    learn(null);
    location.assign(url ?? '/');
  }

  /** New tokens into the cookies; answers how long they live. One tab at a time. */
  const refresh = () => oneTabAtATime(`${name}:refresh`, refreshNow);

  async function refreshNow() {
    const answer = await agent('POST', '/refresh');
    lastRefresh.write(Date.now());
    return answer;
  }

  /**
   * `fetch` for the APIs behind the token handler: an expired access token is refreshed and the call made once more.
   * A body must be one that can be sent twice: no stream.
   */
  async function call(url, options = {}) {
    const startedAt = Date.now();
    const response = await send(url, options);
    if (response.status !== 401 || response.headers.get(ERROR_HEADER) !== 'access_token_expired') return response;
    await oneTabAtATime(`${name}:refresh`, async () => {
      // Whoever held the lock before us may have done it: a refresh token is good for one use.
      if (lastRefresh.read() < startedAt) await refreshNow();
    });
    return send(url, options);
  }

  /** Calls `listener` when another tab has signed in or out: ask `session` then. */
  function onChange(listener) {
    tabs.addEventListener('message', () => listener());
  }

  /** Tells the other tabs what this one has learnt. They hear that something changed, not what. */
  function learn(id) {
    if (id === sessionId) return;
    sessionId = id;
    tabs.postMessage('changed');
  }

  async function agent(method, path, parameters) {
    const body = method === 'POST' ? new URLSearchParams(parameters) : undefined;
    const response = await send(basePath + path, { method, body });
    if (!response.ok) throw await TokenHandlerError.from(response);
    return response.json();
  }

  function send(url, options) {
    const headers = new Headers(options.headers);
    for (const [header, value] of Object.entries(HEADERS)) headers.set(header, value);
    return fetch(url, {
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
      ...options,
      headers,
      credentials: 'include',
    });
  }

  return { session, signIn, signOut, refresh, fetch: call, onChange };
}

/** The token handler's word on an answer of `fetch`; null when the answer is the API's own, good or bad. */
export async function errorOf(response) {
  return response.headers.has(ERROR_HEADER) ? TokenHandlerError.from(response) : null;
}

/** Path, query and fragment of this page, without the mark of a failed sign-in. */
function currentPath() {
  const url = new URL(location.href);
  url.searchParams.delete('login_error');
  return url.pathname + url.search + url.hash;
}

function oneTabAtATime(lock, work) {
  // Web Locks exist in secure contexts only, and so does the rest of this.
  return navigator.locks.request(lock, { signal: AbortSignal.timeout(2 * TIMEOUT_MILLISECONDS) }, work);
}

/** A time that all tabs of the origin see, and this tab alone where storage is switched off. */
function sharedTimestamp(key) {
  let own = 0;
  return {
    read() {
      try {
        return Math.max(own, Number(localStorage.getItem(key)) || 0);
      } catch {
        return own;
      }
    },
    write(time) {
      own = time;
      try {
        localStorage.setItem(key, String(time));
      } catch {
        // This tab still knows.
      }
    },
  };
}
