// Uses a public token handler client library the way its documentation shows: `onPageLoad` on every page load, then
// `startLogin`, `refresh` and `logout` by whoever drives the page.
//
// It never calls the token handler itself: every request is the library's own.

(() => {
  const { OAuthAgentClient } = window.TokenHandlerAssistant;
  const assistant = new OAuthAgentClient({ oauthAgentBaseUrl: `${location.origin}/auth` });
  window.assistant = assistant;

  /** The outcome of one call, or the error as the library reports it. */
  window.call = async (name, request) => {
    try {
      return { value: await assistant[name](request) };
    } catch (error) {
      return { error: { status: error.status, code: error.code, details: error.details } };
    }
  };

  window.call('onPageLoad', location.href).then(({ value, error }) => {
    if (location.pathname === '/signed-in') history.replaceState(null, '', '/');
    const status = document.getElementById('status');
    status.textContent = JSON.stringify(value ?? error);
    status.dataset.state = error ? 'failed' : value.isLoggedIn ? 'signed-in' : 'signed-out';
  });
})();
