import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FakeAgent, refuse } from "./agent.js";
import { Browser, type Lacks, type Tab } from "./browser.js";

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

const LOCK = "coatroom:https://app.example/auth";

async function openTabs(count: number, lacks: Lacks = {}): Promise<Tab[]> {
  browser = new Browser(agent, lacks);
  agent.signIn(browser);
  const tabs = Array.from({ length: count }, () => browser.open({ refreshAhead: false }));
  for (const tab of tabs) await tab.client.session();
  await vi.advanceTimersByTimeAsync(1);
  agent.log.length = agent.calls.length = 0;
  return tabs;
}

describe("one tab refreshes, however many need it", () => {
  const worlds: { name: string; lacks: Lacks }[] = [
    { name: "with everything", lacks: {} },
    { name: "without a channel", lacks: { channel: true } },
    { name: "without storage", lacks: { storage: "missing" } },
    { name: "with a storage that throws", lacks: { storage: "throws" } },
  ];
  test.each(worlds)("$name", async ({ lacks }) => {
    const tabs = await openTabs(8, lacks);
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 30;
    agent.log.length = 0;
    const calls: Promise<Response>[] = [];
    for (const tab of tabs) {
      calls.push(tab.client.fetch("/api"), tab.client.fetch("/api"));
      // no two tabs of a browser do something in the same instant
      await vi.advanceTimersByTimeAsync(1);
    }
    await vi.advanceTimersByTimeAsync(5000);
    for (const call of calls) expect((await call).status).toBe(200);
    expect(agent.reuses).toBe(0);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    expect(tabs.every(({ client }) => client.state.status === "signed-in")).toBe(true);
  });

  test("without Web Locks every tab does, and the agent copes", async () => {
    const tabs = await openTabs(3, { locks: true });
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 30;
    agent.remembers = true;
    const calls = Promise.all(tabs.flatMap(({ client }) => [client.fetch("/api"), client.fetch("/api")]));
    await vi.advanceTimersByTimeAsync(5000);
    for (const { status } of await calls) expect(status).toBe(200);
    expect(agent.count("POST /auth/refresh")).toBe(3);
  });

  test("a tab alone works without all of it", async () => {
    const [tab] = await openTabs(1, { locks: true, channel: true, storage: "throws" });
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 30;
    const calls = Promise.all([tab?.client.fetch("/api"), tab?.client.fetch("/api")]);
    await vi.advanceTimersByTimeAsync(5000);
    expect((await calls).map((response) => response?.status)).toEqual([200, 200]);
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("what was sent before a refresh, and refused, is only repeated", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    let release = () => {};
    agent.held.set("/api/slow", new Promise((resolve) => (release = resolve)));
    const slow = two.client.fetch("/api/slow");
    await vi.advanceTimersByTimeAsync(1);
    await one.client.fetch("/api");
    release();
    expect((await slow).status).toBe(200);
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("a refresh of another tab whose token ran out again is no reason to give up", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    let release = () => {};
    agent.held.set("/api/slow", new Promise((resolve) => (release = resolve)));
    const slow = two.client.fetch("/api/slow");
    await vi.advanceTimersByTimeAsync(1);
    await one.client.fetch("/api");
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    release();
    expect((await slow).status).toBe(200);
    expect(agent.count("POST /auth/refresh")).toBe(2);
    expect(agent.count("GET /api/slow")).toBe(3);
  });

  test("a failure is everybody's: those who wait do not try the same", async () => {
    const tabs = await openTabs(5);
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 30;
    agent.instead.set("/auth/refresh", () => refuse(503, "store_unavailable", { "retry-after": "3" }));
    const calls = Promise.all(tabs.map(({ client }) => client.fetch("/api")));
    await vi.advanceTimersByTimeAsync(500);
    expect((await calls).map(({ status }) => status)).toEqual([503, 503, 503, 503, 503]);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    expect(tabs.every(({ client }) => client.state.status === "signed-in")).toBe(true);
  });
});

describe("a lock that somebody holds", () => {
  test("for ever is taken away after twice the timeout", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    browser.locks.hang(LOCK);
    const call = tab.client.fetch("/api");
    await vi.advanceTimersByTimeAsync(39_000);
    expect(agent.count("POST /auth/refresh")).toBe(0);
    await vi.advanceTimersByTimeAsync(2000);
    expect((await call).status).toBe(200);
    expect(browser.locks.thefts).toBe(1);
  });

  test("holds up a sign-out for three seconds at most", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    browser.locks.hang(LOCK);
    tab.client.signOut();
    await vi.advanceTimersByTimeAsync(2900);
    expect(tab.left).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(tab.left).toEqual(["https://app.example/auth/logout/continue"]);
  });

  test("and is robbed of it finishes its work all the same", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 4000;
    const refreshing = one.client.refresh();
    await vi.advanceTimersByTimeAsync(10);
    two.client.signOut();
    await vi.advanceTimersByTimeAsync(20_000);
    await refreshing;
    // who signs out robs nobody, and does not wait either
    expect(browser.locks.thefts).toBe(0);
    expect(two.left).toHaveLength(1);
    expect(one.client.state).toMatchObject({ status: "signed-out" });
  });
});

