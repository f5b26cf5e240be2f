// A screen for what has no headless mode: an X server of the test's own, that nothing outside of this machine can reach.
//
// It takes whatever display is free, and is ended by its id.

import { spawn } from 'node:child_process';

import { within } from '../../rig/wait.js';

const START_TIMEOUT = 15_000;

/** `{display: ':7', stop()}`. */
export async function startScreen() {
  const child = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x960x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const ended = ownProcess(child);
  const display = new Promise((resolve, reject) => {
    let text = '';
    child.stdio[3].on('data', (chunk) => {
      text += chunk;
      if (text.includes('\n')) resolve(`:${text.trim()}`);
    });
    ended.then((how) => reject(new Error(`Xvfb ended (${how})`)));
  });
  return {
    display: await within('Xvfb has a display', display, START_TIMEOUT),
    stop: () => end(child, ended),
  };
}

/** Takes `child` along when this process ends. Resolves with how it ended. */
export function ownProcess(child) {
  const orphaned = () => child.kill('SIGKILL');
  process.once('exit', orphaned);
  return new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? code));
    child.once('error', (error) => done(error.message));
  }).then((how) => {
    process.off('exit', orphaned);
    return how;
  });
}

/** SIGTERM, and SIGKILL if that is not enough. */
export async function end(child, ended) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await within(`process ${child.pid} ends`, ended, 5_000).catch(() => child.kill('SIGKILL'));
  await within(`process ${child.pid} is gone`, ended, 5_000);
}
