// What tests do inside a page of the foreign application, through its client.
//
// These functions run in the page: they use nothing but the page's `client` and the browser.

/** The session, as the application sees it. */
export function session(page) {
  return page.evaluate(() => window.client.session());
}

/** One API call without refresh and retry: `{status, code, type, body}`. */
export function callApiOnce(page, path = '/orders', init = {}) {
  return page.evaluate(async ([path, init]) => {
    const response = await window.client.callApiOnce(path, init);
    return {
      status: response.status,
      code: response.headers.get('token-handler-error'),
      type: response.headers.get('content-type'),
      body: await response.json(),
    };
  }, [path, init]);
}

/** One API call as the client makes it, with refresh and retry: its status. */
export function callApi(page, path = '/orders') {
  return page.evaluate(async (path) => (await window.client.callApi(path)).status, path);
}

/** A POST to the agent by plain `fetch`, so that nothing serialises it: `{status, body}`. */
export function postToAgent(page, path, parameters = {}) {
  return page.evaluate(async ([path, parameters]) => {
    const response = await fetch(`${window.client.agent}${path}`, {
      method: 'POST',
      body: new URLSearchParams(parameters),
      credentials: 'include',
      headers: { 'token-handler-version': '1' },
    });
    return { status: response.status, body: await response.json() };
  }, [path, parameters]);
}

/** What `#status` says: `signed-in`, `signed-out`, `failed` or `loading`. */
export function status(page) {
  return page.getAttribute('#status', 'data-state');
}
