// @vitest-environment happy-dom
/** The gate on the real client, where the two have to agree: see `src/gate.ts` and `src/callback.ts`. */

import { beforeEach, expect, test, vi } from "vitest";
import { requireSession } from "../src/gate.js";
import { FakeAgent } from "./agent.js";
import { Browser } from "./browser.js";

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
});

test("an error of the sign-in that the application has read already still keeps the gate from leaving", async () => {
  const agent = new FakeAgent();
  const tab = new Browser(agent).open({}, "https://app.example/orders?login_error=access_denied");
  const result = await tab.client.handleCallback();
  expect(result?.error?.providerError).toBe("access_denied");
  await expect(requireSession(tab.client, { signIn: "auto" })).rejects.toBe(result?.error);
  expect(agent.count("POST /auth/login/start")).toBe(0);
  tab.client.close();
});

test("one question for the start, the guard and the gate", async () => {
  const agent = new FakeAgent();
  const browser = new Browser(agent);
  agent.signIn(browser);
  const tab = browser.open();
  await tab.client.handleCallback();
  const states = await Promise.all([requireSession(tab.client), requireSession(tab.client), tab.client.session()]);
  expect(states.map(({ user }) => user?.sub)).toEqual(["alice", "alice", "alice"]);
  expect(agent.log).toEqual(["GET /auth/session"]);
  tab.client.close();
});

test("the sign-out is remembered before its page leaves, for the page that it leads to", async () => {
  const agent = new FakeAgent();
  const browser = new Browser(agent);
  agent.signIn(browser);
  const before = browser.open();
  await requireSession(before.client, { signIn: "auto" });
  before.client.signOut();
  await vi.waitFor(() => expect(before.left).toHaveLength(1));

  const after = browser.open();
  const state = await requireSession(after.client, { signIn: "auto" });
  expect(state).toMatchObject({ status: "signed-out", reason: "never" });
  expect(after.left).toEqual([]);
  expect(agent.count("POST /auth/login/start")).toBe(0);
  for (const { client } of [before, after]) client.close();
});
