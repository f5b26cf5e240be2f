/** Two things at once: what one tab was answered while another did something else, and a storage that is lost. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { CoatroomOptions } from "../src/types.js";
import { FakeAgent, json, refuse } from "./agent.js";
import { Browser, type Tab } from "./browser.js";

let agent: FakeAgent;
let browser: Browser;

beforeEach(() => {
  vi.useFakeTimers();
  agent = new FakeAgent();
  browser = new Browser(agent);
});

afterEach(() => {
  for (const tab of browser.tabs) tab.client.close();
  vi.useRealTimers();
});

const tick = (milliseconds = 0) => vi.advanceTimersByTimeAsync(milliseconds);

async function openTabs(count: number, options: CoatroomOptions = { refreshAhead: false }): Promise<Tab[]> {
  agent.signIn(browser);
  const tabs = Array.from({ length: count }, () => browser.open(options));
  for (const tab of tabs) await tab.client.session();
  await tick(1);
  agent.log.length = agent.calls.length = 0;
  return tabs;
}

/** Holds the answer to `path`, which is made before what comes next, until the function that comes back is called. */
function hold(path: string): () => Promise<unknown> {
  let release = () => {};
  agent.held.set(path, new Promise((resolve) => (release = resolve)));
  return () => {
    agent.held.delete(path);
    release();
    return tick(1);
  };
}

const statuses = (tabs: Tab[]) => tabs.map(({ client }) => client.state.status);

describe("a refresh that is overtaken", () => {
  test("by a sign-out signs nobody in again, in no tab", async () => {
    const tabs = (await openTabs(3)) as [Tab, Tab, Tab];
    const heard: string[] = [];
    tabs[2].client.subscribe(({ status }) => heard.push(status));
    const release = hold("/auth/refresh");
    const refreshing = tabs[0].client.refresh();
    await tick(1);
    tabs[1].client.signOut();
    await tick(4000);
    expect(agent.log).toEqual(["POST /auth/refresh", "POST /auth/logout"]);
    expect(statuses(tabs)).toEqual(["signed-out", "signed-out", "signed-out"]);
    await release();
    expect((await refreshing).status).toBe("signed-out");
    await tick(20_000);
    expect(statuses(tabs)).toEqual(["signed-out", "signed-out", "signed-out"]);
    expect(heard).toEqual(["signed-out"]);
  });

  test("by another user's sign-in shows that user", async () => {
    const tabs = (await openTabs(2)) as [Tab, Tab];
    // the agent's cookies of an older session do not replace those of a newer one
    agent.instead.set("/auth/refresh", () =>
      json({
        is_logged_in: true,
        id_token_claims: { sub: "bob" },
        access_token_expires_in: 300,
        session: { id: "session-1", idle_expires_in: 1800, expires_in: 36_000, provider_expires_in: null },
      }),
    );
    const release = hold("/auth/refresh");
    const refreshing = tabs[0].client.refresh();
    await tick(1);
    const href = "https://app.example/signed-in?code=c&state=good";
    const back = browser.open({ callbackPath: "/signed-in", refreshAhead: false }, href);
    const returning = back.client.handleCallback();
    await tick(4000);
    expect((await returning)?.state.session?.id).toBe("session-2");
    await release();
    await refreshing;
    await tick(20_000);
    for (const { client } of [...tabs, back]) expect(client.state.session?.id).toBe("session-2");
  });

  test("an older answer to who is signed in is not taken for a new one", async () => {
    const [one] = (await openTabs(1)) as [Tab];
    const release = hold("/auth/session");
    const asking = one.client.session();
    await tick(1);
    agent.sessions.clear();
    const call = one.client.fetch("/api");
    await tick(1);
    await release();
    await asking;
    expect((await call).status).toBe(401);
    expect(one.client.state.status).toBe("signed-out");
    expect(agent.count("GET /auth/session")).toBe(2);
  });
});

