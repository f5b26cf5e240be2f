import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

test("the README's examples compile", { timeout: 60_000 }, () => {
  const page = readFileSync(`${root}/README.md`, "utf8");
  const blocks = [...page.matchAll(/^```(tsx?)\n(.*?)^```$/gms)].map(([, ending, text]) => ({
    ending,
    text: `${text}`,
  }));
  expect(blocks.length).toBeGreaterThan(7);

  // below the package, so that its dependencies are found
  const folder = `${root}/.readme`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const adapters = { "coatroom/react": ["react.tsx", "react.ts"], "coatroom/vue": ["vue.ts"] };
  const paths: Record<string, string[]> = { coatroom: ["../src/index.ts"] };
  for (const [name, files] of Object.entries(adapters)) {
    const file = files.find((file) => existsSync(`${root}/src/${file}`));
    if (file) paths[name] = [`../src/${file}`];
  }
  const files: string[] = [];
  for (const [place, { ending, text }] of blocks.entries()) {
    const named = [...text.matchAll(/from "(coatroom[^"]*)"/g)].map(([, name]) => `${name}`);
    if (!named.every((name) => paths[name])) continue;
    files.push(`block-${place + 1}.${ending}`);
    writeFileSync(`${folder}/${files.at(-1)}`, text);
  }
  const options = { noEmit: true, rootDir: "..", paths };
  writeFileSync(
    `${folder}/tsconfig.json`,
    JSON.stringify({ extends: "../tsconfig.json", compilerOptions: options, include: [], files }),
  );
  let said = "";
  try {
    execFileSync(`${root}/node_modules/.bin/tsc`, ["-p", folder], { encoding: "utf8" });
  } catch (error) {
    said = (error as { stdout: string }).stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  expect(said).toBe("");
});
