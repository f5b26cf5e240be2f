// @vitest-environment happy-dom
/** `coatroom/vue` in the real Vue, and the guard in a router of the test's own: see `src/vue.ts`. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type App, createApp, defineComponent, effectScope, h, nextTick, watch } from "vue";
import { CoatroomError } from "../src/errors.js";
import type { Coatroom } from "../src/types.js";
import {
  coatroomPlugin,
  type ProtectedRoute,
  type ProtectRoutesOptions,
  protectRoutes,
  provideCoatroom,
  useCoatroom,
  useSession,
  useUser,
} from "../src/vue.js";
import { ALICE, FakeCoatroom, hide, settle, signedIn, signedOut, unreachable } from "./fake_coatroom.js";

const OUTAGE = new CoatroomError("provider_unavailable", { status: 503, retryAfter: 5 });
const DENIED = new CoatroomError("authorization_failed", { status: 400, providerError: "access_denied" });

const container = document.createElement("div");
let app: App | null = null;

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
  hide(false);
});
afterEach(() => {
  app?.unmount();
  app = null;
  vi.restoreAllMocks();
});

async function mount(client: Coatroom, setup: () => () => unknown) {
  app = createApp(defineComponent({ setup: () => setup() as () => string }));
  app.use(coatroomPlugin(client)).mount(container);
  await settle();
}

describe("the composables", () => {
  test("follow the session through its life", async () => {
    const client = new FakeCoatroom(signedIn());
    const release = client.hold();
    await mount(client, () => {
      const session = useSession();
      return () => session.value.status;
    });
    expect(container.textContent).toBe("unknown");
    release();
    await settle();
    expect(container.textContent).toBe("signed-in");
    client.change(signedOut("signed-out"));
    await nextTick();
    expect(container.textContent).toBe("signed-out");
    expect(client.calls).toEqual(["handleCallback", "session"]);
  });

  test("tell of an outage beside the session", async () => {
    const client = new FakeCoatroom(signedIn());
    await mount(client, () => {
      const session = useSession();
      return () => `${session.value.user?.sub} ${session.value.error?.code ?? "fine"}`;
    });
    client.change(signedIn(ALICE, OUTAGE));
    await nextTick();
    expect(container.textContent).toBe("alice provider_unavailable");
  });

  test("render the user again only when the claims changed", async () => {
    const client = new FakeCoatroom(signedIn());
    let renders = 0;
    await mount(client, () => {
      const user = useUser();
      return () => {
        renders++;
        return user.value?.name ?? "nobody";
      };
    });
    const before = renders;
    client.change(signedIn(ALICE, OUTAGE));
    await nextTick();
    expect(renders).toBe(before);
    client.change(signedIn({ ...ALICE, name: "Alice B." }));
    await nextTick();
    expect(container.textContent).toBe("Alice B.");
  });

  test("end their subscriptions with their component", async () => {
    const client = new FakeCoatroom(signedIn());
    await mount(client, () => {
      const [session, user] = [useSession(), useUser()];
      return () => `${session.value.status} ${user.value?.sub}`;
    });
    expect(client.listeners.size).toBe(3);
    app?.unmount();
    app = null;
    expect(client.listeners.size).toBe(1);
  });

  test("work in a scope of one's own, with the client handed over", async () => {
    const client = new FakeCoatroom(signedIn());
    const warn = vi.spyOn(console, "warn");
    const scope = effectScope();
    const seen: unknown[] = [];
    scope.run(() => watch(useUser(client), (user) => seen.push(user?.sub), { flush: "sync" }));
    client.change(signedIn());
    scope.stop();
    client.change(signedOut());
    expect(seen).toEqual(["alice"]);
    expect(client.listeners.size).toBe(0);
    expect(useSession(client).value.status).toBe("signed-out");
    expect(warn).not.toHaveBeenCalled();
  });

  test("can be provided by a component", async () => {
    const client = new FakeCoatroom(signedIn());
    const Child = defineComponent(() => {
      const user = useUser();
      return () => user.value?.name;
    });
    app = createApp(
      defineComponent(() => {
        provideCoatroom(client);
        return () => h(Child);
      }),
    );
    app.mount(container);
    await settle();
    expect(container.textContent).toBe("Alice");
  });

  test("hand out a state that nobody writes to", async () => {
    const client = new FakeCoatroom(signedIn());
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const session = useSession(client);
    (session as { value: unknown }).value = null;
    expect(session.value).toBe(client.state);
    expect(warn).toHaveBeenCalled();
  });

  test("miss the client with its name", () => {
    createApp({}).runWithContext(() => expect(() => useCoatroom()).toThrow("app.use(coatroomPlugin(client))"));
  });
});

describe("the guard", () => {
  const PUBLIC: ProtectedRoute = { fullPath: "/about", meta: {} };
  const ORDERS: ProtectedRoute = { fullPath: "/orders?page=2#top", meta: { requiresSession: true } };

  /** As much of a router as the guard may know, mounted at `/shop`. */
  function routerAt(route: ProtectedRoute) {
    let guard: ((to: ProtectedRoute) => Promise<string | boolean>) | null = null;
    const replaced: string[] = [];
    return {
      currentRoute: { value: route },
      replaced,
      beforeEach(next: (to: ProtectedRoute) => Promise<string | boolean>) {
        guard = next;
        return () => {
          guard = null;
        };
      },
      resolve: (to: string) => ({ href: `/shop${to}` }),
      async replace(to: string) {
        replaced.push(to);
      },
      guarded: () => guard !== null,
      async navigate(to: ProtectedRoute): Promise<unknown> {
        let outcome: unknown = "pending";
        guard?.(to).then(
          (answer) => {
            outcome = answer;
          },
          (error) => {
            outcome = error;
          },
        );
        await settle();
        return outcome;
      },
    };
  }

  const failed = new FakeCoatroom(signedOut());
  const cases: {
    name: string;
    client: () => FakeCoatroom;
    to?: ProtectedRoute;
    options: ProtectRoutesOptions;
    outcome: unknown;
    signIns?: unknown[];
  }[] = [
    { name: "public routes are open", client: out, to: PUBLIC, options: { signIn: "auto" }, outcome: true },
    { name: "signed in", client: () => new FakeCoatroom(signedIn()), options: {}, outcome: true },
    { name: "signed out, nowhere to go", client: out, options: {}, outcome: false },
    { name: "signed out, with a place to go", client: out, options: { signedOut: "/welcome" }, outcome: "/welcome" },
    {
      name: "signed out, leaves and comes back to the route under the router's base",
      client: out,
      options: { signIn: "auto", signedOut: "/welcome" },
      outcome: "pending",
      signIns: [{ returnTo: "/shop/orders?page=2#top" }],
    },
    {
      name: "signed out, leaves with options",
      client: out,
      options: { signIn: { acrValues: "mfa" } },
      outcome: "pending",
      signIns: [{ returnTo: "/shop/orders?page=2#top", acrValues: "mfa" }],
    },
    {
      name: "which routes is the application's to say",
      client: out,
      to: PUBLIC,
      options: { requires: ({ fullPath }) => fullPath !== "/", signedOut: "/" },
      outcome: "/",
    },
    { name: "outage", client: outage, options: { signIn: "auto" }, outcome: OUTAGE },
    { name: "outage, with a page", client: outage, options: { signIn: "auto", failed: "/sorry" }, outcome: "/sorry" },
    {
      name: "failed sign-in, with a page for each code",
      client: denied,
      options: { signIn: "auto", failed: ({ code }) => `/sorry/${code}` },
      outcome: "/sorry/authorization_failed",
    },
  ];
  test.each(cases)("$name", async ({ client: make, to = ORDERS, options, outcome, signIns = [] }) => {
    const client = make();
    const router = routerAt(PUBLIC);
    protectRoutes(router, client, options);
    expect(await router.navigate(to)).toBe(outcome);
    expect(client.signIns).toEqual(signIns);
  });

  const rooms = [
    { name: "signed out elsewhere", state: signedOut("signed-out"), replaced: ["/welcome"], signIns: 0 },
    { name: "expired", state: signedOut("expired"), replaced: [], signIns: 1 },
    { name: "never signed in, the navigation's own business", state: signedOut("never"), replaced: [], signIns: 0 },
  ];
  test.each(rooms)("makes room when the session ends on a protected route: $name", async (room) => {
    const client = new FakeCoatroom(signedIn());
    const router = routerAt(ORDERS);
    protectRoutes(router, client, { signIn: "auto", signedOut: "/welcome" });
    await router.navigate(ORDERS);
    client.change(room.state);
    await settle();
    expect(router.replaced).toEqual(room.replaced);
    expect(client.signIns).toHaveLength(room.signIns);
  });

  test("does not leave on the page after a sign-out, at no navigation", async () => {
    const before = new FakeCoatroom(signedIn());
    const router = routerAt(ORDERS);
    protectRoutes(router, before, { signIn: "auto", signedOut: "/welcome" });
    await router.navigate(ORDERS);
    before.signOut();
    const client = out();
    protectRoutes(router, client, { signIn: "auto", signedOut: "/welcome" });
    for (let times = 0; times < 2; times++) expect(await router.navigate(ORDERS)).toBe("/welcome");
    expect(client.signIns).toEqual([]);
  });

  test("makes room for the page of the signed-out when the sign-in after an expiry cannot be started", async () => {
    const client = new FakeCoatroom(signedIn());
    const router = routerAt(ORDERS);
    protectRoutes(router, client, { signIn: "auto", signedOut: "/welcome" });
    await router.navigate(ORDERS);
    client.signInFails = OUTAGE;
    client.change(signedOut("expired"));
    await settle();
    expect(router.replaced).toEqual(["/welcome"]);
  });

  test.each(["signed-out", "expired"] as const)("leaves public routes alone at the end: %s", async (reason) => {
    const client = new FakeCoatroom(signedIn());
    const router = routerAt(PUBLIC);
    protectRoutes(router, client, { signIn: "auto", signedOut: "/welcome" });
    await router.navigate(PUBLIC);
    client.change(signedOut(reason));
    await settle();
    expect(router.replaced).toEqual([]);
    expect(client.signIns).toEqual([]);
  });

  test("ends when it is told to", async () => {
    const router = routerAt(PUBLIC);
    protectRoutes(router, failed)();
    expect(router.guarded()).toBe(false);
    expect(failed.listeners.size).toBe(0);
  });

  function out() {
    return new FakeCoatroom(signedOut());
  }
  function outage() {
    return new FakeCoatroom(unreachable(OUTAGE));
  }
  function denied() {
    const client = out();
    client.callback = { returnTo: "/", state: signedOut(), error: DENIED };
    return client;
  }
});
