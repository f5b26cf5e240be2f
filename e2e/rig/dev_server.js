// A rig whose pages come from a real Vite, through Coatroom's `dev_server`.
//
// Vite runs as `npm run dev` would run it, in a copy of the project that the test may edit; it is ended by its id.

import { spawn } from 'node:child_process';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { freePorts } from './ports.js';
import { FOREIGN, Rig, shopConfiguration } from './rig.js';
import { request } from './http.js';
import { Fatal, until, within } from './wait.js';

const E2E = join(import.meta.dirname, '..');
const PROJECT = join(E2E, 'vite');
const VITE = join(E2E, 'node_modules/vite/bin/vite.js');

export class DevServerRig extends Rig {
  /** @param {{withoutDevServer?: boolean}} [options] `startDevServer` starts it later */
  async start({ withoutDevServer = false } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort, vitePort] = await freePorts(4);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.devServerPort = vitePort;
    this.devServer = `http://localhost:${vitePort}`;
    this.prepareProvider({ port: providerPort, redirectUri: `${this.url}/auth/callback`, options: {} });
    await this.startProvider();
    await this.startApi();
    await this.#copyProject();
    if (!withoutDevServer) await this.startDevServer();
    await this.startCoatroom({
      wait: 'ready',
      configuration: shopConfiguration({ rig: this, port, adminPort, pages: { dev_server: this.devServer } }),
    });
  }

  /** The foreign application with a TypeScript entry, one dependency, and a folder to itself. */
  async #copyProject() {
    this.project = join(this.directory, 'vite');
    await cp(PROJECT, this.project, { recursive: true });
    for (const name of ['app.js', 'client.js']) await cp(join(FOREIGN, name), join(this.project, 'src', name));
    const html = await readFile(join(FOREIGN, 'index.html'), 'utf8');
    await writeFile(join(this.project, 'index.html'), html.replace('src="/app.js"', 'src="/src/main.ts"'));
    await writeFile(join(this.project, 'package.json'), '{"private": true, "type": "module"}');
    await mkdir(join(this.project, 'node_modules'));
    await symlink(join(E2E, 'node_modules/picocolors'), join(this.project, 'node_modules/picocolors'));
  }

  async startDevServer() {
    const log = [];
    const child = spawn(process.execPath, [VITE, '--port', String(this.devServerPort), '--strictPort'], {
      cwd: this.project,
      env: { PATH: process.env.PATH, HOME: this.directory, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => log.push(chunk));
    let ended = false;
    const exited = new Promise((done) => {
      child.once('exit', done);
      child.once('error', done);
    }).then(() => { ended = true; });
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    exited.then(() => process.off('exit', orphaned));
    this.onStop(async () => {
      child.kill('SIGTERM');
      await within('vite stops', exited, 5_000).catch(() => child.kill('SIGKILL'));
    });
    await until('vite answers', async () => {
      if (ended) throw new Fatal(`vite ended:\n${Buffer.concat(log)}`);
      // Node's `localhost` is whichever loopback address the system names first; Vite listens there.
      const { status } = await request(`${this.devServer}/@vite/client`, { timeout: 2_000, systemResolver: true });
      return status === 200;
    }, { timeout: 30_000 });
  }

  /** The method, path and headers of every request that arrived at Vite. */
  async seenByDevServer() {
    return (await request(`${this.devServer}/seen`, { systemResolver: true })).json();
  }

  /** Replaces a source file's text, as an editor would. */
  async edit(name, change) {
    const file = join(this.project, 'src', name);
    await writeFile(file, change(await readFile(file, 'utf8')));
  }
}
