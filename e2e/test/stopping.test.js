// SIGTERM: what is in flight is finished, nothing new is taken, and the process ends well.
//
// This file never kills a process but the one that it started.

import assert from 'node:assert/strict';

import { request } from '../rig/http.js';
import { scenario } from '../rig/rig.js';
import { until } from '../rig/wait.js';

scenario('a request in flight is answered after SIGTERM, and the process exits with 0', {}, async (rig) => {
  const page = await rig.openSignedIn();
  const slow = page.evaluate(async () => {
    const response = await fetch('/api/slow', { headers: { 'token-handler-version': '1' } });
    return { status: response.status, body: await response.json() };
  });
  await until('the API has the request', async () => rig.api.requests.some(({ url }) => url.startsWith('/slow')));
  const stopped = rig.coatroom.terminate();
  await until('readiness says that it drains', async () => {
    const { status } = await request(`${rig.coatroom.admin}/readyz`, { timeout: 1_000 }).catch(() => ({ status: 503 }));
    return status === 503;
  });
  const answer = await slow;
  assert.equal(answer.status, 200);
  assert.ok(answer.body.slept_milliseconds > 0);
  assert.equal(await stopped, 0);
  assert.match(rig.coatroom.log(), /stopping/);
});
