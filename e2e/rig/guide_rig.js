// A rig that follows `docs/getting-started.md`: the page's files in a fresh Vite application, the page's commands in a
// shell, and the client library as npm packs it.
//
// It changes nothing of the page but addresses, each of which has to be there exactly once. What `npm create` would
// download is written here as create-vite writes it, and what `npm install` would download is linked. Nothing of it
// reaches a network.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { BINARY } from './coatroom.js';
import { request } from './http.js';
import { freePorts } from './ports.js';
import { CLIENT_SECRET, Rig } from './rig.js';
import { Fatal, until, within } from './wait.js';

const E2E = join(import.meta.dirname, '..');
const GUIDE = join(E2E, '../docs/getting-started.md');
const LIBRARY = join(E2E, '../clients/typescript');
const COMMAND_TIMEOUT = 60_000;

export class GuideRig extends Rig {
  /** @param {{template?: 'vanilla-ts' | 'react-ts'}} [options] what `npm create vite` was asked for */
  async start({ template = 'vanilla-ts' } = {}) {
    await this.prepare();
    this.blocks = blocksOf(await readFile(GUIDE, 'utf8'));
    const [port, adminPort, providerPort, vitePort] = await freePorts(4);
    this.url = `http://localhost:${port}`;
    this.appUrl = this.url;
    this.vitePort = vitePort;
    this.adminPort = adminPort;
    this.prepareProvider({ port: providerPort, redirectUri: `${this.url}/auth/callback`, options: {} });
    await this.startProvider();
    await this.startApi();

    this.project = join(this.directory, 'shop');
    this.#environment = {
      PATH: `${join(this.directory, 'bin')}:${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: this.directory,
      NO_COLOR: '1',
      SHOP_CLIENT_SECRET: CLIENT_SECRET,
      // The ports that the page leaves to the defaults.
      COATROOM__LISTEN: `127.0.0.1:${port}`,
      COATROOM__ADMIN: `127.0.0.1:${adminPort}`,
    };
    await mkdir(join(this.directory, 'bin'));
    await symlink(BINARY, join(this.directory, 'bin/coatroom'));
    await this.#createVite(template);
    await this.#installLibrary();
    await this.#link(template);

    const belongs = (file) => file === 'coatroom.yaml' || file.endsWith('.tsx') === (template === 'react-ts');
    for (const { file, text } of this.blocks) {
      if (file && belongs(file)) await this.write(file, this.#withAddresses(file, text));
    }
  }

  #environment;

  /** The page's commands that end by themselves, up to the build. */
  async runCommands() {
    const commands = this.blocks.filter(({ run }) => run === true);
    assert.ok(commands.length > 0, 'the page has commands');
    for (const { text } of commands) await this.run(text);
  }

  /** The text of the one block whose info string has `name` as `value`. */
  block(name, value) {
    const found = this.blocks.filter((block) => block[name] === value);
    assert.equal(found.length, 1, `one block with ${name}=${value} on the page`);
    return found[0].text;
  }

  async write(file, text) {
    await writeFile(join(this.project, file), text);
  }

  /** Runs the page's commands in the project's folder; throws with their output unless they succeed. */
  async run(command) {
    try {
      const { stdout } = await promisify(execFile)('/bin/sh', ['-ec', command], {
        cwd: this.project, env: this.#environment, timeout: COMMAND_TIMEOUT,
      });
      return stdout;
    } catch (error) {
      error.message += `\n${error.stdout}${error.stderr}`;
      throw error;
    }
  }

  /** `npm run dev`, with a port of its own. */
  startVite() {
    const command = `${this.block('run', 'vite').trim()} -- --port ${this.vitePort} --strictPort`;
    return this.#serve(command, `http://localhost:${this.vitePort}/@vite/client`);
  }

  startServing() {
    return this.#serve(this.block('run', 'coatroom'), `http://127.0.0.1:${this.adminPort}/readyz`);
  }