describe("a storage that is cleared", () => {
  test.each([
    { name: "with an event", key: null as string | null, isTold: true },
    { name: "of that one number", key: "coatroom:https://app.example/auth", isTold: true },
    { name: "without a word", key: null, isTold: false },
  ])("$name: older tabs still hear of sign-outs and other users", async ({ key, isTold }) => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    await one.client.refresh();
    await one.client.refresh();
    await tick(1);
    browser.storage.clear();
    if (isTold) browser.tellOfStorage(null, key, null);
    await tick(1);
    expect(browser.storage.size).toBe(isTold ? 1 : 0);
    const three = browser.open({ refreshAhead: false });
    await three.client.session();
    three.client.signOut();
    await tick(1);
    expect(statuses([one, two, three])).toEqual(["signed-out", "signed-out", "signed-out"]);
    agent.signIn(browser, { sub: "bob" });
    await three.client.session();
    await tick(1);
    expect([one, two].map(({ client }) => client.state.user?.sub)).toEqual(["bob", "bob"]);
    // and then there is quiet
    agent.log.length = 0;
    await tick(1000);
    expect(agent.log).toEqual([]);
  });
});

describe("a failure is everybody's", () => {
  test.each([502, 503])("%d without a time to come again, among those who waited", async (status) => {
    const tabs = await openTabs(6);
    await tick(1000 * agent.tokenLife);
    agent.latency = 30;
    agent.instead.set("/auth/refresh", () => refuse(status, "provider_error"));
    const calls = Promise.all(tabs.map(({ client }) => client.fetch("/api")));
    await tick(500);
    expect((await calls).map((response) => response.status)).toEqual(tabs.map(() => status));
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("one that hangs is waited for once, and not by one tab after the other", async () => {
    const tabs = await openTabs(6);
    await tick(1000 * agent.tokenLife);
    agent.instead.set("/auth/refresh", () => new Promise<never>(() => {}));
    const calls = tabs.map(({ client }) => client.fetch("/api").catch(({ code }) => code));
    await tick(20_001);
    expect(await Promise.all(calls)).toEqual(tabs.map(() => "timeout"));
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("calls that come one after the other do not all ask for tokens", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    await tick(1000 * agent.tokenLife);
    agent.instead.set("/auth/refresh", () => refuse(502, "provider_error"));
    for (let call = 0; call < 10; call++) {
      expect((await tab.client.fetch("/api")).status).toBe(502);
      await tick(100);
    }
    expect(agent.count("POST /auth/refresh")).toBe(1);
    agent.instead.clear();
    await tick(12_000);
    expect((await tab.client.fetch("/api")).status).toBe(200);
  });

  test("of several thieves of a lock one runs at a time, and a second only where the first failed", async () => {
    const tabs = await openTabs(6);
    await tick(1000 * agent.tokenLife);
    browser.locks.hang("coatroom:https://app.example/auth");
    agent.latency = 1000;
    const calls = tabs.map(({ client }) => client.fetch("/api"));
    await tick(41_500);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    await tick(5000);
    for (const call of calls) expect((await call).status).toBe(200);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    expect(browser.locks.thefts).toBe(1);
  });

  test("a thief that hangs itself is waited for once", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    await tick(1000 * agent.tokenLife);
    browser.locks.hang("coatroom:https://app.example/auth");
    browser.locks.hang("coatroom:https://app.example/auth:thief");
    const call = tab.client.fetch("/api");
    await tick(79_000);
    expect(agent.count("POST /auth/refresh")).toBe(0);
    await tick(2000);
    expect((await call).status).toBe(200);
  });
});

describe("a sign-out without an answer", () => {
  test("rejects, and the state is what the agent says", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    agent.held.set("/auth/logout", new Promise(() => {}));
    const outcome = expect(one.client.signOut()).rejects.toMatchObject({ code: "timeout" });
    await tick(20_001);
    await outcome;
    expect(one.client.state).toMatchObject({ status: "signed-out", reason: "signed-out" });
    expect(two.client.state.status).toBe("signed-out");
  });

  test("that did not happen leaves everybody signed in", async () => {
    const [one] = (await openTabs(1)) as [Tab];
    agent.instead.set("/auth/logout", () => new TypeError("Failed to fetch"));
    await expect(one.client.signOut()).rejects.toMatchObject({ code: "network" });
    await tick(1);
    expect(one.client.state).toMatchObject({ status: "signed-in", error: null });
  });
});
