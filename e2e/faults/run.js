// `node faults/run.js [--store NAME]… [--only WORDS] [--dry]`: every fault of every store (or of those named), one line
// each, JSON into faults/results, and the tables of docs/outages.md. It exits with 1 when somebody was signed out who
// must not be, or something did not recover.
//
// `--only` runs the faults whose name has these words; that and `--dry` write nothing.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Fleet } from '../rig/fleet.js';
import { STORES, isInstalled } from '../rig/stores.js';
import { FLEET, faultsOf, observe } from './matrix.js';
import { RESULTS, tableOf, writePage } from './table.js';

const { values } = parseArgs({
  options: {
    store: { type: 'string', multiple: true },
    only: { type: 'string' },
    dry: { type: 'boolean', default: false },
  },
});
const isDry = values.dry || values.only !== undefined;
await mkdir(RESULTS, { recursive: true });
for (const store of values.store ?? ['cookie', ...Object.keys(STORES).filter(isInstalled)]) {
  const rows = await run(store);
  console.log(`\n${store}\n\n${tableOf(rows).join('\n')}\n`);
  if (rows.some(({ problems }) => problems.length > 0)) process.exitCode = 1;
  if (!isDry) await writeFile(join(RESULTS, `${store}.json`), `${JSON.stringify({ store, rows })}\n`);
}
if (!isDry) await writePage();

// A connection that a fault left half open would keep this process for ever.
process.exit();

async function run(store) {
  const fleet = new Fleet();
  const rows = [];
  try {
    await fleet.start({ ...FLEET, store, replicas: store === 'sqlite' ? 1 : 2 });
    for (const [index, fault] of faultsOf(fleet).entries()) {
      const name = `${fault.at} ${fault.name}`;
      if (values.only && !name.includes(values.only)) continue;
      const row = await observe(fleet, fault, index);
      console.error(`… ${store}: ${name}: ${row.problems.join('; ') || 'as it has to be'}`);
      rows.push(row);
    }
    if (rows.some(({ problems }) => problems.length > 0)) console.error((await fleet.report()).join('\n'));
    return rows;
  } finally {
    await fleet.stop();
  }
}
