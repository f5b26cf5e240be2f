// The corpus of raw requests that crates/coatroom-cli/src/serve/data/corpus/requests.txt holds, read as its first
// lines say.
//
// It knows the notation and nothing of HTTP.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const FILE = join(import.meta.dirname, '../../../crates/coatroom-cli/src/serve/data/corpus/requests.txt');
const NEXT = String.raw`GET /smuggled HTTP/1.1\r\nhost: shop.example\r\nx-mallory: 1\r\n\r\n`;
const LENGTH = unescape(NEXT).length;
const MACROS = {
  post: String.raw`POST /a HTTP/1.1\r\nhost: shop.example\r\n`,
  get: String.raw`GET /a HTTP/1.1\r\nhost: shop.example\r\n`,
  next: NEXT,
  'next.length': `${LENGTH}`,
  'next.hex': LENGTH.toString(16),
};

/**
 * @returns {Promise<{name: string, bytes: Buffer, statuses: number[], read: string[]}[]>} `read` has a character for
 *   each byte
 */
export async function requests() {
  let family;
  const cases = [];
  for (const line of (await readFile(FILE, 'utf8')).split('\n')) {
    if (line.startsWith('## ')) [family] = line.slice(3).split(' | ');
    else if (line !== '' && line !== '#' && !line.startsWith('# ')) {
      const [name, bytes, statuses, read] = line.split(' | ');
      cases.push({
        name: `${family}: ${name}`,
        bytes: Buffer.from(bytesOf(bytes), 'latin1'),
        statuses: statuses.split(' ').map(Number),
        read: read === '-' ? [] : read.split(', ').map(bytesOf),
      });
    }
  }
  return cases;
}

function bytesOf(text) {
  return unescape(text.replace(/\{([^}]*)\}/g, (_, inside) => {
    if (inside in MACROS) return MACROS[inside];
    const star = inside.lastIndexOf('*');
    return inside.slice(0, star).repeat(Number(inside.slice(star + 1)));
  }));
}

function unescape(text) {
  return text.replace(/\\(x[0-9a-f]{2}|.)/g, (_, escape) => {
    if (escape.startsWith('x')) return String.fromCharCode(parseInt(escape.slice(1), 16));
    return { r: '\r', n: '\n', t: '\t', 0: '\0', '\\': '\\' }[escape];
  });
}
