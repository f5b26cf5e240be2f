// `node load/figures.js [--starts N] [--requests N] [--sessions N]`: how soon the binary answers after it was started,
// how large it is, and how much memory it holds. Prints a table, judges nothing.
//
// Memory is what the kernel says the process has resident (`VmRSS`), and its peak (`VmHWM`). Times are of this machine
// at this moment: run it when nothing else runs.

import { spawn } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { BINARY } from '../rig/coatroom.js';
import { request } from '../rig/http.js';
import { CLIENT_SECRET, Rig } from '../rig/rig.js';
import { User } from '../rig/user.js';
import { within } from '../rig/wait.js';

const { values } = parseArgs({
  options: {
    starts: { type: 'string', default: '15' },
    requests: { type: 'string', default: '10000' },
    sessions: { type: 'string', default: '100' },
  },
});
const [starts, requests, sessions] = ['starts', 'requests', 'sessions'].map((name) => Number(values[name]));

const rows = [];
const rig = new Rig();
try {
  await rig.start();
  rows.push(['size of the binary', megabytes((await stat(BINARY)).size)]);
  rows.push(['memory after the start', await memory(rig.coatroom.pid)]);
  const users = Array.from({ length: sessions }, (_, index) => new User({ name: `user${index}`, url: rig.url }));
  for (const user of users) await user.signIn();
  rows.push([`memory after ${sessions} sign-ins`, await memory(rig.coatroom.pid)]);
  let left = requests;
  await Promise.all(users.map(async (user) => {
    while (left > 0) {
      left -= 1;
      const { status } = await user.call('/api/orders');
      if (status !== 200) throw new Error(`a call was answered with ${status}`);
    }
  }));
  rows.push([`memory after ${requests} API calls of ${sessions} sessions`, await memory(rig.coatroom.pid)]);
  for (const user of users) user.close();
  await rig.coatroom.stop();

  rows.push(['start to first answer, provider up', milliseconds(await coldStarts(rig))]);
  await rig.provider.close();
  rows.push(['start to first answer, provider down', milliseconds(await coldStarts(rig))]);
} finally {
  await rig.stop();
}
const width = Math.max(...rows.map(([what]) => what.length));
console.log(`${cpus().length} × ${cpus()[0].model.trim()}, Linux, Node ${process.versions.node}`);
for (const [what, figure] of rows) console.log(`${what.padEnd(width)}  ${figure}`);

/** Milliseconds from spawn to the first 200 of the public listener, of each start. */
async function coldStarts(rig) {
  const times = [];
  const file = join(rig.directory, 'coatroom.yaml');
  for (let start = 0; start < starts; start += 1) {
    const startedAt = performance.now();
    const child = spawn(BINARY, ['serve', '--config', file], {
      cwd: rig.directory,
      env: { PATH: process.env.PATH, COATROOM_LOG: 'error', SHOP_CLIENT_SECRET: CLIENT_SECRET },
      stdio: 'ignore',
    });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    try {
      for (let status = 0; status !== 200;) {
        if (performance.now() - startedAt > 20_000) throw new Error('it does not answer');
        status = await request(`${rig.url}/`, { timeout: 2_000 }).then((answer) => answer.status, () => 0);
        if (status !== 200) await pause(1);
      }
      times.push(performance.now() - startedAt);
    } finally {
      child.kill('SIGTERM');
      await within('it ends', exited, 30_000);
    }
  }
  return times;
}

async function memory(pid) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kilobytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)[1]);
  return `${megabytes(kilobytes('VmRSS') * 1_024)} (peak ${megabytes(kilobytes('VmHWM') * 1_024)})`;
}

function megabytes(bytes) {
  return `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

function milliseconds(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  return `median ${median.toFixed(1)} ms of ${sorted.length} (${sorted[0].toFixed(1)} to ${sorted.at(-1).toFixed(1)})`;
}
