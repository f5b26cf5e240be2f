// Which engines this machine has. A missing one is a skipped test that names the package, and no failure.
//
// It also shows that an engine refuses a certificate that it was not told of: else the other scenarios would show less.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { makeCertificates } from '../../rig/certificates.js';
import { startPages } from '../../rig/pages.js';
import { ENGINES, eachEngine } from '../engine_rig.js';

for (const engine of ENGINES) {
  const missing = engine.missing();
  if (missing) test(`${engine.name} is not tested: ${missing} is not installed`, { skip: true }, () => {});
}

eachEngine('a certificate of another authority is refused', { replicas: 1 }, async (rig, t) => {
  t.diagnostic(`${rig.browser.name} ${rig.browser.version}`);
  const elsewhere = join(rig.directory, 'elsewhere');
  await mkdir(elsewhere);
  const { key, cert } = await makeCertificates(elsewhere, ['shop.app.localhost']);
  const pages = await startPages('<title>Impostor</title>', { key, cert });
  rig.onStop(() => pages.close());
  const tab = await rig.tab();
  // Some drivers tell by an exception, some show a page of their own.
  await tab.goto(`https://shop.app.localhost:${new URL(pages.url).port}/`).catch(() => {});
  // What is there instead is another document, in some engines a little later.
  const shown = await tab.until('there is a document', () => tab.evaluate(() => [document.title]));
  assert.notEqual(shown[0], 'Impostor');
});
