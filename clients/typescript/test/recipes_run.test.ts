// @vitest-environment happy-dom
/** What the samples of `docs/clients.md` and of the README do when nobody is signed in: no traps for those who copy. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import type { FakeCoatroom } from "./fake_coatroom.js";
import { hide, settle } from "./fake_coatroom.js";

const PACKAGE = resolve(import.meta.dirname, "..");
const CLIENTS = readFileSync(join(PACKAGE, "../../docs/clients.md"), "utf8");
const README = readFileSync(join(PACKAGE, "README.md"), "utf8");

// Below the package, since nothing else is served to a test that runs in a page.
const folder = mkdtempSync(join(PACKAGE, ".recipes-"));
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
  hide(false);
});

type Recipe = Record<string, (argument?: unknown) => Promise<unknown>>;

/** The recipe `file` as it stands in the page, with a client of its own that nobody is signed in to. */
async function run(file: string): Promise<{ recipe: Recipe; client: FakeCoatroom }> {
  const code = CLIENTS.split(`file=${file}\n`)[1]?.split("\n```")[0] ?? "";
  const root = mkdtempSync(join(folder, "run-"));
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  write(
    "coatroom.ts",
    `import { FakeCoatroom, signedOut } from "${PACKAGE}/test/fake_coatroom.ts";
     export const coatroom = new FakeCoatroom(signedOut("never"));`,
  );
  write(file, code.replace('"coatroom"', `"${PACKAGE}/src/index.ts"`).replace("/coatroom.js", "/coatroom.ts"));
  const recipe = await import(/* @vite-ignore */ join(root, file));
  const { coatroom } = await import(/* @vite-ignore */ join(root, "coatroom.ts"));
  return { recipe, client: coatroom };
}

const location = { href: "/orders?page=2" };

test("TanStack Router's beforeLoad stays where a link is only pointed at", async () => {
  const { recipe, client } = await run("react/loaders.ts");
  expect(await recipe["beforeLoad"]?.({ location, preload: true })).toEqual({ user: null });
  expect(client.signIns).toEqual([]);
});

test("TanStack Router's beforeLoad leaves where a link was clicked", async () => {
  const { recipe, client } = await run("react/loaders.ts");
  recipe["beforeLoad"]?.({ location, preload: false });
  await settle();
  expect(client.signIns).toEqual([{ returnTo: location.href }]);
});

test("SvelteKit's load stays, since it cannot know whether a link was clicked", async () => {
  const { recipe, client } = await run("svelte/+layout.ts");
  expect(await recipe["load"]?.({ url: new URL("https://app.example/orders") })).toEqual({ user: null });
  expect(client.signIns).toEqual([]);
});

const pages = [
  { name: "docs/clients.md", text: CLIENTS },
  { name: "README.md", text: README },
];
test.each(pages)("each gate that leaves by itself says what is pending, and has a button: $name", ({ text }) => {
  const gates = [...text.matchAll(/<RequireSession\b(.*?)^ +>|<RequireSession\b(.*)>$/gms)].map(
    ([, block, line]) => block ?? line ?? "",
  );
  expect(gates).not.toEqual([]);
  for (const gate of gates.filter((gate) => gate.includes("signIn="))) {
    expect(gate).toContain("pending=");
    if (gate.includes("fallback=")) expect(gate).toMatch(/fallback=\{<button onClick=/);
  }
});

test.each(pages)("no sample steps up without a click: $name", ({ text }) => {
  const stepUps = text.split("\n").filter((line) => line.includes("signIn(error.signIn)"));
  for (const line of stepUps) expect(line).toMatch(/onclick = \(\) =>|onClick=\{\(\) =>/);
});
