// How many instructions the core spends on one API call, counted by valgrind, against the budget of `budget.json`.
// `node bench/instructions.js` fails when one of the counts is more than 5 % over its budget; `--write` renews it.
//
// Counts are the same at each run of one binary, whatever else the machine does: what times on a shared machine cannot
// show. They depend on the compiler and the kind of processor, so the budget names both. It never measures a time.

import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..');
const BUDGET = join(import.meta.dirname, 'budget.json');
const TOKENS = ['43b', '1.2k', '3.5k'];
const CALLS = 200;
const TOLERANCE = 0.05;

const isWrite = process.argv.includes('--write');
const program = await build();
const compiler = (await run('rustc', ['--version'])).stdout.trim();
const counted = {};
for (const token of TOKENS) {
  const [calls, prepared] = await Promise.all(['count', 'prepare'].map((what) => instructions([program, what, token, String(CALLS)])));
  counted[token] = Math.round((calls - prepared) / CALLS);
}

const budgets = existsSync(BUDGET) ? JSON.parse(await readFile(BUDGET, 'utf8')) : {};
const budget = budgets[process.arch];
for (const token of TOKENS) {
  const allowed = budget?.instructions[token];
  const change = allowed ? `, budget ${allowed.toLocaleString('en')}, ${percent(counted[token] / allowed - 1)}` : '';
  console.log(`one call with a token of ${token}: ${counted[token].toLocaleString('en')} instructions${change}`);
}
if (isWrite) {
  budgets[process.arch] = { compiler, instructions: counted };
  await writeFile(BUDGET, `${JSON.stringify(budgets, null, 2)}\n`);
  console.log('written: bench/budget.json');
} else if (!budget) {
  console.log(`bench/budget.json has no budget for ${process.arch}: nothing to compare with\nhint: make bench-instructions BUDGET=write`);
} else {
  const over = TOKENS.filter((token) => !(counted[token] <= budget.instructions[token] * (1 + TOLERANCE)));
  const under = TOKENS.filter((token) => counted[token] < budget.instructions[token] * (1 - TOLERANCE));
  if (budget.compiler !== compiler) console.log(`the budget was written with ${budget.compiler}, this is ${compiler}`);
  if (under.length > 0) console.log(`cheaper than the budget by more than 5 %: ${under.join(', ')}\nhint: make bench-instructions BUDGET=write`);
  if (over.length > 0) {
    console.error(`dearer than the budget by more than 5 %: ${over.join(', ')}\nhint: if that is the price of something worth it, make bench-instructions BUDGET=write, and say so in the commit`);
    process.exitCode = 1;
  }
}

/** Builds the bench and answers where its program is. */
async function build() {
  const child = spawn('cargo', ['bench', '--locked', '-p', 'coatroom-core', '--bench', 'hot_path', '--no-run', '--message-format=json'], {
    cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'],
  });
  const chunks = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  const code = await new Promise((done) => child.once('close', done));
  if (code !== 0) process.exit(1);
  const messages = Buffer.concat(chunks).toString('utf8').trim().split('\n').map((line) => JSON.parse(line));
  return messages.find(({ executable, target }) => executable && target.name === 'hot_path').executable;
}

/** What valgrind counts for a whole run of `command`, start and end included. */
async function instructions(command) {
  const { stderr } = await run('valgrind', ['--tool=callgrind', '--callgrind-out-file=/dev/null', ...command], {
    env: { PATH: process.env.PATH }, timeout: 120_000,
  });
  const total = Number(/Collected : (\d+)/.exec(stderr)?.[1]);
  if (!(total > 0)) throw new Error(`valgrind counted nothing: ${stderr}`);
  return total;
}

function percent(share) {
  return `${share < 0 ? '−' : '+'}${(Math.abs(share) * 100).toFixed(1)} %`;
}
