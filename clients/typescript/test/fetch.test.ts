import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { errorOf, StepUpRequired, stepUpOf } from "../src/errors.js";
import { FakeAgent, json, refuse } from "./agent.js";
import { Browser } from "./browser.js";

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

/** Signed in, and the access token has run out. */
async function withExpiredToken(options = {}) {
  agent.signIn(browser);
  const tab = browser.open({ refreshAhead: false, ...options });
  await tab.client.session();
  await vi.advanceTimersByTimeAsync(1000 * agent.tokenLife);
  agent.log.length = agent.calls.length = 0;
  return tab;
}

describe("which calls are ours", () => {
  const cases: {
    name: string;
    url: string | URL;
    init?: RequestInit;
    ours: boolean;
    baseUrl?: string;
    cookies?: string;
  }[] = [
    { name: "a path", url: "/api/orders", ours: true },
    { name: "a path, said to include", url: "/api", init: { credentials: "include" }, ours: true, cookies: "include" },
    { name: "a relative path", url: "orders", ours: true },
    { name: "a URL of this origin", url: new URL("https://app.example/api"), ours: true },
    {
      name: "the agent's origin",
      url: "https://bff.example/api",
      baseUrl: "https://bff.example/auth",
      ours: true,
      cookies: "include",
    },
    { name: "a foreign origin", url: "https://cdn.example/x", ours: false },
    { name: "another port", url: "https://app.example:8443/api", ours: false },
    { name: "another scheme", url: "http://app.example/api", ours: false },
    { name: "data", url: "data:text/plain,x", ours: false },
    { name: "without cookies on purpose", url: "/api", init: { credentials: "omit" }, ours: false },
    { name: "no-cors", url: "/api", init: { mode: "no-cors" }, ours: false },
    { name: "no URL at all", url: "https://", ours: false },
  ];
  test.each(cases)("$name: $ours", async ({ url, init, ours, baseUrl, cookies }) => {
    const seen: [unknown, RequestInit | undefined][] = [];
    const fetch = async (input: unknown, init?: RequestInit) => {
      seen.push([input, init]);
      return new Response();
    };
    const { client } = browser.open({ fetch: fetch as typeof globalThis.fetch, ...(baseUrl && { baseUrl }) });
    await client.fetch(url, init);
    const [input, sent] = seen[0] as (typeof seen)[0];
    expect(input).toBe(url);
    if (ours) {
      expect(new Headers(sent?.headers).get("token-handler-version")).toBe("1");
      // here a redirect to a URL that anybody may read must stay readable
      expect(sent?.credentials).toBe(cookies ?? "same-origin");
    } else expect(sent).toBe(init);
  });
});

test("the header's name is a setting, and other headers stay", async () => {
  agent.signIn(browser);
  const { client } = browser.open({ csrfHeader: "X-CSRF" });
  agent.instead.set("/api", ({ headers }) => json([...headers]));
  const headers = new Headers((await (await client.fetch("/api", { headers: { accept: "a/b" } })).json()) as never);
  expect(headers.get("x-csrf")).toBe("1");
  expect(headers.get("accept")).toBe("a/b");
});

