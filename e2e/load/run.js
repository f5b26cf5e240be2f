// `node load/run.js [--long] [--users N] [--rate N] [--restarts N] [--keepalive]`: two replicas behind nginx under load while they are
// restarted, their provider is away and their key is replaced. Prints a table; exits with 1 if any call failed or any
// user was signed out.
//
// It shares nothing with anything that runs on this machine: free loopback ports, a temporary folder, its own processes.

import { parseArgs } from 'node:util';

import { ReplicaRig } from '../rig/replica_rig.js';
import { LONG_FORM, SHORT_FORM, rigOptions, runScript, table } from './script.js';

const { values } = parseArgs({
  options: {
    long: { type: 'boolean', default: false },
    users: { type: 'string' },
    rate: { type: 'string' },
    restarts: { type: 'string' },
    keepalive: { type: 'boolean', default: false },
  },
});
const form = { ...(values.long ? LONG_FORM : SHORT_FORM) };
for (const name of ['users', 'rate', 'restarts']) if (values[name]) form[name] = Number(values[name]);

/** nginx keeps connections to the replicas open, which a draining replica has to close at the right moment. */
const withKeepalive = (text) => text
  .replace(/max_fails=0;\n}/, 'max_fails=0;\n  keepalive 32;\n}')
  .replace(/"" +close;/, '"" "";');

const rig = new ReplicaRig();
try {
  await rig.start({ ...rigOptions(form), nginx: values.keepalive ? withKeepalive : undefined });
  const result = await runScript(rig, form, (line) => console.log(`… ${line}`));
  console.log(`\n${table(result, form).join('\n')}`);
  const isGood = result.problem === null && result.account.failed === 0 && result.account.signedOut === 0;
  if (!isGood) console.log(['', ...(await rig.report())].join('\n'));
  process.exitCode = isGood ? 0 : 1;
} finally {
  await rig.stop();
}
