import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { SessionState } from "../src/types.js";
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

async function signedIn(options = {}): Promise<Tab> {
  agent.signIn(browser);
  const tab = browser.open(options);
  await tab.client.session();
  agent.log.length = agent.calls.length = 0;
  return tab;
}

const SECOND = 1000;

describe("the state", () => {
  test("begins unknown, and nothing is asked before the application does", async () => {
    agent.signIn(browser);
    const tab = browser.open();
    expect(tab.client.state).toEqual({ status: "unknown", session: null, user: null, error: null });
    tab.hide();
    tab.show();
    tab.goOnline();
    tab.thaw();
    await vi.advanceTimersByTimeAsync(3600 * SECOND);
    expect(agent.log).toEqual([]);
  });

  test("has the claims and the clocks", async () => {
    vi.setSystemTime(1_800_000_000_000);
    const { client } = await signedIn();
    expect(client.state).toEqual({
      status: "signed-in",
      user: { sub: "alice", name: "Alice" },
      error: null,
      session: {
        id: "session-1",
        accessTokenExpiresAt: new Date(1_800_000_300_000),
        idleExpiresAt: new Date(1_800_001_800_000),
        expiresAt: new Date(1_800_036_000_000),
        providerExpiresAt: null,
      },
    });
  });

  test("is the same object until something changed, and the user longer than that", async () => {
    const { client } = await signedIn({ refreshAhead: false });
    const first = client.state;
    const heard: SessionState[] = [];
    const end = client.subscribe((state) => heard.push(state));
    await vi.advanceTimersByTimeAsync(10_400);
    expect(await client.session()).toBe(first);
    expect(heard).toEqual([]);
    const second = await client.refresh();
    expect(second).not.toBe(first);
    expect(second.user).toBe(first.user);
    expect(heard).toEqual([second]);
    end();
    await vi.advanceTimersByTimeAsync(10_000);
    await client.refresh();
    expect(heard).toHaveLength(1);
  });

  test("asked for many times at once is one request", async () => {
    agent.latency = 10;
    const { client } = browser.open();
    const asked = Promise.all([client.session(), client.session(), client.session()]);
    await vi.advanceTimersByTimeAsync(20);
    expect(new Set(await asked).size).toBe(1);
    expect(agent.log).toHaveLength(1);
  });

  test("one listener's mistake is no other's", async () => {
    const { client } = browser.open();
    const heard = vi.fn();
    const reported = new Promise((resolve) => process.once("unhandledRejection", resolve));
    client.subscribe(() => {
      throw new Error("mine");
    });
    client.subscribe(heard);
    expect(await client.session()).toMatchObject({ status: "signed-out", error: null });
    expect(heard).toHaveBeenCalledOnce();
    expect(await reported).toMatchObject({ message: "mine" });
  });
});

describe("what is no answer of the agent signs nobody out", () => {
  const answers: { name: string; answer: () => Response | Error; code: string; status: number }[] = [
    { name: "offline", answer: () => new TypeError("Failed to fetch"), code: "network", status: 0 },
    { name: "an outage", answer: () => refuse(503, "store_unavailable"), code: "store_unavailable", status: 503 },
    { name: "too many calls", answer: () => refuse(429, "rate_limited"), code: "rate_limited", status: 429 },
    {
      name: "a wrong origin",
      answer: () => refuse(403, "origin_not_allowed"),
      code: "origin_not_allowed",
      status: 403,
    },
    {
      name: "a gateway's 502",
      answer: () => new Response("<html>", { status: 502 }),
      code: "unexpected_answer",
      status: 502,
    },
    {
      name: "a gateway's 401",
      answer: () => new Response("", { status: 401 }),
      code: "unexpected_answer",
      status: 401,
    },
    { name: "a captive portal", answer: () => new Response("<html>"), code: "unexpected_answer", status: 0 },
    { name: "somebody's JSON", answer: () => json({ hello: 1 }), code: "unexpected_answer", status: 0 },
    { name: "JSON null", answer: () => json(null), code: "unexpected_answer", status: 0 },
    {
      name: "a redirect",
      answer: () => Object.defineProperties(new Response(), { ok: { value: false }, status: { value: 0 } }),
      code: "redirected",
      status: 0,
    },
    {
      name: "an error that lost its header",
      answer: () => json({ error_code: "provider_error", detailed_error: "d" }, 502),
      code: "provider_error",
      status: 502,
    },
  ];
  test.each(answers)("$name", async ({ answer, code, status }) => {
    const { client } = await signedIn();
    agent.instead.set("/auth/session", answer);
    agent.instead.set("/auth/refresh", answer);
    expect(await client.session()).toMatchObject({ status: "signed-in", error: { code, status } });
    if (status !== 401) expect(await client.refresh()).toMatchObject({ status: "signed-in", error: { code, status } });
    agent.instead.clear();
    expect(await client.session()).toMatchObject({ status: "signed-in", error: null });
  });

  test("nobody asked yet: it stays unknown, with the reason", async () => {
    browser.isOffline = true;
    const { client } = browser.open();
    expect(await client.session()).toMatchObject({ status: "unknown", error: { code: "network" } });
  });

  test("a visible page tries again by itself, later and later, and not before it may", async () => {
    const { client } = await signedIn({ refreshAhead: false });
    agent.instead.set("/auth/session", () => refuse(503, "store_unavailable", { "retry-after": "40" }));
    await client.session();
    await vi.advanceTimersByTimeAsync(39 * SECOND);
    expect(agent.count("GET /auth/session")).toBe(1);
    await vi.advanceTimersByTimeAsync(17 * SECOND);
    expect(agent.count("GET /auth/session")).toBe(2);

    agent.instead.set("/auth/session", () => refuse(502, "provider_error"));
    await client.session();
    agent.log.length = 0;
    await vi.advanceTimersByTimeAsync(600 * SECOND);
    expect(agent.log.length).toBeGreaterThan(8);
    expect(agent.log.length).toBeLessThan(16);

    agent.instead.clear();
    await vi.advanceTimersByTimeAsync(90 * SECOND);
    expect(client.state).toMatchObject({ status: "signed-in", error: null });
  });
});

