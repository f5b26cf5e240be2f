// What an injected script could find: it looks in every place of the browser that scripts can read, and then does
// what remains possible. Nothing here is prepared; the verdict is computed from what was found.

import { $, element } from './dom.js';

// Three base64url parts with dots are a JWT; a long run without spaces may be an opaque token.
const LOOKS_LIKE_A_TOKEN = /eyJ[\w-]+\.[\w-]+\.[\w-]*|[\w~+/=-]{40,}/;

export async function lookForTokens() {
  const places = [];
  for (const [name, look] of Object.entries(PLACES)) places.push({ name, found: await look().catch(() => null) });
  const found = places.flatMap(({ found: values }) => values ?? []);
  const tokens = found.filter((text) => LOOKS_LIKE_A_TOKEN.test(text));
  const acted = await actAsTheUser();

  $('loot-rows').replaceChildren(
    ...places.flatMap(({ name, found: values }) => row(name, said(values), values?.some((text) => LOOKS_LIKE_A_TOKEN.test(text)))),
    ...row("fetch('/api/orders')", acted.text, acted.worked, 'it works'),
  );
  const verdict = tokens.length === 0
    ? 'No token to carry away.'
    : `${tokens.length} of these look like a token: look at them.`;
  const remains = acted.worked
    ? ' But while this page is open, a script in it can call the API as you. No token handler changes that; to keep such a script out there is the Content-Security-Policy of this page.'
    : '';
  $('loot-verdict').replaceChildren(element('b', {}, verdict), remains);
  $('loot-verdict').dataset.tokens = tokens.length;
}

// Each answers a list of texts; null stands for a place that this browser does not have.
const PLACES = {
  'document.cookie': async () => document.cookie.split(';').map((text) => text.trim()).filter(Boolean),
  'cookieStore.getAll()': async () => (await cookieStore.getAll()).map(({ name, value }) => `${name}=${value}`),
  localStorage: async () => entriesOf(localStorage),
  sessionStorage: async () => entriesOf(sessionStorage),
  'indexedDB.databases()': async () => (await indexedDB.databases()).map(({ name }) => name),
  'caches.keys()': async () => caches.keys(),
  "fetch('/auth/session')": async () => {
    const response = await fetch('/auth/session', { headers: { 'token-handler-version': '1' } });
    const { id_token_claims: claims, session } = await response.json();
    return [...Object.entries(claims ?? {}).map(([name, value]) => `${name}: ${value}`), `session id: ${session?.id}`];
  },
};

/** The honest part: the session travels with every request of this page, whoever wrote the script. */
async function actAsTheUser() {
  const response = await fetch('/api/orders', { headers: { 'token-handler-version': '1' } });
  if (!response.ok) return { worked: false, text: `${response.status}` };
  const { orders } = await response.json();
  return { worked: true, text: `${response.status}, ${orders.length} orders` };
}

function entriesOf(storage) {
  return Object.entries(storage).map(([key, value]) => `${key}=${value}`);
}

function said(values) {
  if (values === null) return 'not in this browser';
  return values.length === 0 ? 'empty' : values.join(' · ');
}

function row(name, text, bad, word = 'looks like a token') {
  const mark = element('span', { class: bad ? 'badge bad' : 'badge good' }, bad ? word : 'no token');
  return [element('dt', {}, element('code', {}, name)), element('dd', {}, element('span', {}, text), mark)];
}
