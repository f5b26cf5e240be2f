// What a page does that was written for Duende BFF, from its documented contract: it asks for the user with
// `X-CSRF: 1`, leaves for `/bff/login`, and signs out at the address that it finds among the claims.
//
// It never refreshes a token, never reads an error code, and knows of no other endpoint: whatever it needs has to be
// done on the server.

(() => {
  const csrf = { 'X-CSRF': '1' };
  const element = (id) => document.getElementById(id);
  let claims = null;

  const claim = (type) => claims?.find((entry) => entry.type === type)?.value;

  async function showUser(url) {
    const response = await fetch(url, { headers: csrf });
    claims = response.ok ? await response.json() : null;
    const status = element('status');
    element('claims').replaceChildren(...(claims ?? []).map(({ type, value }) => {
      const row = document.createElement('tr');
      for (const text of [type, value]) row.insertCell().textContent = String(text);
      return row;
    }));
    status.textContent = claims ? `signed in as ${claim('name') ?? claim('sub')}` : `nobody (${response.status})`;
    status.dataset.state = claims ? 'signed-in' : 'signed-out';
  }

  element('sign-in').addEventListener('click', () => {
    location.href = `/bff/login?returnUrl=${encodeURIComponent(location.pathname + location.search)}`;
  });

  element('sign-out').addEventListener('click', () => {
    const address = claim('bff:logout_url') ?? '/bff/logout';
    location.href = address + (address.includes('?') ? '&' : '?') + 'returnUrl=/signed-out';
  });

  element('call-api').addEventListener('click', async () => {
    const answer = element('answer');
    answer.dataset.status = '';
    const response = await fetch('/api/orders', { headers: csrf });
    answer.textContent = await response.text();
    answer.dataset.status = String(response.status);
  });

  // as its documentation shows: is there still a session, without keeping it alive
  window.checkSession = () => showUser('/bff/user?slide=false');

  showUser('/bff/user');
})();
