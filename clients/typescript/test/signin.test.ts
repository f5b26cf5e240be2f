import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { SignInOptions } from "../src/types.js";
import { FakeAgent, refuse } from "./agent.js";
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

/** What was posted, as an object. */
const posted = (call = 0) => Object.fromEntries(new URLSearchParams(agent.calls[call]?.body));

describe("signIn", () => {
  const cases: { name: string; options?: SignInOptions; href?: string; form: Record<string, string> }[] = [
    { name: "this page", form: { return_to: "/page?x=1#top" } },
    {
      name: "a query that others would spell differently",
      href: "https://app.example/a?q=a%20b&flag&x=%2F#/route?y",
      form: { return_to: "/a?q=a%20b&flag&x=%2F#/route?y" },
    },
    {
      name: "without the mark of a failure",
      href: "https://app.example/?login_error=x&a=1",
      form: { return_to: "/?a=1" },
    },
    { name: "the mark alone", href: "https://app.example/?login_error=x#f", form: { return_to: "/#f" } },
    { name: "the mark at the end", href: "https://app.example/?a=1&login_error=x", form: { return_to: "/?a=1" } },
    {
      name: "the mark in the middle",
      href: "https://app.example/?a=1&login_error=x&b=2",
      form: { return_to: "/?a=1&b=2" },
    },
    { name: "the callback itself", href: "https://app.example/signed-in?code=x&state=y", form: {} },
    {
      name: "everything",
      options: {
        returnTo: new URL("https://app.example/there"),
        provider: "google",
        prompt: "login",
        loginHint: "alice",
        acrValues: ["gold", "silver"],
        maxAge: 0,
        uiLocales: "de en",
        scope: ["openid", "profile"],
        parameters: { audience: "x", someThing: true },
      },
      form: {
        return_to: "https://app.example/there",
        provider: "google",
        prompt: "login",
        login_hint: "alice",
        acr_values: "gold silver",
        max_age: "0",
        ui_locales: "de en",
        scope: "openid profile",
        audience: "x",
        someThing: "true",
      },
    },
  ];
  test.each(cases)("returns to $name", async ({ options, href, form }) => {
    const tab = browser.open({ callbackPath: "/signed-in" }, href);
    tab.client.signIn(options);
    await vi.advanceTimersByTimeAsync(1);
    expect(posted()).toEqual(form);
    expect(tab.left).toHaveLength(1);
    expect(tab.left[0]).toContain("https://login.example/authorize");
  });

  test("a page that the agent does not return to leads home, and what was asked for is an error", async () => {
    agent.instead.set("/auth/login/start", ({ body }) =>
      body.includes("return_to") ? refuse(400, "invalid_request") : undefined,
    );
    const tab = browser.open({}, "https://app.example//odd");
    tab.client.signIn({ prompt: "login" });
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.left).toEqual(["https://login.example/authorize?prompt=login"]);
    await expect(tab.client.signIn({ returnTo: "//odd" })).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("an outage is told, and the page stays", async () => {
    agent.instead.set("/auth/login/start", () => refuse(503, "provider_unavailable", { "retry-after": "5" }));
    const tab = browser.open();
    await expect(tab.client.signIn()).rejects.toMatchObject({ code: "provider_unavailable", retryAfter: 5 });
    expect(tab.left).toEqual([]);
  });

  test("who comes back by the back button is told", async () => {
    const tab = browser.open();
    const left = expect(tab.client.signIn()).rejects.toMatchObject({ code: "came_back" });
    await vi.advanceTimersByTimeAsync(1);
    tab.freeze();
    tab.thaw();
    await left;
  });
});

describe("signOut", () => {
  test("leaves for the provider, and tells why nobody is signed in", async () => {
    agent.signIn(browser);
    const tab = browser.open();
    await tab.client.session();
    tab.client.signOut({ everywhere: true });
    await vi.advanceTimersByTimeAsync(1);
    expect(posted(1)).toEqual({ everywhere: "true" });
    expect(agent.calls[1]?.init.keepalive).toBe(true);
    expect(tab.left).toEqual(["https://app.example/auth/logout/continue"]);
    expect(tab.client.state).toMatchObject({ status: "signed-out", reason: "signed-out" });
  });

  test("stays here where the provider has none", async () => {
    const tab = browser.open();
    tab.client.signOut({ returnTo: "/bye" });
    await vi.advanceTimersByTimeAsync(1);
    expect(tab.left).toEqual(["/bye"]);
  });

  test("that the agent could not do has not happened", async () => {
    agent.signIn(browser);
    const tab = browser.open();
    await tab.client.session();
    agent.instead.set("/auth/logout", () => refuse(503, "store_unavailable"));
    await expect(tab.client.signOut({ everywhere: true })).rejects.toMatchObject({ code: "store_unavailable" });
    expect(tab.client.state.status).toBe("signed-in");
    expect(tab.left).toEqual([]);
  });
});

describe("a callback that is a page of the application", () => {
  const callbackPath = "/signed-in";
  const href = "https://app.example/signed-in?code=c&state=good&iss=i&utm_source=x";

  test("is finished once, and the page is what it was", async () => {
    const tab = browser.open({ callbackPath }, href);
    // effects that run twice
    const [one, two] = await Promise.all([tab.client.handleCallback(), tab.client.handleCallback()]);
    expect(one).toBe(two);
    expect(one).toMatchObject({ returnTo: "/deep?a=1#part", error: null, state: { status: "signed-in" } });
    expect(tab.client.state).toBe(one?.state);
    expect(tab.url.href).toBe("https://app.example/deep?a=1#part");
    expect(agent.log).toEqual(["POST /auth/login/end"]);
    expect(posted()).toEqual({ code: "c", state: "good", iss: "i", utm_source: "x" });
    expect(await tab.client.handleCallback()).toBeNull();
  });

  test("the other tabs learn of it", async () => {
    const other = browser.open();
    await other.client.session();
    await browser.open({ callbackPath }, href).client.handleCallback();
    await vi.advanceTimersByTimeAsync(1);
    expect(other.client.state.status).toBe("signed-in");
    expect(agent.count("GET /auth/session")).toBe(1);
  });

  test.each([
    { name: "another page", href: "https://app.example/other?code=c&state=good" },
    { name: "the page without an answer", href: "https://app.example/signed-in?x=1" },
  ])("$name is none", async ({ href }) => {
    const tab = browser.open({ callbackPath }, href);
    expect(await tab.client.handleCallback()).toBeNull();
    expect(agent.log).toEqual([]);
    expect(tab.url.href).toBe(href);
  });

  test("without the option no page is one", async () => {
    const tab = browser.open({}, href);
    expect(await tab.client.handleCallback()).toBeNull();
    expect(agent.log).toEqual([]);
  });

  test("that fails leaves neither code nor state behind, nor touches a session", async () => {
    agent.signIn(browser);
    const tab = browser.open({ callbackPath }, "https://app.example/signed-in?code=c&state=bad");
    expect(await tab.client.handleCallback()).toMatchObject({
      returnTo: "/",
      state: { status: "signed-in" },
      error: { code: "login_state_invalid" },
    });
    expect(tab.url.href).toBe("https://app.example/signed-in");
  });

  test("that the provider refused says why", async () => {
    agent.instead.set("/auth/login/end", () => {
      const refused = { error_code: "authorization_failed", detailed_error: "no", provider_error: "access_denied" };
      return new Response(JSON.stringify(refused), { status: 400 });
    });
    const tab = browser.open({ callbackPath }, "https://app.example/signed-in?error=access_denied&state=good");
    const result = await tab.client.handleCallback();
    expect(result?.error).toMatchObject({ code: "authorization_failed", providerError: "access_denied" });
  });

  test("in an outage can be tried again", async () => {
    const tab = browser.open({ callbackPath }, href);
    agent.instead.set("/auth/login/end", () => refuse(503, "provider_unavailable"));
    expect((await tab.client.handleCallback())?.error?.code).toBe("provider_unavailable");
    expect(tab.url.href).toBe(href);
    agent.instead.clear();
    expect((await tab.client.handleCallback())?.error).toBeNull();
  });

  test("a page on another origin is gone to", async () => {
    agent.instead.set("/auth/login/end", () =>
      Response.json({
        is_logged_in: false,
        id_token_claims: null,
        access_token_expires_in: null,
        session: null,
        return_to: "https://www.example/x",
      }),
    );
    const tab = browser.open({ callbackPath }, href);
    tab.client.handleCallback();
    await vi.advanceTimersByTimeAsync(10);
    expect(tab.left).toEqual(["replace https://www.example/x"]);
  });
});

describe("a callback of the agent's", () => {
  const cases: { mark: string; code: string; providerError: string | null }[] = [
    { mark: "login_state_invalid", code: "login_state_invalid", providerError: null },
    { mark: "provider_unavailable", code: "provider_unavailable", providerError: null },
    { mark: "store_unavailable", code: "store_unavailable", providerError: null },
    { mark: "authorization_failed", code: "authorization_failed", providerError: null },
    { mark: "access_denied", code: "authorization_failed", providerError: "access_denied" },
    { mark: "login_required", code: "authorization_failed", providerError: "login_required" },
    { mark: "Call 555-123 now!", code: "authorization_failed", providerError: null },
    { mark: "<b>", code: "authorization_failed", providerError: null },
    { mark: "", code: "authorization_failed", providerError: null },
  ];
  test.each(cases)("leaves $mark, which is read and removed", async ({ mark, code, providerError }) => {
    const tab = browser.open({}, `https://app.example/?a=%20&login_error=${encodeURIComponent(mark)}#f`);
    const [one, two] = await Promise.all([tab.client.handleCallback(), tab.client.handleCallback()]);
    expect(one).toBe(two);
    expect(one).toMatchObject({
      returnTo: "/?a=%20#f",
      state: { status: "signed-out" },
      error: { code, providerError },
    });
    expect(tab.url.href).toBe("https://app.example/?a=%20#f");
    expect(agent.log).toEqual(["GET /auth/session"]);
  });

  test("says who is signed in all the same", async () => {
    agent.signIn(browser);
    const tab = browser.open({}, "https://app.example/?login_error=access_denied");
    expect(await tab.client.handleCallback()).toMatchObject({ state: { status: "signed-in" } });
  });
});
