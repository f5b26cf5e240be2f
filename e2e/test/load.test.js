// Two replicas behind nginx under load while they are restarted, their provider is away, their key is replaced and their
// configuration changes: no call fails and nobody is signed out. The long form is `node load/run.js --long`.
//
// It retries nothing that a client may not retry, and forgives no failure.

import assert from 'node:assert/strict';

import { SHORT_FORM, rigOptions, runScript, table } from '../load/script.js';
import { ReplicaRig } from '../rig/replica_rig.js';
import { scenario } from '../rig/rig.js';

scenario('under load nobody notices restarts, an outage, a rotation or a reload', { Rig: ReplicaRig, ...rigOptions(SHORT_FORM) }, async (rig, t) => {
  const result = await runScript(rig, SHORT_FORM, () => {});
  for (const line of table(result, SHORT_FORM)) t.diagnostic(line);
  assert.equal(result.problem, null);
  assert.deepEqual(result.account.failures, []);
  assert.equal(result.account.failed, 0);
  assert.equal(result.account.signedOut, 0);
  assert.ok(result.account.calls > 2_000, `${result.account.calls} calls`);
  assert.ok(result.account.deferredAndSucceeded >= SHORT_FORM.users, 'the outage put everybody off');
});
