// The JOSE library that oidc-provider brings along, for tests that sign, verify and decrypt without Coatroom's code.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const found = createRequire(new URL('../../demo/provider.js', import.meta.url)).resolve('jose');
export const jose = await import(pathToFileURL(found));
