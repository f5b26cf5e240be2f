/** What nobody asked for is no sign of the user: timers, lost connections and hidden pages let a session end. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openEventSource } from "../src/events.js";
import { openWebSocket } from "../src/socket.js";
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

const refreshes = () => agent.calls.filter(({ url }) => url.endsWith("/auth/refresh")).map(({ body }) => body);

/** A socket that stands for a minute at a time. */
class DroppingSocket {
  static all = 0;
  readyState = 0;
  onopen = () => {};
  onmessage = () => {};
  onclose = (_: { code: number }) => {};
  constructor() {
    DroppingSocket.all++;
    setTimeout(() => {
      this.readyState = 1;
      this.onopen();
    }, 5);
    setTimeout(() => this.onclose({ code: 1006 }), 60_000);
  }
  close() {}
}

describe("an unattended page", () => {
  const HOURS = 3 * 3600_000;

  test.each(["visible", "hidden"])("%s, with a socket that drops: its session ends", async (visibility) => {
    const [tab] = (await openTabs(1)) as [Tab];
    if (visibility === "hidden") tab.hide();
    const socket = openWebSocket(tab.client, "wss://app.example/api/live", { WebSocket: DroppingSocket as never });
    const reasons: string[] = [];
    socket.addEventListener("close", ({ reason }) => reasons.push(reason));
    await tick(HOURS);
    expect(tab.client.state).toMatchObject({ status: "signed-out", reason: "expired" });
    expect(reasons).toEqual(["session-ended"]);
    expect(new Set(refreshes())).toEqual(new Set(["background=true"]));
    expect(refreshes().length).toBeLessThan(8);
  });

  test("with a stream of events that breaks off: its session ends", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    agent.instead.set("/api/events", () => {
      if ((browser.cookies?.accessTokenEnds ?? 0) <= Date.now()) return refuse(401, "access_token_expired");
      const body = new ReadableStream({ start: (stream) => void setTimeout(() => stream.close(), 60_000) });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    });
    const events = openEventSource(tab.client, "https://app.example/api/events");
    await tick(HOURS);
    expect(tab.client.state.status).toBe("signed-out");
    expect(events.state).toBe("closed");
    expect(new Set(refreshes())).toEqual(new Set(["background=true"]));
  });

  test("with a stream that is refused after a drop, by a clock that is not ours", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    let calls = 0;
    agent.instead.set("/api/events", () =>
      calls++ % 2
        ? refuse(401, "access_token_expired")
        : new Response(new Blob([""]).stream(), { headers: { "content-type": "text/event-stream" } }),
    );
    const events = openEventSource(tab.client, "https://app.example/api/events");
    await tick(700);
    expect(refreshes()).toEqual(["background=true"]);
    events.close();
  });

  test("where half the idle time ended the token a socket waits for a user, and asks for nothing", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    const { clocks } = serveHalfIdle();
    await tab.client.session();
    const socket = openWebSocket(tab.client, "wss://app.example/api/live", { WebSocket: DroppingSocket as never });
    await tick(930_000);
    agent.log.length = 0;
    DroppingSocket.all = 0;
    await tick(600_000);
    expect(agent.log).toEqual([]);
    expect(socket.state).toBe("connecting");
    clocks.user = Date.now();
    await tab.client.refresh();
    await tick(10);
    expect(DroppingSocket.all).toBe(1);
    expect(socket.state).toBe("open");
    socket.close();
  });

  test("in an outage goes on trying to get a token", async () => {
    const [tab] = (await openTabs(1)) as [Tab];
    await tick(1000 * agent.tokenLife);
    agent.instead.set("/auth/refresh", () => refuse(502, "provider_error"));
    const socket = openWebSocket(tab.client, "wss://app.example/api/live", { WebSocket: DroppingSocket as never });
    await tick(60_000);
    expect(socket.state).toBe("connecting");
    agent.instead.clear();
    await tick(60_000);
    expect(socket.state).toBe("open");
    socket.close();
  });

  test.each([
    { name: "a hidden page", isHidden: true, init: {}, body: "background=true" },
    { name: "a call of a timer's", isHidden: false, init: { background: true }, body: "background=true" },
    { name: "a call", isHidden: false, init: {}, body: "" },
  ])("$name refreshes as $body", async ({ isHidden, init, body }) => {
    const [tab] = (await openTabs(1)) as [Tab];
    await tick(1000 * agent.tokenLife);
    if (isHidden) tab.hide();
    expect((await tab.client.fetch("/api", init)).status).toBe(200);
    expect(refreshes()).toEqual([body]);
  });
});