describe("what one tab learns the others know", () => {
  test.each([
    { name: "over the channel", lacks: {} },
    { name: "by the storage", lacks: { channel: true } },
  ])("$name: refresh and sign-out", async ({ lacks }) => {
    const [one, two] = (await openTabs(2, lacks)) as [Tab, Tab];
    await vi.advanceTimersByTimeAsync(100_000);
    const before = two.client.state;
    await one.client.refresh();
    await vi.advanceTimersByTimeAsync(1);
    expect(two.client.state).not.toBe(before);
    expect(two.client.state.session?.accessTokenExpiresAt).toEqual(one.client.state.session?.accessTokenExpiresAt);
    expect(two.client.state.user).toBe(before.user);

    one.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    expect(one.client.state).toMatchObject({ status: "signed-out", reason: "signed-out" });
    // the storage does not say why
    expect(two.client.state).toMatchObject({ status: "signed-out", reason: lacks.channel ? "expired" : "signed-out" });
  });

  test("over the channel nobody has to ask", async () => {
    const [one] = (await openTabs(6)) as [Tab];
    await one.client.refresh();
    one.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    expect(agent.count("GET /auth/session")).toBe(0);
  });

  test("a sign-in that came back to another tab", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    agent.signIn(browser, { sub: "bob" });
    const three = browser.open();
    await three.client.session();
    await vi.advanceTimersByTimeAsync(1);
    expect(one.client.state.user?.sub).toBe("bob");
    expect(two.client.state.user?.sub).toBe("bob");
    expect(three.client.state.user?.sub).toBe("bob");
    // and then there is quiet
    agent.log.length = 0;
    await vi.advanceTimersByTimeAsync(100);
    expect(agent.log).toEqual([]);
  });

  test("a tab that opens later and sees the same session asks nobody to ask", async () => {
    await openTabs(3);
    const later = browser.open();
    await later.client.session();
    await vi.advanceTimersByTimeAsync(10);
    expect(agent.log).toEqual(["GET /auth/session"]);
  });

  test("an answer that a sign-out has overtaken is not believed", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    let release = () => {};
    agent.held.set("/auth/session", new Promise((resolve) => (release = resolve)));
    const asking = two.client.session();
    await vi.advanceTimersByTimeAsync(1);
    one.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    agent.held.clear();
    release();
    expect(await asking).toMatchObject({ status: "signed-out" });
    expect(two.client.state.status).toBe("signed-out");
    expect(one.client.state.status).toBe("signed-out");
  });

  test("news that arrive late do not overwrite what is newer", async () => {
    const [one, two] = (await openTabs(2)) as [Tab, Tab];
    browser.delay = 50;
    await one.client.refresh();
    one.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    const heard: string[] = [];
    two.client.subscribe(({ status }) => heard.push(status));
    expect((await two.client.session()).status).toBe("signed-out");
    await vi.advanceTimersByTimeAsync(100);
    expect(heard).toEqual(["signed-out"]);
    // somebody who counts less may have lost the storage, so what differs is asked for
    expect(agent.count("GET /auth/session")).toBeLessThanOrEqual(2);
  });

  test("a session that has ended is refused one refresh, and not one for each tab", async () => {
    const tabs = await openTabs(4);
    await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
    agent.latency = 30;
    // without a store the proxy does not see that a session idled out, the agent does, and takes its cookies
    agent.instead.set("/api", () => refuse(401, browser.cookies ? "access_token_expired" : "unauthorized"));
    agent.sessions.clear();
    const calls = Promise.all(tabs.map(({ client }) => client.fetch("/api")));
    await vi.advanceTimersByTimeAsync(5000);
    expect((await calls).map(({ status }) => status)).toEqual([401, 401, 401, 401]);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    for (const { client } of tabs) expect(client.state).toMatchObject({ status: "signed-out", reason: "expired" });
  });

  test("tabs of another application are strangers", async () => {
    const [one] = (await openTabs(1)) as [Tab];
    const stranger = browser.open({ name: "other" });
    await stranger.client.session();
    one.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    expect(stranger.client.state.status).toBe("signed-in");
  });
});

test("what is stored is a number, and nothing but that", async () => {
  const tabs = await openTabs(2);
  await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
  const calls = Promise.all(tabs.map(({ client }) => client.fetch("/api")));
  await vi.advanceTimersByTimeAsync(1000);
  await calls;
  expect([...browser.storage.keys()]).toEqual([LOCK]);
  for (const value of browser.storage.values()) expect(value).toMatch(/^\d+$/);
});
