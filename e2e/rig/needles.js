// A search for what must not be stored, in whatever way it may have been written: as it is, in base64 of either alphabet
// at whatever offset, in hexadecimal, and for a token its decoded segments.
//
// It answers what was found as kinds and encodings: never a needle itself, for that is a secret.

/** As much of a long secret as makes it unmistakable. */
const LENGTH = 24;
const SHORTEST = 6;

/**
 * @param {Buffer} haystack
 * @param {{kind: string, text: string}[]} secrets
 * @returns {string[]} such as `access_token in hexadecimal`; empty when there is nothing
 */
export function findSecrets(haystack, secrets) {
  const found = new Set();
  const lower = Buffer.from(haystack.toString('latin1').toLowerCase(), 'latin1');
  for (const { kind, text } of secrets) {
    if (text.length < SHORTEST) throw new Error(`a secret of ${text.length} characters is in everything`);
    for (const bytes of partsOf(text)) {
      if (haystack.includes(bytes)) found.add(`${kind} as it is`);
      if (lower.includes(bytes.toString('hex'))) found.add(`${kind} in hexadecimal`);
      for (const encoded of base64s(bytes)) if (haystack.includes(encoded)) found.add(`${kind} in base64`);
    }
  }
  return [...found].sort();
}

/** The end of it, for a token's differ there; of a JWT also the bytes that each segment stands for. */
function partsOf(text) {
  const parts = [Buffer.from(text.slice(-LENGTH))];
  const segments = text.split('.');
  if (segments.length === 3) {
    for (const segment of segments.slice(1)) parts.push(Buffer.from(segment, 'base64url').subarray(-LENGTH));
  }
  return parts;
}

/** Its base64 wherever in a longer text it stands: what depends on its neighbours is left off. */
function base64s(bytes) {
  return [0, 1, 2].flatMap((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64').replace(/=+$/, '');
    const first = offset === 0 ? 0 : offset + 1;
    const last = (offset + bytes.length) % 3 === 0 ? text.length : text.length - 1;
    const inner = text.slice(first, last);
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')];
  });
}