describe("an expired token", () => {
  const bodies: { name: string; input: () => [RequestInfo, RequestInit?]; body: string }[] = [
    { name: "nothing", input: () => ["/api"], body: "" },
    { name: "text", input: () => ["/api", { method: "POST", body: "text" }], body: "text" },
    { name: "a blob", input: () => ["/api", { method: "POST", body: new Blob(["blob"]) }], body: "blob" },
    { name: "bytes", input: () => ["/api", { method: "POST", body: new TextEncoder().encode("b") }], body: "b" },
    { name: "a form", input: () => ["/api", { method: "POST", body: new URLSearchParams("a=1") }], body: "a=1" },
    {
      name: "a Request with a body",
      input: () => [new Request("https://app.example/api", { method: "PUT", body: "request" })],
      body: "request",
    },
    {
      name: "a Request whose body is a stream",
      input: () => [
        new Request("https://app.example/api", {
          method: "PUT",
          body: new Blob(["streamed"]).stream(),
          duplex: "half",
        } as RequestInit),
      ],
      body: "streamed",
    },
  ];
  test.each(bodies)("$name is sent once more after a refresh", async ({ input, body }) => {
    const tab = await withExpiredToken();
    const response = await tab.client.fetch(...input());
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ body });
    expect(agent.log.map((line) => line.split(" ")[1])).toEqual(["/api", "/auth/refresh", "/api"]);
    expect(agent.calls[1]?.body).toBe("");
    // finished when the page goes away, and no page of a sign-in in between is taken for an answer
    expect(agent.calls[1]?.init).toMatchObject({ keepalive: true, redirect: "manual" });
  });

  test("a stream is not sent twice: the refresh is done, and the answer is the 401", async () => {
    const tab = await withExpiredToken();
    const stream = () => ({ method: "POST", body: new Blob(["s"]).stream(), duplex: "half" }) as RequestInit;
    const response = await tab.client.fetch("/api", stream());
    expect((await errorOf(response))?.code).toBe("access_token_expired");
    expect(agent.log).toEqual(["POST /api", "POST /auth/refresh"]);
    expect((await tab.client.fetch("/api", stream())).status).toBe(200);
  });

  test("many calls at once are one refresh", async () => {
    const tab = await withExpiredToken();
    agent.latency = 20;
    const calls = Promise.all(Array.from({ length: 20 }, () => tab.client.fetch("/api")));
    await vi.advanceTimersByTimeAsync(200);
    expect((await calls).every(({ status }) => status === 200)).toBe(true);
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("a call that is refused again and again comes back in the end", async () => {
    const tab = await withExpiredToken();
    agent.instead.set("/api", () => refuse(401, "access_token_expired"));
    const response = await tab.client.fetch("/api");
    expect((await errorOf(response))?.code).toBe("access_token_expired");
    expect(agent.count("GET /api")).toBe(3);
    expect(agent.count("POST /auth/refresh")).toBe(2);
  });

  test("an error in a gRPC answer with status 200 is seen as well", async () => {
    const tab = await withExpiredToken();
    let calls = 0;
    agent.instead.set("/api", () =>
      calls++ ? undefined : new Response(null, { headers: { "token-handler-error": "access_token_expired" } }),
    );
    expect(await (await tab.client.fetch("/api")).json()).toBeTruthy();
    expect(agent.count("POST /auth/refresh")).toBe(1);
  });

  test("who aborts does not wait for the refresh", async () => {
    const tab = await withExpiredToken();
    agent.instead.set("/auth/refresh", () => new Promise<never>(() => {}));
    const abort = new AbortController();
    const call = tab.client.fetch("/api", { signal: abort.signal });
    const outcome = expect(call).rejects.toThrow("enough");
    await vi.advanceTimersByTimeAsync(10);
    abort.abort(new Error("enough"));
    await outcome;
    // nor who had aborted already
    agent.instead.set("/api", () => {
      late.abort(new Error("enough"));
      return refuse(401, "access_token_expired");
    });
    const late = new AbortController();
    const send: typeof fetch = (input, init) => agent.fetch(browser, input as string, { ...init, signal: null });
    const other = browser.open({ fetch: send });
    await expect(other.client.fetch("/api", { signal: late.signal })).rejects.toThrow("enough");
  });

  test("a signal that many calls share keeps nothing of them", async () => {
    const tab = await withExpiredToken();
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    // the fake's own `Request` listens to it as well
    const isOurs = () => /src.fetch/.test(new Error().stack ?? "") && !/test.agent/.test(new Error().stack ?? "");
    const options = {
      signal: Object.assign(signal, {
        addEventListener(...call: Parameters<typeof addEventListener>) {
          if (isOurs()) listeners++;
          addEventListener.apply(signal, call);
        },
        removeEventListener(...call: Parameters<typeof removeEventListener>) {
          if (isOurs()) listeners--;
          removeEventListener.apply(signal, call);
        },
      }),
    };
    agent.instead.set("/api", () => refuse(401, "access_token_expired"));
    for (let call = 0; call < 3; call++) await tab.client.fetch("/api", options);
    agent.instead.set("/api", () => refuse(401, "unauthorized"));
    for (let call = 0; call < 3; call++) await tab.client.fetch("/api", options);
    expect(agent.count("POST /auth/refresh")).toBeGreaterThan(2);
    expect(listeners).toBe(0);
  });
});