/** Sessions without a store: half the idle time ends a token, and only a user restarts that clock (`clocks.user`). */
function serveHalfIdle() {
  const clocks = { user: Date.now() };
  const left = (end: number) => Math.max(0, Math.floor(clocks.user / 1000) + end - Math.floor(Date.now() / 1000));
  const answer = () =>
    json({
      is_logged_in: true,
      id_token_claims: { sub: "alice" },
      access_token_expires_in: left(900),
      session: { id: "session-1", idle_expires_in: left(1800), expires_in: left(36_000), provider_expires_in: null },
    });
  agent.instead.set("/auth/session", answer);
  agent.instead.set("/auth/refresh", answer);
  return { clocks };
}

describe("a refresh of a timer's", () => {
  test.each([
    [300, 2],
    [600, 4],
    [1100, 2],
    [2500, 3],
  ])("that gains nothing is not made again and again: %d ms, %d windows", async (latency, windows) => {
    agent.signIn(browser);
    agent.latency = latency;
    serveHalfIdle();
    const tabs = Array.from({ length: windows }, () => browser.open());
    for (const { client } of tabs) {
      client.session();
      await tick(latency + 10);
    }
    await tick(1_000_000);
    expect(agent.count("POST /auth/refresh")).toBe(1);
    // the window is looked at again
    tabs[0]?.hide();
    tabs[0]?.show();
    await tick(700_000);
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("is made again in time once a user restarted that clock", async () => {
    agent.signIn(browser);
    const { clocks } = serveHalfIdle();
    const tab = browser.open();
    await tab.client.session();
    await tick(1_000_000);
    clocks.user = Date.now();
    await tab.client.refresh();
    agent.calls.length = 0;
    await tick(860_000);
    expect(refreshes()).toEqual([]);
    await tick(30_000);
    expect(refreshes()).toEqual(["background=true"]);
  });

  test("that failed once is tried again", async () => {
    const [tab] = (await openTabs(1, {})) as [Tab];
    let failures = 1;
    agent.instead.set("/auth/refresh", () => (failures-- > 0 ? refuse(502, "provider_error") : undefined));
    await tick(295_000);
    expect(refreshes()).toEqual(["background=true", "background=true"]);
    expect(tab.client.state.error).toBeNull();
    expect(Number(tab.client.state.session?.accessTokenExpiresAt) - Date.now()).toBeGreaterThan(250_000);
  });

  test("does not stand for one of the user's, here or in another tab", async () => {
    const [one, two] = (await openTabs(2, {})) as [Tab, Tab];
    two.hide();
    await tick(265_000);
    agent.latency = 3000;
    await tick(6000);
    expect(refreshes()).toEqual(["background=true"]);
    two.document.visibilityState = "visible";
    const before = Number(one.client.state.session?.idleExpiresAt);
    const refreshing = Promise.all([one.client.refresh(), two.client.refresh()]);
    await tick(10_000);
    await refreshing;
    expect(refreshes()).toEqual(["background=true", "", ""]);
    expect(Number(one.client.state.session?.idleExpiresAt)).toBeGreaterThan(before + 200_000);
    expect(agent.reuses).toBe(0);
  });

  test("two of the user's at once are one", async () => {
    const [one] = (await openTabs(1)) as [Tab];
    await Promise.all([one.client.refresh(), one.client.refresh()]);
    expect(refreshes()).toEqual([""]);
  });
});