describe("a page that somebody looks at", () => {
  test("refreshes half a minute before the token runs out, as a timer", async () => {
    const { client } = await signedIn();
    await vi.advanceTimersByTimeAsync(265 * SECOND);
    expect(agent.count("POST /auth/refresh")).toBe(0);
    await vi.advanceTimersByTimeAsync(10 * SECOND);
    expect(agent.calls.map(({ body }) => body)).toEqual(["background=true"]);
    expect(Number(client.state.session?.accessTokenExpiresAt) - Date.now()).toBeGreaterThan(280 * SECOND);
  });

  test("never when more than a quarter of a token's life is left", async () => {
    agent.tokenLife = 40;
    await signedIn();
    await vi.advanceTimersByTimeAsync(29 * SECOND);
    expect(agent.log).toEqual([]);
    await vi.advanceTimersByTimeAsync(6 * SECOND);
    expect(agent.log).toEqual(["POST /auth/refresh"]);
  });

  test("hidden it does nothing, and does it when it is shown", async () => {
    const tab = await signedIn();
    tab.hide();
    await vi.advanceTimersByTimeAsync(1200 * SECOND);
    expect(agent.log).toEqual([]);
    tab.show();
    await vi.advanceTimersByTimeAsync(1);
    expect(agent.log).toEqual(["POST /auth/refresh"]);
  });

  test("refreshAhead: false waits for a call that needs it", async () => {
    await signedIn({ refreshAhead: false });
    await vi.advanceTimersByTimeAsync(1000 * SECOND);
    expect(agent.log).toEqual([]);
  });

  test("does not try once more where a timer's refresh gains nothing", async () => {
    // half the idle time ends the token, and only a user restarts that clock
    await signedIn();
    agent.instead.set("/auth/refresh", () => {
      const left = Math.max(0, Math.floor((300_000 - (Date.now() - began)) / 1000));
      const session = { id: "session-1", idle_expires_in: 1000, expires_in: 30_000, provider_expires_in: null };
      return json({
        is_logged_in: true,
        id_token_claims: { sub: "alice", name: "Alice" },
        access_token_expires_in: left,
        session,
      });
    });
    const began = Date.now();
    await vi.advanceTimersByTimeAsync(900 * SECOND);
    expect(agent.count("POST /auth/refresh")).toBeLessThan(3);
  });

  test("sees the end of its session when it comes", async () => {
    agent.tokenLife = agent.idle = 100;
    const { client } = await signedIn({ refreshAhead: false });
    await vi.advanceTimersByTimeAsync(99 * SECOND);
    expect(client.state.status).toBe("signed-in");
    await vi.advanceTimersByTimeAsync(10 * SECOND);
    expect(client.state).toMatchObject({ status: "signed-out", reason: "expired" });
    expect(agent.count("GET /auth/session")).toBe(1);
  });

  test("asks again when what it knows is half a minute old, and not when it is younger", async () => {
    const tab = await signedIn({ refreshAhead: false });
    await vi.advanceTimersByTimeAsync(29 * SECOND);
    tab.hide();
    tab.show();
    expect(agent.log).toEqual([]);
    await vi.advanceTimersByTimeAsync(2 * SECOND);
    tab.hide();
    tab.show();
    tab.show();
    await vi.advanceTimersByTimeAsync(1);
    tab.show();
    expect(agent.log).toEqual(["GET /auth/session"]);
  });

  test("comes out of the back/forward cache and asks", async () => {
    const tab = await signedIn();
    const other = browser.open();
    await other.client.session();
    tab.freeze();
    other.client.signOut();
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.client.state.status).toBe("signed-in");
    tab.thaw();
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.client.state.status).toBe("signed-out");
    // and hears again
    agent.signIn(browser);
    await other.client.session();
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.client.state.status).toBe("signed-in");
  });

  test("is back online and asks at once", async () => {
    const tab = await signedIn();
    browser.isOffline = true;
    await tab.client.session();
    expect(tab.client.state.error?.code).toBe("network");
    browser.isOffline = false;
    tab.goOnline();
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.client.state).toMatchObject({ status: "signed-in", error: null });
  });

  test("wakes up with its laptop, whose monotonic clock stood still", async () => {
    const tab = await signedIn();
    agent.sessions.clear();
    // eight hours later, for everything but the timers and performance.now
    vi.setSystemTime(Date.now() + 8 * 3600 * SECOND);
    await vi.advanceTimersByTimeAsync(5 * SECOND);
    expect(tab.client.state).toMatchObject({ status: "signed-out", reason: "expired" });
  });

  test("asks after a nap, which no event tells of", async () => {
    const tab = await signedIn({ refreshAhead: false });
    agent.sessions.clear();
    vi.setSystemTime(Date.now() + 120 * SECOND);
    await vi.advanceTimersByTimeAsync(5 * SECOND);
    expect(tab.client.state.status).toBe("signed-out");
  });

  test("a clock that is set back makes no token younger", async () => {
    await signedIn();
    vi.setSystemTime(Date.now() - 24 * 3600 * SECOND);
    await vi.advanceTimersByTimeAsync(280 * SECOND);
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("does nothing any more once it is closed", async () => {
    const tab = await signedIn();
    tab.client.close();
    tab.hide();
    tab.show();
    tab.thaw();
    tab.goOnline();
    await vi.advanceTimersByTimeAsync(3600 * SECOND);
    expect(agent.log).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("where sessions are kept in a store", () => {
  test("a refresh answers with the clocks, and nothing else happens", async () => {
    agent.tokenLife = 1800;
    const { client } = await signedIn();
    await vi.advanceTimersByTimeAsync(600 * SECOND);
    expect(await client.refresh()).toMatchObject({ status: "signed-in", error: null });
    expect((await client.fetch("/api")).status).toBe(200);
    expect(agent.log).toEqual(["POST /auth/refresh", "GET /api"]);
  });

  test("a token without an end is never refreshed by a timer", async () => {
    agent.signIn(browser);
    agent.instead.set("/auth/session", () =>
      json({
        is_logged_in: true,
        id_token_claims: { sub: "alice" },
        access_token_expires_in: null,
        session: { id: "s", idle_expires_in: 90_000, expires_in: 90_000, provider_expires_in: 90_000 },
        provider: "google",
      }),
    );
    const { client } = browser.open();
    await client.session();
    expect(client.state.session).toMatchObject({
      provider: "google",
      accessTokenExpiresAt: null,
      providerExpiresAt: expect.any(Date),
    });
    await vi.advanceTimersByTimeAsync(80_000 * SECOND);
    expect(agent.log).toEqual(["GET /auth/session"]);
  });

  test("the user's sessions are listed and ended", async () => {
    const { client } = await signedIn();
    expect(await client.sessions()).toEqual([
      {
        id: "abcdefghijk",
        createdAt: new Date(1_800_000_000_000),
        lastUsedAt: new Date(1_800_003_600_000),
        userAgent: null,
        current: true,
      },
    ]);
    await client.endSession("abcdefghijk");
    await expect(client.endSession("../logout")).rejects.toMatchObject({ code: "not_found" });
    expect(agent.log).toEqual([
      "GET /auth/sessions",
      "DELETE /auth/sessions/abcdefghijk",
      "DELETE /auth/sessions/..%2Flogout",
    ]);
  });
});

test("every code that the HTTP interface names is a typed code, and no other", () => {
  const page = readFileSync(new URL("../../../docs/http-api.md", import.meta.url), "utf8");
  const table = page.slice(page.indexOf("## Errors"), page.indexOf("## Admin listener"));
  const documented = [...table.matchAll(/^\| \d{3} \| `(\w+)`/gm)].map(([, code]) => code);
  const reserved = [...table.matchAll(/^Reserved for later versions: \d{3} `(\w+)`/gm)].map(([, code]) => code);
  const source = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
  const union = source.slice(source.indexOf("type ServerErrorCode"), source.indexOf("type ClientErrorCode"));
  const typed = [...union.matchAll(/\| "(\w+)"/g)].map(([, code]) => code);
  expect(documented.length).toBeGreaterThan(15);
  expect(typed.sort()).toEqual([...documented, ...reserved].sort());
  // each status stands beside its code in the documentation of the type
  for (const [, status, code] of table.matchAll(/^\| (\d{3}) \| `(\w+)`/gm)) {
    expect(union).toMatch(new RegExp(`/\\*\\* ${status}: [^/]*\\*/\\s+\\| "${code}"`));
  }
});
