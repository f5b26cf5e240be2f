// A rig at https://localhost, where browsers speak HTTP/2, in front of one API in HTTP/1.1 and one in HTTP/2; and the
// clients of it that are no browsers, with a copy of the browser's cookies.
//
// They trust the test's own authority only, and never reach anything but loopback.

import http2 from 'node:http2';
import https from 'node:https';

import { makeCertificates } from './certificates.js';
import { scriptHeaders } from './http.js';
import { freePorts } from './ports.js';
import { FOREIGN, Rig, shopConfiguration } from './rig.js';
import { startStreamingApi } from './streaming_api.js';

/** The route's path of each kind of upstream. */
export const ROUTES = { '1.1': '/h1', '2': '/h2' };

export class ProtocolRig extends Rig {
  async start({ provider = {}, session } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort] = await freePorts(3);
    this.url = `https://localhost:${port}`;
    this.appUrl = this.url;
    this.port = port;
    this.certificates = await makeCertificates(this.directory, ['localhost']);
    this.prepareProvider({ port: providerPort, redirectUri: `${this.url}/auth/callback`, options: provider });
    await this.startProvider();
    await this.startApi();
    this.apis = {};
    for (const version of Object.keys(ROUTES)) {
      const api = await startStreamingApi(version);
      this.apis[version] = api;
      this.onStop(() => api.close());
    }
    const streaming = { strip_prefix: true, resources: true, body_limit: '200 MB' };
    await this.startCoatroom({
      wait: 'ready',
      configuration: shopConfiguration({
        rig: this,
        port,
        adminPort,
        pages: { static: FOREIGN },
        app: {
          ...session && { session },
          routes: {
            '/api/': { upstream: this.api.url, strip_prefix: true },
            [`${ROUTES['1.1']}/`]: { upstream: this.apis['1.1'].url, ...streaming },
            [`${ROUTES['2']}/`]: { upstream: this.apis['2'].url, http2: true, ...streaming },
            '/gone/': { upstream: 'http://127.0.0.1:1', http2: true },
            '/': { static: FOREIGN },
          },
        },
        top: {
          tls: { certificate: { file: this.certificates.certificateFile }, key: { file: this.certificates.keyFile } },
        },
      }),
    });
  }

  openBrowser() {
    return super.openBrowser({ home: this.certificates.home });
  }

  /** What a script of the page would send along to `path`. */
  async headersFor(path) {
    return scriptHeaders({ origin: this.url, cookies: await this.cookies(), url: `${this.url}${path}` });
  }

  /** A request over HTTP/1.1, begun: the outgoing request of Node. */
  http1(path, { method = 'GET', headers = {} } = {}) {
    return https.request({
      host: '127.0.0.1', port: this.port, servername: 'localhost', path, method, agent: false,
      ca: this.certificates.ca, ALPNProtocols: ['http/1.1'], headers: { host: `localhost:${this.port}`, ...headers },
    });
  }

  /** An HTTP/2 connection of its own. */
  http2() {
    const session = http2.connect(this.url, {
      ca: this.certificates.ca, lookup: (_name, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
    });
    this.onStop(async () => session.destroy());
    return session;
  }

  /**
   * One request over either protocol: `{status, headers, body, write(chunk), end(chunk)}`, where `body` is a stream
   * that is there once the answer's head is, and `abort()` leaves.
   */
  begin(version, path, { method = 'GET', headers = {} } = {}) {
    if (version === '1.1') {
      const request = this.http1(path, { method, headers });
      const answer = new Promise((resolve, reject) => {
        request.on('response', (response) => resolve({
          status: response.statusCode, headers: response.headers, body: response,
        }));
        request.on('error', reject);
      });
      answer.catch(() => {});
      return { request, answer, abort: () => request.destroy() };
    }
    const session = this.http2();
    // A reset and nothing else; `request.close` would end an unfinished body first, as if it were whole.
    const leave = new AbortController();
    const request = session.request({ ...headers, ':method': method, ':path': path }, {
      endStream: method === 'GET' || method === 'HEAD', signal: leave.signal,
    });
    const answer = new Promise((resolve, reject) => {
      request.on('response', (head) => resolve({ status: head[':status'], headers: head, body: request }));
      request.on('error', reject);
    });
    answer.catch(() => {});
    return { request, answer, abort: () => leave.abort() };
  }
}
