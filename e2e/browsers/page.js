// What several scenarios do with a page of the application.
//
// It goes around the library where a test has to know what the library is not to be asked.

/** Until an API call that the library knows nothing of is refused because the access token ran out. */
export async function expired(tab) {
  await tab.until('the access token runs out', () => tab.evaluate(async () => {
    const answer = await fetch(window.orders, { credentials: 'include', headers: { 'token-handler-version': '1' } });
    return answer.headers.get('token-handler-error') === 'access_token_expired';
  }));
}
