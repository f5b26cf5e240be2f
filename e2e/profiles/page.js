// `docs/profiles.md`, made from the table: nothing on that page is written by hand.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { PROFILES, routeOf } from './profiles.js';

const PAGE = join(import.meta.dirname, '../../docs/profiles.md');
const KINDS = {
  bearer: 'a Bearer token',
  dpop: 'a DPoP token with a proof for this call: method, address, token, nonce (RFC 9449)',
  certificate: 'a token bound to the certificate of the connection (RFC 8705)',
};
const FORMATS = { jwt: 'a JWT', opaque: 'opaque, introspected', 'introspection-jwt': 'the signed answer of an introspection' };

/** The page as the table has it. */
export function page() {
  const files = new Proxy({}, { get: (_files, name) => (name === 'assertion' ? 'assertion.jwt' : `${String(name)}.pem`) });
  const rows = PROFILES.filter(({ needs }) => !needs).map((profile) => {
    const { name, demands, token: { kind, format, audience } } = profile;
    const route = routeOf(profile, files);
    const settings = [['provider', profile.settings(files, 'https://login.example.com')], ['route', route]]
      .filter(([, value]) => Object.keys(value).length > 0)
      .map(([where, value]) => `${where}: \`${flow(value)}\``);
    return `| ${name} | ${demands} | ${settings.join('<br>') || 'none'} | ${KINDS[kind]}, ${FORMATS[format]}${audience ? `, for \`${audience}\`` : ''} |`;
  });
  return `# Profiles

What Coatroom is tested with at a real provider (npm \`oidc-provider\`), from the sign-in to the revocation.
This page is made from \`e2e/profiles/profiles.js\` by \`e2e/test/profiles.test.js\`: do not edit it.

Each profile runs with sessions in cookies and in SQLite: sign-in by the provider's own forms, calls, a refresh, more calls, sign-out.
A client that leaves out a setting of a profile is refused, by the provider or by the API.
The API verifies each token it gets, by code that is not Coatroom's: signature, issuer and audience, and what the token is bound to.
After the sign-out the provider no longer takes the refresh token.

| profile | what the provider demands | settings | what the API verified |
|---|---|---|---|
${rows.join('\n')}

The issuer, the client's id and secret and the scopes are part of every configuration and are left out here.
`;
}

/** Writes the page, or answers whether it is what the table says. */
export async function isUpToDate() {
  if (process.env.COATROOM_PROFILES === 'write') await writeFile(PAGE, page());
  return (await readFile(PAGE, 'utf8')) === page();
}

/** The flow style of YAML, as far as settings need it. */
function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (value === null || typeof value !== 'object') return String(value);
  return `{${Object.entries(value).map(([key, item]) => `${key}: ${flow(item)}`).join(', ')}}`;
}
