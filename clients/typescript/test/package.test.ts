import { readdirSync, readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import * as coatroom from "../src/index.js";

test("what is exported is what is documented", () => {
  expect(Object.keys(coatroom).sort()).toEqual([
    "ClosedEvent",
    "CoatroomError",
    "DropEvent",
    "StepUpRequired",
    "createCoatroom",
    "errorOf",
    "openEventSource",
    "openWebSocket",
    "requireSession",
    "stepUpOf",
  ]);
});

test("on a server nothing happens by itself", async () => {
  vi.useFakeTimers();
  const fetch = vi.fn(async () => new Response("", { status: 503 }));
  const client = coatroom.createCoatroom({ fetch });
  expect(client.state.status).toBe("unknown");
  expect(await client.handleCallback()).toBeNull();
  expect(fetch).not.toHaveBeenCalled();
  // nor does an answer start anything
  await client.session();
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(client.state).toEqual({ status: "unknown", session: null, user: null, error: null });
  expect(fetch).not.toHaveBeenCalled();
  expect(vi.getTimerCount()).toBe(0);
  client.close();
  vi.useRealTimers();
});

test("every file says what it does, and none is long", () => {
  const folder = new URL("../src/", import.meta.url);
  for (const name of readdirSync(folder)) {
    const text = readFileSync(new URL(name, folder), "utf8");
    expect(text.slice(0, 100), name).toMatch(/^(\/\*\*|\/\/ )/m);
    expect(text.split("\n").length, name).toBeLessThanOrEqual(name.includes(".test.") ? 600 : 400);
  }
});
