// The servers under test, each started from its file in `config/` and signed in where it knows of users. All of them
// forward to the same nginx, keep their connections to it, and have two workers.
//
// A subject is what is measured: `{id, title, url, tlsUrl, headers, pid, token}`; one server can be several subjects.

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { startProvider } from '../demo/provider.js';
import { request } from '../e2e/rig/http.js';
import { freePorts } from '../e2e/rig/ports.js';
import { User } from '../e2e/rig/user.js';
import { until } from '../e2e/rig/wait.js';
import { fillIn, startServer } from './process.js';

export const NGINX = firstOf('/usr/sbin/nginx', '/usr/bin/nginx');
export const HAPROXY = firstOf('/usr/sbin/haproxy', '/usr/bin/haproxy');
export const APACHE = firstOf('/usr/sbin/apache2', '/usr/sbin/httpd');
const APACHE_MODULES = firstOf('/usr/lib/apache2/modules', '/usr/lib64/httpd/modules');

/** What a script of the application sends with every call; the same to every server, cookies aside. */
const SCRIPT = { 'token-handler-version': '1', 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' };

/** Keys that sessions prove the possession of, with each call (RFC 9449); what stands in the configuration. */
export const PROOFS = {
  none: { dpop: '' },
  es256: { dpop: 'dpop: {algorithm: ES256}', algorithm: 'ES256' },
  eddsa: { dpop: 'dpop: {algorithm: EdDSA}', algorithm: 'EdDSA' },
};

/** The access tokens: what the provider is told to make, and how long they then are. */
export const TOKENS = {
  '43b': { title: '43 bytes, opaque', format: 'opaque', padding: 0, length: [43, 43] },
  '1.2k': { title: '1.2 KB, JWT', format: 'jwt', padding: 484, length: [1150, 1250] },
  '3.5k': { title: '3.5 KB, in chunks', format: 'opaque', padding: 3_457, length: [3500, 3500] },
};

/** What `cnf` of a token that is bound to a key adds to a JWT, in bytes. */
const CONFIRMATION = 79;

const CLIENT_SECRET = randomBytes(24).toString('hex');

export class Servers {
  #running = [];
  #values;

  /** @param {{directory: string, connections: number}} options `connections`: how many each server can hold */
  constructor({ directory, connections }) {
    this.directory = directory;
    this.connections = connections;
  }

  /**
   * @param {object} options
   * @param {string[]} options.peers
   * @param {{name: string, path: string}[]} options.binaries
   * @param {string[]} options.tokens
   * @param {string[]} options.proofs of `PROOFS`
   * @returns the subjects, nginx first
   */
  async start({ peers, binaries, tokens, proofs }) {
    await mkdir(join(this.directory, 'files'), { recursive: true });
    // Readable for the users that nginx and Apache become when they are started as root.
    for (const folder of [dirname(this.directory), this.directory]) await chmod(folder, 0o755);
    await writeFile(join(this.directory, 'files/16k.json'), jsonOf(16 * 1024));
    await writeFile(join(this.directory, 'files/1m.json'), jsonOf(1024 * 1024));
    await this.#certificates(binaries[0].path);
    const [upstream] = await freePorts(1);
    this.upstream = `http://127.0.0.1:${upstream}`;
    this.#values = {
      DIRECTORY: this.directory, UPSTREAM: upstream, CONNECTIONS: this.connections, FILES: this.connections * 2 + 1000,
    };
    this.upstreamPid = (await this.#nginx('upstream', upstream)).pid;

    const variants = binaries.flatMap((binary) => proofs.map((proof) => ({
      binary, proof, name: proof === 'none' ? binary.name : `${binary.name}-${proof}`,
    })));
    const ports = await freePorts(2 + variants.length * 3);
    const [apachePort, providerPort] = ports.splice(0, 2);
    const places = variants.map((variant) => ({ ...variant, ports: ports.splice(0, 3) }));
    this.provider = await startProvider({ port: providerPort, accessTokenTtl: 3 * 60 * 60, clients: clientsOf(apachePort, places) });

    const own = [];
    for (const place of places) own.push(...await this.#coatroom(place, tokens, binaries.length > 1));
    // Every server gets the same headers, the cookie of a 1.2 KB token included.
    const usual = own.find(({ token, algorithm }) => token === '1.2k' && !algorithm) ?? own[0];
    const headers = usual?.headers ?? SCRIPT;
    const subjects = [];
    for (const peer of peers) {
      if (peer === 'apache') subjects.push(await this.#apache(apachePort));
      else subjects.push({ ...await this.#peer(peer), headers });
    }
    return [...subjects, ...own];
  }

  async stop() {
    for (const server of this.#running.reverse()) await server.stop();
    await this.provider?.close();
  }

  /** How many requests arrived at the upstream so far. */
  async arrived() {
    const { text } = await request(`${this.upstream}/requests`);
    return Number(/requests\n \d+ \d+ (\d+)/.exec(text)[1]);
  }

  async #run(options) {
    const server = await startServer({ directory: this.directory, ...options });
    this.#running.push(server);
    return server;
  }

  async #nginx(name, port, more = {}) {
    const file = join(this.directory, `${name}.conf`);
    await fillIn(`${name}.conf`, { ...this.#values, PORT: port, ...more }, file);
    return this.#run({ name, port, command: [NGINX, '-p', this.directory, '-c', file, '-e', 'stderr'] });
  }

  async #peer(id) {
    const [port, tlsPort] = await freePorts(2);
    const urls = { url: `http://127.0.0.1:${port}`, tlsUrl: `https://127.0.0.1:${tlsPort}` };
    if (id === 'nginx') {
      const { pid } = await this.#nginx('nginx', port, { TLS_PORT: tlsPort });
      return { id, title: 'nginx, bare', pid, ...urls };
    }
    if (id === 'auth_request') {
      const { pid } = await this.#nginx('auth_request', port);
      return { id, title: 'nginx, auth_request to a 204', pid, url: urls.url, alsoArrive: 1 };
    }
    const file = join(this.directory, 'haproxy.cfg');
    await fillIn('haproxy.cfg', { ...this.#values, PORT: port, TLS_PORT: tlsPort }, file);
    const { pid } = await this.#run({ name: id, port, command: [HAPROXY, '-db', '-f', file] });
    return { id, title: 'HAProxy, bare', pid, ...urls };
  }

  async #apache(port) {
    const file = join(this.directory, 'apache.conf');
    await fillIn('apache.conf', {
      ...this.#values, PORT: port, ISSUER: this.provider.issuer, APACHE_MODULES, CLIENT_SECRET,
      PASSPHRASE: randomBytes(24).toString('hex'),
      APACHE_USER: process.getuid() === 0 ? 'User www-data\nGroup www-data' : '',
    }, file);
    const { pid } = await this.#run({ name: 'apache', port, command: [APACHE, '-D', 'FOREGROUND', '-f', file] });
    const url = `http://127.0.0.1:${port}`;
    this.#tokensAre('1.2k');
    const user = new User({ name: 'alice', url });
    try {
      const leaves = await user.navigate('GET', `${url}/api/small`);
      if (leaves.status !== 302) throw new Error(`mod_auth_openidc did not ask for a sign-in: ${leaves.status}`);
      const returned = await user.navigate('GET', await user.passForms(leaves.headers.location));
      if (returned.status !== 302) throw new Error(`mod_auth_openidc did not finish the sign-in: ${returned.status} ${returned.text.slice(0, 200)}`);
      const headers = { ...SCRIPT, cookie: user.cookies('/api/').join('; ') };
      return { id: 'apache', title: 'Apache, mod_auth_openidc', pid, url, headers, token: '1.2k' };
    } finally {
      user.close();
    }
  }

  /** One process for plain HTTP, and one with the same keys for TLS. */
  async #coatroom({ binary, proof, name, ports: [port, tlsPort, adminPort] }, tokens, isOneOfSeveral) {
    const { path } = binary;
    const { dpop, algorithm } = PROOFS[proof];
    const directory = join(this.directory, `coatroom-${name}`);
    await mkdir(directory);
    const { stdout: key } = await promisify(execFile)(path, ['keygen']);
    await writeFile(join(directory, 'coatroom.key'), key, { mode: 0o600 });
    const [tlsAdminPort] = await freePorts(1);
    const serve = async (file, listener, values) => {
      await fillIn('coatroom.yaml', { ...this.#values, ISSUER: this.provider.issuer, CLIENT: name, DPOP: dpop, ...values }, join(directory, file));
      const server = await this.#run({
        name: `${name}-${listener}`, port: values.PORT, directory, command: [path, 'serve', '--config', file],
        environment: { CLIENT_SECRET },
      });
      await until('coatroom is ready', async () => (await request(`http://127.0.0.1:${values.ADMIN}/readyz`)).status === 200);
      return server;
    };
    const plain = await serve('coatroom.yaml', 'http', { PORT: port, ADMIN: adminPort, SCHEME: 'http', TLS: '' });
    const certificate = `tls: {certificate: {file: ${this.directory}/dev-cert.pem}, key: {file: ${this.directory}/dev-key.pem}}`;
    const tls = await serve('tls.yaml', 'tls', { PORT: tlsPort, ADMIN: tlsAdminPort, SCHEME: 'https', TLS: certificate });

    const subjects = [];
    const url = `http://127.0.0.1:${port}`;
    for (const token of tokens) {
      this.#tokensAre(token, algorithm && TOKENS[token].format === 'jwt' ? CONFIRMATION : 0);
      const user = new User({ name: 'alice', url });
      await user.signIn().finally(() => user.close());
      const cookies = user.cookies('/api/');
      if (token === '3.5k' && cookies.length < 2) throw new Error('the token of 3.5 KB is not in chunks');
      subjects.push({
        id: `${name}-${token}`,
        title: `${isOneOfSeveral ? binary.name : 'Coatroom'}, ${TOKENS[token].title}${algorithm ? `, DPoP with ${algorithm}` : ''}`,
        pid: plain.pid, tlsPid: tls.pid, url, tlsUrl: `https://127.0.0.1:${tlsPort}`,
        headers: { ...SCRIPT, cookie: cookies.join('; ') },
        token, algorithm, isOurs: true, binary,
      });
    }
    return subjects;
  }

  #tokensAre(token, less = 0) {
    this.provider.settings.accessTokenFormat = TOKENS[token].format;
    this.provider.settings.accessTokenPadding = TOKENS[token].padding - less;
  }

  async #certificates(binary) {
    await promisify(execFile)(binary, ['dev-cert', 'localhost'], { cwd: this.directory });
    const part = (name) => readFile(join(this.directory, name), 'utf8');
    await writeFile(join(this.directory, 'dev-both.pem'), await part('dev-cert.pem') + await part('dev-key.pem'), { mode: 0o600 });
  }
}

function clientsOf(apachePort, places) {
  const common = { client_secret: CLIENT_SECRET };
  return [
    { ...common, client_id: 'apache', redirect_uris: [`http://127.0.0.1:${apachePort}/signed-in`] },
    ...places.map(({ name, ports: [port] }) => ({
      ...common,
      client_id: name,
      redirect_uris: [`http://127.0.0.1:${port}/auth/callback`],
      post_logout_redirect_uris: [`http://127.0.0.1:${port}/auth/logout/callback`],
    })),
  ];
}

/** JSON of exactly so many bytes that a compressor or a cache would find nothing special in. */
function jsonOf(length) {
  const frame = '{"data":""}';
  return frame.replace('""', `"${randomBytes(length).toString('base64url').slice(0, length - frame.length)}"`);
}

function firstOf(...paths) {
  return paths.find((path) => existsSync(path)) ?? paths[0];
}
