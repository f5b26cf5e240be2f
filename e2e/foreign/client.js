// A client of a token handler, written against the published HTTP interface alone: it knows the endpoints, the JSON
// and the error codes, and nothing of how the server makes them.
//
// It never sees, stores or sends a token or a cookie by hand: the browser carries the cookies. It never retries more
// than once, and never starts a sign-in by itself.

const HEADER = 'token-handler-version';
const REFRESHED_AT = 'foreign-refreshed-at';
const REFRESH_LOCK = 'foreign-refresh';

/** An answer that is not a success: `status`, `code` (`error_code`), `retryAfter` in seconds where it was sent. */
export class AgentError extends Error {
  constructor({ status, code, detail, providerError, retryAfter }) {
    super(`${status} ${code}${detail ? `: ${detail}` : ''}`);
    this.name = 'AgentError';
    Object.assign(this, { status, code, detail, providerError, retryAfter });
  }
}

export class TokenHandlerClient {
  /** @param {{agent: string, api: string}} bases URLs, absolute or relative to the page */
  constructor({ agent, api }) {
    this.agent = new URL(agent, location.href).href.replace(/\/$/, '');
    this.api = new URL(api, location.href).href.replace(/\/$/, '');
  }

  /** Asks for the address of the provider. The caller navigates there. */
  async startLogin(parameters = {}) {
    const { authorization_url: url } = await this.#post('/login/start', parameters);
    return url;
  }

  /** True when the address holds an answer of the provider: a code, an error, or a signed response. */
  static isAuthorizationResponse(url) {
    const query = new URL(url).searchParams;
    return query.has('response') || (query.has('state') && (query.has('code') || query.has('error')));
  }

  /** Posts all query parameters of the page the provider returned to. Answers the session. */
  endLogin(url) {
    return this.#post('/login/end', new URL(url).searchParams);
  }

  /** The session; also when signed out, then `is_logged_in` is false. */
  session() {
    return this.#call('GET', '/session');
  }

  /**
   * Refreshes, one tab at a time: who waited for the lock while another tab refreshed has nothing left to do.
   *
   * @param {{since?: number, background?: boolean}} [options] `since`: the time of the call that found the token old
   */
  refresh({ since = Date.now(), background = false } = {}) {
    return navigator.locks.request(REFRESH_LOCK, async () => {
      if (Number(localStorage.getItem(REFRESHED_AT)) > since) return null;
      const answer = await this.#post('/refresh', background ? { background: 'true' } : {});
      localStorage.setItem(REFRESHED_AT, String(Date.now()));
      return answer;
    });
  }

  /** Ends the session. Answers the address to navigate to, or null when there is none. */
  async signOut() {
    const { logout_url: url } = await this.#post('/logout');
    return url ? new URL(url, `${this.agent}/`).href : null;
  }

  /** One API call; a token that ran out costs one refresh and one retry. */
  async callApi(path, init = {}) {
    const since = Date.now();
    const first = await this.callApiOnce(path, init);
    if (first.status !== 401 || first.headers.get('token-handler-error') !== 'access_token_expired') return first;
    await this.refresh({ since });
    return this.callApiOnce(path, init);
  }

  /** One API call, whatever comes of it. */
  callApiOnce(path, init = {}) {
    const headers = new Headers(init.headers);
    headers.set(HEADER, '1');
    return fetch(`${this.api}${path}`, { ...init, headers, credentials: 'include' });
  }

  #post(path, parameters) {
    return this.#call('POST', path, new URLSearchParams(parameters));
  }

  async #call(method, path, body) {
    const response = await fetch(`${this.agent}${path}`, {
      method,
      body,
      credentials: 'include',
      headers: { [HEADER]: '1', accept: 'application/json' },
    });
    const isJson = response.headers.get('content-type') === 'application/json';
    if (response.ok && isJson) return response.json();
    const error = isJson ? await response.json() : {};
    throw new AgentError({
      status: response.status,
      code: error.error_code ?? response.headers.get('token-handler-error') ?? 'not_json',
      detail: error.detailed_error,
      providerError: error.provider_error,
      retryAfter: response.headers.get('retry-after'),
    });
  }
}