describe("a refresh that fails", () => {
  test("an outage is the call's answer, and signs nobody out", async () => {
    const tab = await withExpiredToken();
    agent.instead.set("/auth/refresh", () => refuse(503, "provider_unavailable", { "retry-after": "7" }));
    const response = await tab.client.fetch("/api");
    expect(response.status).toBe(503);
    expect(await errorOf(response)).toMatchObject({ code: "provider_unavailable", retryAfter: 7 });
    expect(tab.client.state).toMatchObject({ status: "signed-in", error: { code: "provider_unavailable" } });

    // within those seconds nobody asks again, afterwards the next call does
    await tab.client.fetch("/api");
    expect(agent.count("POST /auth/refresh")).toBe(1);
    agent.instead.clear();
    await vi.advanceTimersByTimeAsync(12_000);
    expect((await tab.client.fetch("/api")).status).toBe(200);
    expect(tab.client.state).toMatchObject({ status: "signed-in", error: null });
  });

  test("offline it rejects, as fetch does", async () => {
    const tab = await withExpiredToken();
    agent.instead.set("/auth/refresh", () => new TypeError("Failed to fetch"));
    await expect(tab.client.fetch("/api")).rejects.toMatchObject({ code: "network", cause: expect.any(TypeError) });
    expect(tab.client.state.status).toBe("signed-in");
    // the net is back before anybody noticed: no rest is owed to a net
    agent.instead.clear();
    expect((await tab.client.fetch("/api")).status).toBe(200);
  });

  test("one that hangs is given up", async () => {
    const tab = await withExpiredToken({ timeout: 5000 });
    agent.instead.set("/auth/refresh", () => new Promise<never>(() => {}));
    const call = expect(tab.client.fetch("/api")).rejects.toMatchObject({ code: "timeout" });
    await vi.advanceTimersByTimeAsync(5000);
    await call;
    expect(tab.client.state).toMatchObject({ status: "signed-in", error: { code: "timeout" } });
  });

  test("a session that has ended is signed out in every tab", async () => {
    const tab = await withExpiredToken();
    const other = browser.open({ refreshAhead: false });
    await other.client.session();
    agent.sessions.clear();
    agent.instead.set("/api", () => refuse(401, "access_token_expired"));
    const response = await tab.client.fetch("/api");
    await vi.advanceTimersByTimeAsync(1);
    expect((await errorOf(response))?.code).toBe("session_expired");
    expect(tab.client.state).toMatchObject({ status: "signed-out", reason: "expired" });
    expect(other.client.state).toMatchObject({ status: "signed-out", reason: "expired" });
  });
});

describe("whose 401 it is", () => {
  test("the API's own passes untouched", async () => {
    agent.signIn(browser);
    const { client } = browser.open();
    await client.session();
    agent.instead.set("/api", () => json({ mine: true }, 401));
    const response = await client.fetch("/api");
    expect(response.status).toBe(401);
    expect(await errorOf(response)).toBeNull();
    expect(await response.json()).toEqual({ mine: true });
    expect(client.state.status).toBe("signed-in");
    expect(agent.log).toEqual(["GET /auth/session", "GET /api"]);
  });

  test.each(["session_expired", "unauthorized"])("ours, %s: the agent is asked, once for many calls", async (code) => {
    agent.signIn(browser);
    const { client } = browser.open();
    await client.session();
    agent.latency = 5;
    agent.sessions.clear();
    agent.instead.set("/api", () => refuse(401, code));
    const calls = Promise.all([client.fetch("/api"), client.fetch("/api"), client.fetch("/api")]);
    await vi.advanceTimersByTimeAsync(30);
    for (const response of await calls) expect((await errorOf(response))?.code).toBe(code);
    expect(client.state).toMatchObject({ status: "signed-out", reason: "expired" });
    expect(agent.count("GET /auth/session")).toBe(2);
    agent.latency = 0;
    await client.fetch("/api");
    expect(agent.count("GET /auth/session")).toBe(2);
  });

  test("one that was on its way while somebody signed in does not sign out", async () => {
    const { client } = browser.open();
    let release = () => {};
    agent.held.set("/api", new Promise((resolve) => (release = resolve)));
    const call = client.fetch("/api");
    await vi.advanceTimersByTimeAsync(1);
    agent.signIn(browser);
    await client.session();
    release();
    expect((await call).status).toBe(401);
    expect(client.state.status).toBe("signed-in");
  });
});

