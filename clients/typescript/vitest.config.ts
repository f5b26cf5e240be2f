import { defineConfig } from "vitest/config";

// node, since the core takes the browser as an argument; the adapters' tests ask for a DOM in their first line
export default defineConfig({
  test: { include: ["src/**/*.test.{ts,tsx}", "test/**/*.test.{ts,tsx}"], environment: "node" },
});
