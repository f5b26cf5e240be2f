// A stand-in for the public library `@curity/token-handler-js-assistant`: the same global, the same methods, and on
// the wire the same peculiarities, written anew. It keeps the HTTP interface compatible where the library itself
// is not installed.
//
// The peculiarities: POST bodies may be empty forms or missing altogether, an error counts as one only when its
// content type is exactly `application/json`, every success must have a JSON body, and absent fields are no error.

(() => {
  class OAuthAgentRemoteError extends Error {
    constructor(status, code, details) {
      super(`${status}: ${code}`);
      Object.assign(this, { status, code, details });
    }
  }

  async function send(url, method, form) {
    const headers = { accept: 'application/json', 'token-handler-version': '1' };
    // An empty form is sent with the browser's own type, which has a charset parameter.
    if (form && [...form].length > 0) headers['content-type'] = 'application/x-www-form-urlencoded';
    const response = await fetch(url, { method, headers, body: form, mode: 'cors', credentials: 'include' });
    if (response.ok) return response.json();
    if (response.headers.get('content-type') !== 'application/json') {
      throw new OAuthAgentRemoteError(response.status, 'server_error', response.statusText);
    }
    const { error_code: code, detailed_error: details } = await response.json();
    throw new OAuthAgentRemoteError(response.status, code, details);
  }

  const sessionOf = (answer) => ({
    isLoggedIn: answer.is_logged_in,
    idTokenClaims: answer.id_token_claims,
    accessTokenExpiresIn: answer.access_token_expires_in,
  });

  class OAuthAgentClient {
    constructor({ oauthAgentBaseUrl }) {
      this.base = oauthAgentBaseUrl.replace(/\/?$/, '/');
    }

    async startLogin({ extraAuthorizationParameters = {} } = {}) {
      const answer = await send(`${this.base}login/start`, 'POST', new URLSearchParams(extraAuthorizationParameters));
      return { authorizationUrl: answer.authorization_url };
    }

    async endLogin({ searchParams }) {
      return sessionOf(await send(`${this.base}login/end`, 'POST', searchParams));
    }

    async session() {
      return sessionOf(await send(`${this.base}session`, 'GET'));
    }

    async refresh({ extraRefreshParameters = {} } = {}) {
      const answer = await send(`${this.base}refresh`, 'POST', new URLSearchParams(extraRefreshParameters));
      return { accessTokenExpiresIn: answer.access_token_expires_in };
    }

    async logout() {
      const { logout_url: logoutUrl } = await send(`${this.base}logout`, 'POST');
      return { logoutUrl };
    }

    onPageLoad(url) {
      const { searchParams } = new URL(url);
      const has = (...names) => names.every((name) => searchParams.has(name));
      const isResponse = has('state', 'code') || has('state', 'error') || (has('response') && [...searchParams].length === 1);
      return isResponse ? this.endLogin({ searchParams }) : this.session();
    }
  }

  window.TokenHandlerAssistant = { OAuthAgentClient, OAuthAgentRemoteError };
})();
