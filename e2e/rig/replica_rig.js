// A rig with two replicas of one configuration and one key behind nginx, which gives each request to the next replica:
// no sticky sessions. In front of the provider and of the API stand proxies that can break them.
//
// Each replica is a process with a folder, ports and counters of its own; they share the key files and nothing else.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { startChaos } from './chaos.js';
import { makeKey, startCoatroom } from './coatroom.js';
import { request } from './http.js';
import { counted } from './metrics.js';
import { SERVED_BY, startNginx } from './nginx.js';
import { freePorts } from './ports.js';
import { CLIENT_SECRET, FOREIGN, Rig } from './rig.js';
import { User } from './user.js';
import { until } from './wait.js';

/** A path that no application uses: a request for it only moves the balancer one replica on. */
const STEP = '/step-of-the-balancer';

export class ReplicaRig extends Rig {
  /**
   * @param {object} [options]
   * @param {object} [options.session] the configuration's `session`
   * @param {object} [options.provider] options of the demo's provider
   * @param {object} [options.providerSettings] further settings of the configuration's `provider`
   * @param {(text: string) => string} [options.nginx] last word on nginx's configuration
   * @param {object} [options.route] further settings of the API's route
   */
  async start({
    session = { store: 'cookie', idle: '30m', absolute: '12h' }, provider = {}, providerSettings = {}, route = {}, nginx,
  } = {}) {
    await this.prepare();
    const [port, issuerPort, providerPort, apiPort, ...ports] = await freePorts(8);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.issuer = `http://127.0.0.1:${issuerPort}`;
    this.prepareProvider({
      port: issuerPort,
      redirectUri: `${this.url}/auth/callback`,
      options: {
        issuer: this.issuer,
        configure: (configuration) => this.#keepWhatItKnew(configuration),
        ...provider,
        port: providerPort,
      },
    });
    await this.startProvider();
    this.chaos = await startChaos({ port: issuerPort, target: providerPort });
    this.onStop(() => this.chaos.stop());
    await this.startApi();
    /** In front of the API, as `chaos` is in front of the provider. */
    this.apiChaos = await startChaos({ port: apiPort, target: this.api.port });
    this.onStop(() => this.apiChaos.stop());
    await makeKey(join(this.directory, 'first.key'));
    await cp(FOREIGN, join(this.directory, 'pages'), { recursive: true });

    this.settings = {
      keys: ['first.key'],
      provider: { ...this.providerConfiguration(), ...providerSettings },
      session,
      routes: {
        '/api/': { upstream: `http://127.0.0.1:${apiPort}`, strip_prefix: true, ...route },
        '/': { static: '../pages' },
      },
    };
    this.replicas = [];
    for (const [index, name] of ['first', 'second'].entries()) {
      const directory = join(this.directory, name);
      await mkdir(directory);
      this.replicas.push(new Replica({ rig: this, name, directory, port: ports[2 * index], adminPort: ports[2 * index + 1] }));
    }
    await Promise.all(this.replicas.map((replica) => replica.start()));
    this.nginx = await startNginx({
      directory: this.directory, port, replicas: this.replicas.map(({ address }) => address), configure: nginx,
    });
    this.onStop(() => this.nginx.stop());
  }

  /** What a replica's coatroom.yaml says. `settings` may change between two starts or reloads. */
  configurationOf({ address, adminAddress }) {
    const { keys, provider, session, routes } = this.settings;
    return {
      listen: address,
      admin: adminAddress,
      keys: keys.map((name) => ({ file: `../${name}` })),
      apps: { shop: { url: this.url, provider, session, routes } },
    };
  }

  /**
   * Moves the balancer until `replica` is the one that gets the next request. Whoever steers must be the only one who
   * asks meanwhile.
   */
  async steerTo(replica) {
    await until(`the balancer is at the ${replica.name} replica`, async () => {
      const { headers } = await request(`${this.url}${STEP}`);
      return headers[SERVED_BY].split(', ').at(-1) !== replica.address;
    }, { every: 10 });
  }

  /**
   * The provider again, with everything that it knew but other signing keys, at another port behind the proxy. The old
   * keys are published no more.
   */
  async replaceProviderKeys() {
    const [target] = await freePorts(1);
    await this.startProvider({ port: target, configure: (configuration) => this.#keepWhatItKnew(configuration, newKeys()) });
    this.chaos.target = target;
  }

  /** Every provider of this rig is one and the same to its users: the first one's records and cookie keys. */
  #keepWhatItKnew(configuration, jwks) {
    this.#kept ??= { adapter: configuration.adapter, cookies: configuration.cookies };
    return { ...configuration, ...this.#kept, ...(jwks && { jwks }) };
  }

  #kept;

  other(replica) {
    return this.replicas.find((candidate) => candidate !== replica);
  }

  /** A user without a browser. Closed at the end. */
  user(name, options = {}) {
    const user = new User({ name, url: this.url, ...options });
    this.onStop(async () => user.close());
    return user;
  }

  async report() {
    const logs = this.replicas?.flatMap(({ name, log }) => [`— ${name} replica —`, ...log().trimEnd().split('\n').slice(-25)]);
    const balancer = ['— nginx —', ...(this.nginx?.errors() ?? '').trimEnd().split('\n').slice(-10)];
    return [...(logs ?? []), ...balancer, ...(await super.report())];
  }
}

function newKeys() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: `rsa-${randomUUID()}`, use: 'sig' }] };
}

/** One process of several, of a rig that has `onStop`, `configurationOf`, and perhaps an `environment`. */
export class Replica {
  #rig;
  #process;
  #logs = [];

  constructor({ rig, name, directory, port, adminPort }) {
    this.#rig = rig;
    this.name = name;
    this.directory = directory;
    this.address = `127.0.0.1:${port}`;
    this.adminAddress = `127.0.0.1:${adminPort}`;
    this.admin = `http://${this.adminAddress}`;
    rig.onStop(() => this.#process?.stop());
  }

  /** Starts it with the rig's settings of now, and waits until it is ready (or only alive). */
  async start(wait = 'ready') {
    this.#process = await startCoatroom({
      directory: this.directory,
      configuration: this.#rig.configurationOf(this),
      secrets: { SHOP_CLIENT_SECRET: CLIENT_SECRET, ...this.#rig.environment },
      wait,
    });
    this.#logs.push(this.#process.log);
  }

  /** SIGTERM, until it is gone: the exit code. */
  terminate() {
    return this.#process.terminate();
  }

  signal(name) {
    this.#process.signal(name);
  }

  /** SIGKILL, until it is gone. */
  kill() {
    this.#process.signal('SIGKILL');
    return this.#process.gone();
  }

  async restart(wait = 'ready') {
    const code = await this.terminate();
    await this.start(wait);
    return code;
  }

  get pid() {
    return this.#process.pid;
  }

  /** Everything it wrote, over all its starts. */
  log = () => this.#logs.map((log) => log()).join('');

  /** Answers of one agent endpoint since its start. */
  answers(endpoint, labels = {}) {
    return counted(this, 'coatroom_agent_answers_total', { endpoint, ...labels });
  }

  /** Proxied and static requests since its start. */
  requests(route) {
    return counted(this, 'coatroom_requests_total', { route });
  }
}
