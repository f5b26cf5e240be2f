// Small web servers for pages that are not served by Coatroom: another site's page, and a folder over TLS.
//
// They listen on loopback only, never set a cookie, and never leave the folder they are given.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8' };

/** Answers every request with one HTML page, over TLS if there is a `{key, cert}`. `{url, close()}`. */
export function startPages(html, tls) {
  const answer = (_request, response) => send(response, 200, '.html', html);
  return start(tls ? createTlsServer(tls, answer) : createServer(answer), 0);
}

/**
 * Serves the folder of a single-page application over TLS: its files, and `index.html` for everything else.
 *
 * @param {object} options
 * @param {string} options.folder
 * @param {number} options.port
 * @param {{key: string, cert: string}} options.tls
 * @param {Record<string, string>} options.settings contents of the page's `<meta name=…>`
 */
export function startApplication({ folder, port, tls, settings }) {
  const server = createTlsServer(tls, async (request, response) => {
    const path = normalize(new URL(request.url, 'https://pages.invalid').pathname);
    if (extname(path) === '.js') {
      const text = await readFile(join(folder, path), 'utf8').catch(() => null);
      return text === null ? send(response, 404, '.js', '') : send(response, 200, '.js', text);
    }
    let html = await readFile(join(folder, 'index.html'), 'utf8');
    for (const [name, value] of Object.entries(settings)) {
      html = html.replace(new RegExp(`(<meta name="${name}" content=")[^"]*`), `$1${value}`);
    }
    return send(response, 200, '.html', html);
  });
  return start(server, port);
}

function send(response, status, extension, text) {
  response.writeHead(status, { 'content-type': TYPES[extension], 'cache-control': 'no-store' }).end(text);
}

function start(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve({
      url: `http://127.0.0.1:${server.address().port}/`,
      close: () => new Promise((closed) => {
        server.close(closed);
        server.closeAllConnections();
      }),
    }));
  });
}