describe("errorOf and stepUpOf", () => {
  const challenges: { name: string; header: string; stepUp: object | null }[] = [
    { name: "none", header: "", stepUp: null },
    { name: "another error", header: 'Bearer error="invalid_token"', stepUp: null },
    { name: "without wishes", header: 'Bearer error="insufficient_user_authentication"', stepUp: {} },
    {
      name: "RFC 9470 §3, figure 3",
      header:
        'Bearer error="insufficient_user_authentication", error_description="A different authentication level is required", acr_values="myACR"',
      stepUp: { acrValues: "myACR" },
    },
    {
      name: "with an age",
      header: 'Bearer realm="api", error="insufficient_user_authentication", max_age=5, acr_values="gold  silver"',
      stepUp: { acrValues: "gold  silver", maxAge: 5 },
    },
    {
      name: "a description that pretends",
      header:
        'Bearer error="insufficient_user_authentication", error_description="no \\"acr_values=\\"evil\\", max_age=1"',
      stepUp: {},
    },
    {
      name: "an error inside of a description",
      header: 'Bearer error="invalid_token", error_description="error=insufficient_user_authentication"',
      stepUp: null,
    },
    {
      name: "behind another challenge",
      header: 'DPoP algs="ES256", Bearer error="insufficient_user_authentication", max_age="0"',
      stepUp: { maxAge: 0 },
    },
    {
      name: "an age that is none",
      header: 'Bearer error="insufficient_user_authentication", max_age="-1"',
      stepUp: {},
    },
  ];
  test.each(challenges)("a challenge: $name", async ({ header, stepUp }) => {
    const response = new Response(null, { status: 401, headers: header ? { "www-authenticate": header } : {} });
    expect(stepUpOf(response)).toEqual(stepUp);
    const error = await errorOf(response);
    if (stepUp) expect(error).toBeInstanceOf(StepUpRequired);
    if (stepUp) expect(error).toMatchObject({ code: "insufficient_user_authentication", status: 401, signIn: stepUp });
    else expect(error).toBeNull();
  });

  test("an answer can still be read", async () => {
    const response = refuse(429, "rate_limited", { "retry-after": "3" });
    const error = await errorOf(response);
    expect(error).toMatchObject({
      name: "CoatroomError",
      code: "rate_limited",
      status: 429,
      detail: "about rate_limited",
      retryAfter: 3,
      providerError: null,
    });
    expect(error?.message).toBe("about rate_limited");
    expect(response.bodyUsed).toBe(false);
  });

  test.each([
    ["9999999999", 86_400],
    ["Infinity", 86_400],
    ["0", null],
    ["Wed, 21 Oct 2026 07:28:00 GMT", null],
  ])("Retry-After: %s is %s seconds", async (header, retryAfter) => {
    const error = await errorOf(refuse(503, "store_unavailable", { "retry-after": header }));
    expect(error?.retryAfter).toBe(retryAfter);
  });

  test("a page of a sign-in in between is told", async () => {
    const page = new Response("<html>", { headers: { "content-type": "text/html; charset=utf-8" } });
    expect(await errorOf(page)).toBeNull();
    Object.defineProperty(page, "redirected", { value: true });
    expect(await errorOf(page)).toMatchObject({ code: "redirected", status: 200 });
    const opaque = new Response(null);
    Object.defineProperty(opaque, "type", { value: "opaqueredirect" });
    expect((await errorOf(opaque))?.code).toBe("redirected");
  });
});
