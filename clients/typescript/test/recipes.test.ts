/**
 * The code of `docs/clients.md` is checked as it stands there, file by file, with the compiler's strictest settings.
 *
 * Angular, RxJS and Svelte are no dependencies: `recipes/frameworks.d.ts` stands in for them, and the template of a
 * component is not looked at.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";

const PACKAGE = resolve(import.meta.dirname, "..");
const PAGE = readFileSync(join(PACKAGE, "../../docs/clients.md"), "utf8");

const folder = mkdtempSync(join(tmpdir(), "coatroom-recipes-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(file: string, text: string) {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

/** What the compiler says of all recipes, with `change` made to their text. */
function complaints(change: (code: string) => string = (code) => code): string {
  const files = [...PAGE.matchAll(/^```\w+ file=(\S+)\n(.*?)^```$/gms)];
  for (const [, file = "", code = ""] of files) {
    const script = /<script lang="ts">(.*)<\/script>/s.exec(code)?.[1];
    write(script ? `${file}.ts` : file, change(script ? `${script}\ndeclare const $session: unknown;` : code));
  }
  // The application's own.
  write(
    "vue/router.ts",
    `import type { ProtectedRouter } from "coatroom/vue";
     import type { Plugin } from "vue";
     export declare const router: ProtectedRouter & Plugin;`,
  );
  const { compilerOptions } = JSON.parse(readFileSync(join(PACKAGE, "tsconfig.json"), "utf8"));
  const options = {
    ...compilerOptions,
    module: "esnext",
    moduleResolution: "bundler",
    experimentalDecorators: true,
    noUnusedLocals: false,
    types: [],
    paths: {
      coatroom: [join(PACKAGE, "src/index.ts")],
      "coatroom/*": [join(PACKAGE, "src/*.ts")],
    },
  };
  const include = [".", join(PACKAGE, "test/recipes/frameworks.d.ts")];
  write("tsconfig.json", JSON.stringify({ compilerOptions: options, include }));
  try {
    return execFileSync(join(PACKAGE, "node_modules/.bin/tsc"), ["-p", folder, "--pretty", "false"], {
      encoding: "utf8",
    });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

symlinkSync(join(PACKAGE, "node_modules"), join(folder, "node_modules"));

test("every recipe is correct TypeScript", { timeout: 60_000 }, () => {
  expect(complaints()).toBe("");
});

test("a recipe that uses what is not there is found", { timeout: 60_000 }, () => {
  const found = complaints((code) =>
    code.replaceAll("requireSession", "demandSession").replaceAll("signOut", "logOut"),
  );
  for (const file of ["react/loaders", "react/orders", "vue/app", "angular/requires-session", "svelte/Gate.svelte"]) {
    expect(found).toContain(file);
  }
});
