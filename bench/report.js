// The report: what was measured as tables, on what and with which versions, as Markdown and as JSON.
//
// It never leaves a run out, and never shows a figure that this run did not measure.

import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { quantile } from './load.js';
import { APACHE, HAPROXY, NGINX } from './servers.js';

const RESULTS = join(import.meta.dirname, 'results');

/** What the figures depend on. */
export async function machine({ subjects, options, seconds }) {
  const has = (id) => subjects.some((subject) => subject.id === id);
  const ours = subjects.filter(({ isOurs }) => isOurs);
  const versions = {
    nginx: await said(NGINX, ['-v'], /nginx\/(\S+)/),
    ...(has('haproxy') && { haproxy: await said(HAPROXY, ['-v'], /version (\S+)/) }),
    ...(has('apache') && {
      apache: await said(APACHE, ['-v'], /Apache\/(\S+)/),
      mod_auth_openidc: await said('dpkg-query', ['-W', '-f', '${Version}', 'libapache2-mod-auth-openidc'], /(\S+)/),
    }),
    wrk: await said('wrk', ['-v'], /wrk (\S+)/),
    h2load: await said('h2load', ['--version'], /nghttp2\/(\S+)/),
    node: process.versions.node,
  };
  for (const { binary: { name, path } } of ours) versions[name] ??= await said(path, ['--version'], /(\S+)\s*$/);
  const system = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    at: new Date().toISOString(),
    // Where a binary lay says nothing to a reader.
    command: ['node bench/run.js', ...process.argv.slice(2).map((text) => text.replace(/\/\S*\//, ''))].join(' '),
    seconds,
    rounds: options.rounds,
    cpu: `${cpus()[0].model} × ${cpus().length}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(system)?.[1] ?? 'unknown',
    commit: await said('git', ['-C', RESULTS, 'rev-parse', '--short', 'HEAD'], /(\S+)/),
    load: (await readFile('/proc/loadavg', 'utf8')).split(' ').slice(0, 3).join(' '),
    versions,
  };
}

export function report({ subjects, workloads, results, idle, facts, probes }) {
  const whole = (x) => Math.round(x).toLocaleString('en');
  const requests = results.reduce((sum, result) => sum + result.requests, 0);
  const sections = [
    `# Coatroom and its peers, ${facts.at.slice(0, 10)}`,
    [
      `One run of \`${facts.command}\`, ${facts.seconds} s: ${facts.rounds} interleaved rounds; the median of the rounds, and in brackets their least and most.`,
      'Ratios are to bare nginx of the same round; they hold, absolute figures drift with the machine.',
      ...(results.length > 0 ? [`All ${whole(requests)} measured requests were answered with 2xx by the API behind the server.`] : []),
    ].join('\n'),
  ];
  const perWorkload = (chosen, numbers, show) => table(['', ...chosen.map(({ title }) => title)], subjects.map((subject) => [
    subject.title, ...chosen.map((workload) => cell(numbers(workload.id, subject.id), show)),
  ]));
  if (workloads.length > 0) {
    sections.push(
      '## CPU of the proxy per request, ratio to bare nginx',
      'User and system time of all threads and processes of the server, divided by the requests that it completed.',
      perWorkload(workloads, (workload, subject) => ratios(results, workload, subject, 'cpu'), (x) => x.toFixed(2)),
      'In microseconds:',
      perWorkload(workloads, (workload, subject) => values(results, workload, subject, 'cpu'), micro),
    );
  }
  const unpaced = workloads.filter(({ rate }) => !rate);
  if (unpaced.length > 0) {
    sections.push('## Requests per second', perWorkload(unpaced, (workload, subject) => values(results, workload, subject, 'perSecond'), whole));
  }
  const paced = workloads.filter(({ rate }) => rate);
  for (const { id, rate } of paced) {
    sections.push(
      `## Latency of one call at a time, ${rate} a second`,
      'One connection; microseconds.',
      table(['', 'median', 'ratio to bare nginx', '99th percentile'], subjects.filter((subject) => values(results, id, subject.id, 'median').length > 0).map((subject) => [
        subject.title,
        cell(values(results, id, subject.id, 'median'), micro),
        cell(ratios(results, id, subject.id, 'median'), (x) => x.toFixed(2)),
        cell(values(results, id, subject.id, 'p99'), micro),
      ])),
    );
  }
  if (idle.length > 0) {
    const kb = (bytes) => (bytes / 1024).toFixed(1);
    sections.push(
      `## Memory of an idle connection, KB, with ${idle[0].connections.toLocaleString('en')} of them open`,
      'Memory of the server\'s processes; the kernel\'s part is the same for all.',
      table(['', 'never used', 'after one request', 'the server before, MB'], idle.map((result) => [
        subjects.find(({ id }) => id === result.subject).title, kb(result.neverUsed), kb(result.afterRequest), kb(result.base / 1024),
      ])),
    );
  }
  if (results.some(({ instructions }) => instructions !== undefined)) {
    sections.push('## Instructions per request', perWorkload(workloads, (workload, subject) => values(results, workload, subject, 'instructions'), whole));
  }
  sections.push(
    '## On what',
    table(['', ''], [
      ['processor', facts.cpu], ['memory', facts.memory], ['kernel', facts.kernel], ['system', facts.system],
      ['load average at the end', facts.load], ['commit', facts.commit],
      ...Object.entries(facts.versions).map(([name, version]) => [name, version]),
      ...subjects.filter(({ token }) => token).map(({ id, title }) => [title, `token ${probes[id].token} bytes, \`Cookie\` ${probes[id].cookie} bytes`]),
    ]),
  );
  return `${sections.join('\n\n')}\n`;
}

/** @returns the path of the Markdown page */
export async function write(name, text, data) {
  await mkdir(RESULTS, { recursive: true });
  const page = join(RESULTS, `${name}.md`);
  await writeFile(page, text);
  await writeFile(join(RESULTS, `${name}.json`), `${JSON.stringify(data, null, 1)}\n`);
  return page;
}

function values(results, workload, subject, field) {
  return results
    .filter((result) => result.workload === workload && result.subject === subject && result[field] !== undefined)
    .map((result) => result[field]);
}

/** To bare nginx of the same round. */
function ratios(results, workload, subject, field) {
  return results
    .filter((result) => result.workload === workload && result.subject === subject)
    .map((result) => {
      const base = results.find((other) => other.workload === workload && other.round === result.round && other.subject === 'nginx');
      return base ? result[field] / base[field] : NaN;
    })
    .filter(Number.isFinite);
}

/** The median and the spread. */
function cell(numbers, show) {
  if (numbers.length === 0) return '–';
  const sorted = [...numbers].sort((a, b) => a - b);
  const [median, least, most] = [show(middle(sorted)), show(sorted[0]), show(sorted.at(-1))];
  return least === most ? median : `**${median}** (${least}–${most})`;
}

function middle(sorted) {
  const half = sorted.length / 2;
  return Number.isInteger(half) ? (sorted[half - 1] + sorted[half]) / 2 : quantile(sorted, 0.5);
}

function micro(x) {
  return x < 100 ? x.toFixed(1) : Math.round(x).toLocaleString('en');
}

function table(heads, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(heads), `|${heads.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

async function said(program, parameters, pattern) {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, parameters, { timeout: 10_000 });
    return pattern.exec(stdout + stderr)?.[1] ?? 'unknown';
  } catch (error) {
    // wrk says its version and then that it was called wrongly.
    return pattern.exec(`${error.stdout ?? ''}${error.stderr ?? ''}`)?.[1] ?? 'unknown';
  }
}
