// Servers with parsers of their own, each of which logs the messages that it read: Node.js, Python and nginx.
//
// Each answers 200, or 400 to a WebSocket, and knows nothing of Coatroom. A message is logged once it came to its end;
// what breaks off is not.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';

import { Fatal, until, within } from '../wait.js';

const STOP_TIMEOUT = 5_000;

/**
 * What every upstream here has: its `name`; `refuses`, the methods that it does not know; `start`, which answers
 * `{log, stop}`, where `log` has `METHOD target`, or `METHOD target=body`, of each message so far.
 */
export const UPSTREAMS = [
  { name: 'Node.js', refuses: /^(get|iGET) /, start: startNode },
  { name: 'Python', refuses: /^$/, start: startPython },
  { name: 'nginx', refuses: /^(get|iGET) /, start: startNginx },
];

async function startNode({ port }) {
  const log = [];
  const server = createServer({ maxHeaderSize: 256 * 1024, insecureHTTPParser: false }, (request, response) => {
    const body = [];
    request.on('data', (chunk) => body.push(chunk));
    request.on('end', () => {
      log.push(summary(`${request.method} ${request.url}`, Buffer.concat(body).toString('latin1')));
      response.statusCode = request.headers.upgrade ? 400 : 200;
      response.end('ok');
    });
    // a client that breaks off is no reason to stop
    request.on('error', () => {});
  });
  server.maxHeadersCount = 0;
  await new Promise((done, failed) => server.once('error', failed).listen(port, '127.0.0.1', done));
  return {
    log: async () => log,
    stop: () => new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
    }),
  };
}

async function startPython({ port }) {
  const lines = [];
  const child = child_('python3', ['-u', join(import.meta.dirname, 'upstream.py'), `${port}`], (chunk) => lines.push(chunk));
  await listens(port, child);
  return {
    log: async () => Buffer.concat(lines).toString('utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line))
      .map(({ line, body }) => summary(line, body)),
    stop: child.stop,
  };
}

async function startNginx({ port, directory }) {
  const binary = process.env.NGINX_BIN ?? ['/usr/sbin/nginx', '/usr/bin/nginx'].find((path) => existsSync(path)) ?? 'nginx';
  const folder = join(directory, 'nginx-upstream');
  await mkdir(join(folder, 'temporary'), { recursive: true });
  const file = join(folder, 'nginx.conf');
  await writeFile(file, nginxConfiguration({ folder, port }));
  const child = child_(binary, ['-p', folder, '-c', file, '-e', 'stderr'], () => {});
  await listens(port, child);
  return {
    log: async () => (await readFile(join(folder, 'messages.log'), 'utf8')).split('\n').slice(0, -1)
      .map((line) => JSON.parse(line))
      // it asks the second server once it has read all of a message
      .filter(({ status }) => status !== '')
      .map(({ line, body }) => summary(line, body)),
    stop: child.stop,
  };
}

const nginxConfiguration = ({ folder, port }) => `
daemon off;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr crit;
events { worker_connections 256; }
http {
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/temporary;`).join('\n  ')}
  log_format message escape=json '{"line":"$request_method $request_uri","body":"$request_body","status":"$upstream_status"}';
  map $http_upgrade $answer { default 400; '' 200; }
  server {
    listen 127.0.0.1:${port};
    access_log ${folder}/messages.log message;
    large_client_header_buffers 8 128k;
    client_body_buffer_size 1m;
    client_body_in_single_buffer on;
    location / {
      proxy_pass http://unix:${folder}/answers.sock:/$answer;
      proxy_method GET;
      proxy_pass_request_headers off;
      proxy_pass_request_body off;
      proxy_set_header Content-Length '';
    }
  }
  server {
    listen unix:${folder}/answers.sock;
    access_log off;
    location = /200 { return 200 ok; }
    location = /400 { return 400 no; }
  }
}
`;

/** A process that is ended by its id, and goes when the tests go. */
function child_(command, args, onOutput) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const errors = [];
  child.stdout.on('data', onOutput);
  child.stderr.on('data', (chunk) => errors.push(chunk));
  const state = { ended: undefined, errors: () => Buffer.concat(errors).toString('utf8') };
  const exited = new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? code));
    child.once('error', (error) => done(error.message));
  });
  const orphaned = () => child.kill('SIGKILL');
  process.once('exit', orphaned);
  exited.then((how) => {
    state.ended = how;
    process.off('exit', orphaned);
  });
  state.stop = async () => {
    if (state.ended !== undefined) return;
    child.kill('SIGTERM');
    await within(`${command} stops`, exited, STOP_TIMEOUT).catch(() => child.kill('SIGKILL'));
    await within(`${command} is gone`, exited, STOP_TIMEOUT);
  };
  return state;
}

async function listens(port, child) {
  try {
    await until('the upstream listens', () => {
      if (child.ended !== undefined) throw new Fatal(`it ended (${child.ended}): ${child.errors()}`);
      return new Promise((done, failed) => {
        const socket = connect({ port, host: '127.0.0.1' }, () => {
          socket.destroy();
          done(true);
        });
        socket.once('error', failed);
      });
    });
  } catch (error) {
    await child.stop();
    throw error;
  }
}

const summary = (line, body) => (body === '' ? line : `${line}=${body}`);