  /** Starts what runs until the rig stops, and waits for a 200 at `probe`. */
  async #serve(command, probe) {
    const log = [];
    // A group of its own: npm does not pass every signal on to what it started.
    const child = spawn('/bin/sh', ['-ec', command], {
      cwd: this.project, env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'], detached: true,
    });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => log.push(chunk));
    let ended = false;
    const exited = new Promise((done) => {
      child.once('exit', done);
      child.once('error', done);
    }).then(() => { ended = true; });
    const end = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    };
    const orphaned = () => end('SIGKILL');
    process.once('exit', orphaned);
    this.onStop(async () => {
      end('SIGTERM');
      await within(`${command} stops`, exited, 5_000).catch(() => {});
      end('SIGKILL');
      process.off('exit', orphaned);
    });
    await until(`${command} answers`, async () => {
      if (ended) throw new Fatal(`it ended:\n${Buffer.concat(log)}`);
      const { status } = await request(probe, { timeout: 2_000, systemResolver: true });
      return status === 200;
    }, { timeout: 30_000 });
  }

  /** What the page names as examples becomes this rig's. */
  #withAddresses(file, text) {
    if (file !== 'coatroom.yaml') return text;
    const addresses = [
      ['http://localhost:8080', this.url],
      ['https://login.example.com', this.issuer],
      ['http://127.0.0.1:5000', this.api.url],
      ['http://localhost:5173', `http://localhost:${this.vitePort}`],
    ];
    return addresses.reduce((changed, [written, ours]) => {
      assert.equal(changed.split(written).length, 2, `${written} is in ${file} once`);
      return changed.replace(written, ours);
    }, text);
  }

  /** What create-vite 8 makes, as far as the page does not replace it. */
  async #createVite(template) {
    const isReact = template === 'react-ts';
    await mkdir(join(this.project, 'src'), { recursive: true });
    await this.write('package.json', JSON.stringify({
      name: 'shop', private: true, version: '0.0.0', type: 'module', scripts: { dev: 'vite', build: 'tsc && vite build', preview: 'vite preview' },
    }));
    await this.write('tsconfig.json', JSON.stringify({
      compilerOptions: {
        target: 'ES2023', module: 'ESNext', lib: ['ES2023', 'DOM', 'DOM.Iterable'], types: ['vite/client'], skipLibCheck: true,
        moduleResolution: 'bundler', allowImportingTsExtensions: true, verbatimModuleSyntax: true, moduleDetection: 'force', noEmit: true,
        strict: true, noUnusedLocals: true, noUnusedParameters: true, erasableSyntaxOnly: true, noFallthroughCasesInSwitch: true,
        ...(isReact && { jsx: 'react-jsx' }),
      },
      include: ['src'],
    }));
    if (!isReact) return;
    await this.write('index.html', '<!doctype html>\n<title>shop</title>\n<div id="root"></div>\n<script type="module" src="/src/main.tsx"></script>\n');
  }

  /** As npm packs and installs it: what is not in the package's `files` and `exports` is not there. */
  async #installLibrary() {
    if (!existsSync(join(LIBRARY, 'dist/index.js'))) throw new Error(`build ${LIBRARY} first: npm ci && npm run build`);
    const packed = await this.run(`npm pack --silent --pack-destination '${this.directory}' '${LIBRARY}'`);
    await this.run(`npm install --silent --offline --no-audit --no-fund '../${packed.trim()}'`);
    assert.ok(!existsSync(join(this.project, 'node_modules/coatroom/node_modules')), 'the library has no dependencies');
  }

  /** What the template's own `npm install` brings. */
  async #link(template) {
    const modules = join(this.project, 'node_modules');
    await rm(join(modules, '.bin'), { recursive: true, force: true });
    await mkdir(join(modules, '.bin'));
    const bins = [['vite', join(E2E, 'node_modules/vite/bin/vite.js')], ['tsc', join(LIBRARY, 'node_modules/.bin/tsc')]];
    for (const [name, target] of bins) await symlink(target, join(modules, '.bin', name));
    await symlink(join(E2E, 'node_modules/vite'), join(modules, 'vite'));
    if (template !== 'react-ts') return;
    await mkdir(join(modules, '@types'));
    for (const name of ['react', 'react-dom', 'scheduler', 'csstype', '@types/react', '@types/react-dom']) {
      await symlink(join(LIBRARY, 'node_modules', name), join(modules, name));
    }
  }
}

/** The fenced blocks of a page: `{language, text}` and what else the info string says, such as `file=src/main.ts`. */
function blocksOf(markdown) {
  return [...markdown.matchAll(/^```(\w+)(.*)\n([^]*?)^```$/gm)].map(([, language, info, text]) => ({
    language,
    text,
    ...Object.fromEntries(info.trim().split(/\s+/).filter(Boolean).map((word) => {
      const [name, value = true] = word.split('=');
      return [name, value];
    })),
  }));
}
