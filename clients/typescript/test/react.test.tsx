// @vitest-environment happy-dom
/** `coatroom/react` in the real React: see `src/react.ts`. */

import { act, Component, type ReactNode, StrictMode, Suspense, useState } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CoatroomError } from "../src/errors.js";
import { CoatroomProvider, RequireSession, useCoatroom, useSession, useUser } from "../src/react.js";
import type { Coatroom } from "../src/types.js";
import { ALICE, FakeCoatroom, hide, signedIn, signedOut, UNKNOWN, unreachable } from "./fake_coatroom.js";

const OUTAGE = new CoatroomError("provider_unavailable", { status: 503, retryAfter: 5 });
const DENIED = new CoatroomError("authorization_failed", { status: 400, providerError: "access_denied" });

let container: HTMLElement;
let root: Root;

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  sessionStorage.clear();
  localStorage.clear();
  hide(false);
  container = document.body.appendChild(document.createElement("div"));
  root = createRoot(container);
});
afterEach(async () => {
  await act(async () => root.unmount());
  container.remove();
});

async function render(client: Coatroom, children: ReactNode) {
  await act(async () => root.render(<CoatroomProvider client={client}>{children}</CoatroomProvider>));
}

const shown = () => container.textContent;

async function click(label: string) {
  const button = [...container.querySelectorAll("button")].find(({ textContent }) => textContent === label);
  if (!button) throw new Error(`expected a button "${label}", found ${container.innerHTML}`);
  await act(async () => button.click());
}

const Lost = () => <>{useCoatroom().state.status}</>;
const Status = () => <>{useSession().status}</>;
const Both = () => <>{`${useSession().status} ${useUser()?.name ?? "nobody"}`}</>;

function Health() {
  const { user, error } = useSession();
  return <>{`${user?.sub} ${error?.code ?? "fine"}`}</>;
}

function Name({ rendered = () => {} }: { rendered?: () => void }) {
  rendered();
  return <>{useUser()?.name ?? "nobody"}</>;
}

function Orders({ mounted, rendered }: { mounted: () => void; rendered: () => void }) {
  rendered();
  useState(mounted);
  return <>orders</>;
}

const Page = ({ client }: { client: Coatroom }) => (
  <CoatroomProvider client={client}>
    <i>
      <Both />
    </i>
    <RequireSession pending={<p>one moment</p>}>
      <b>
        <Name />
      </b>
    </RequireSession>
  </CoatroomProvider>
);

class Boundary extends Component<{ children: ReactNode }> {
  override state = { failed: false };
  static getDerivedStateFromError = () => ({ failed: true });
  override render = () => (this.state.failed ? "broken" : this.props.children);
}

describe("the provider", () => {
  test("finishes the sign-in and asks once, in strict mode too", async () => {
    const client = new FakeCoatroom(signedIn());
    await act(async () =>
      root.render(
        <StrictMode>
          <CoatroomProvider client={client}>{null}</CoatroomProvider>
        </StrictMode>,
      ),
    );
    expect(client.calls).toEqual(["handleCallback", "session"]);
  });

  test("is missed with its name", async () => {
    expect(() => renderToString(<Lost />)).toThrow("no <CoatroomProvider> above");
  });
});

describe("the hooks", () => {
  test("follow the session through its life", async () => {
    const client = new FakeCoatroom(signedIn());
    const release = client.hold();
    await render(client, <Status />);
    expect(shown()).toBe("unknown");
    await act(async () => release());
    expect(shown()).toBe("signed-in");
    await act(async () => client.change(signedOut("signed-out")));
    expect(shown()).toBe("signed-out");
  });

  test("tell of an outage beside the session", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(client, <Health />);
    await act(async () => client.change(signedIn(ALICE, OUTAGE)));
    expect(shown()).toBe("alice provider_unavailable");
    await act(async () => client.change(signedIn(ALICE)));
    expect(shown()).toBe("alice fine");
  });

  test("render the user again only when the claims changed", async () => {
    const client = new FakeCoatroom(signedIn());
    const rendered = vi.fn();
    await render(client, <Name rendered={rendered} />);
    expect(shown()).toBe("Alice");
    const before = rendered.mock.calls.length;
    await act(async () => client.change(signedIn(ALICE)));
    await act(async () => client.change(signedIn(ALICE, OUTAGE)));
    expect(rendered).toHaveBeenCalledTimes(before);
    await act(async () => client.change(signedIn({ ...ALICE, name: "Alice B." })));
    expect(shown()).toBe("Alice B.");
    expect(rendered).toHaveBeenCalledTimes(before + 1);
  });

  test("end their subscriptions with their components", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(client, null);
    const before = client.listeners.size;
    await render(client, <Both />);
    expect(client.listeners.size).toBe(before + 2);
    await render(client, null);
    expect(client.listeners.size).toBe(before);
  });

  test("follow the provider to another client", async () => {
    const [first, second] = [new FakeCoatroom(signedIn()), new FakeCoatroom(signedIn({ sub: "bob", name: "Bob" }))];
    await render(first, <Name />);
    await render(second, <Name />);
    expect(shown()).toBe("Bob");
    expect(first.listeners.size).toBe(1);
  });
});

describe("the gate, while nobody knows", () => {
  test("suspends, with one promise", async () => {
    const client = new FakeCoatroom(signedIn());
    const release = client.hold();
    const gate = (
      <Suspense fallback="loading">
        <RequireSession fallback="welcome">orders</RequireSession>
      </Suspense>
    );
    await render(client, gate);
    await render(client, gate);
    expect(shown()).toBe("loading");
    await act(async () => release());
    expect(shown()).toBe("orders");
    expect(client.calls).toEqual(["handleCallback", "session"]);
  });

  test("suspends without a boundary, where no effect ever runs", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(client, <RequireSession>orders</RequireSession>);
    expect(shown()).toBe("orders");
  });

  test("waits without suspending again where nobody will ever know", async () => {
    const client = new FakeCoatroom(UNKNOWN);
    await render(client, <RequireSession>orders</RequireSession>);
    expect(shown()).toBe("");
    await act(async () => client.change(signedIn()));
    expect(shown()).toBe("orders");
  });

  test("shows what is pending instead, where it is told what", async () => {
    const client = new FakeCoatroom(signedIn());
    const release = client.hold();
    await render(
      client,
      <Suspense fallback="suspended">
        <RequireSession pending="one moment">orders</RequireSession>
      </Suspense>,
    );
    expect(shown()).toBe("one moment");
    await act(async () => release());
    expect(shown()).toBe("orders");
  });

  test("shows an outage, signs nobody in, and tries again at a click", async () => {
    const client = new FakeCoatroom(unreachable(OUTAGE));
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    expect(shown()).toBe("Try again");
    expect(client.signIns).toEqual([]);
    client.answers(signedIn());
    await click("Try again");
    expect(shown()).toBe("orders");
  });

  test("shows an outage as the application wants it, and opens when it is over", async () => {
    const client = new FakeCoatroom(unreachable(OUTAGE));
    await render(
      client,
      <RequireSession
        error={(error, retry) => (
          <button type="button" onClick={retry}>
            {error.code}
          </button>
        )}
      >
        orders
      </RequireSession>,
    );
    expect(shown()).toBe("provider_unavailable");
    await click("provider_unavailable");
    expect(client.calls.filter((call) => call === "session")).toHaveLength(2);
    await act(async () => client.change(signedIn()));
    expect(shown()).toBe("orders");
  });
});

describe("the gate, with somebody signed in", () => {
  test("keeps what it shows through refreshes and outages", async () => {
    const client = new FakeCoatroom(signedIn());
    const [mounted, rendered] = [vi.fn(), vi.fn()];
    await render(
      client,
      <RequireSession signIn="auto">
        <Orders mounted={mounted} rendered={rendered} />
      </RequireSession>,
    );
    const before = rendered.mock.calls.length;
    await act(async () => client.change(signedIn(ALICE)));
    await act(async () => client.change(signedIn(ALICE, OUTAGE)));
    expect(shown()).toBe("orders");
    expect(mounted).toHaveBeenCalledTimes(1);
    expect(rendered).toHaveBeenCalledTimes(before);
  });

  test("closes at once when another tab signs out, and does not sign in again by itself", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    await act(async () => client.change(signedOut("signed-out")));
    expect(shown()).toBe("Sign in");
    expect(client.signIns).toEqual([]);
    await click("Sign in");
    expect(client.signIns).toHaveLength(1);
  });

  test("opens again when another tab signs in", async () => {
    const client = new FakeCoatroom(signedOut());
    await render(client, <RequireSession fallback="welcome">orders</RequireSession>);
    expect(shown()).toBe("welcome");
    await act(async () => client.change(signedIn()));
    expect(shown()).toBe("orders");
  });
});

describe("the gate, with nobody signed in", () => {
  test("shows its fallback and stays", async () => {
    const client = new FakeCoatroom(signedOut());
    await render(client, <RequireSession fallback="welcome">orders</RequireSession>);
    expect(shown()).toBe("welcome");
    expect(client.signIns).toEqual([]);
  });

  const ways = [
    { name: "auto", signIn: "auto", sent: undefined },
    { name: "options", signIn: { prompt: "login" }, sent: { prompt: "login" } },
  ] as const;
  test.each(ways)("leaves for the provider once, in strict mode too: $name", async ({ signIn, sent }) => {
    const client = new FakeCoatroom(signedOut());
    // A new object at each render, as people write it.
    const gate = () => (
      <StrictMode>
        <CoatroomProvider client={client}>
          <RequireSession pending="one moment" signIn={typeof signIn === "object" ? { ...signIn } : signIn}>
            orders
          </RequireSession>
          <RequireSession signIn={signIn}>more orders</RequireSession>
        </CoatroomProvider>
      </StrictMode>
    );
    await act(async () => root.render(gate()));
    await act(async () => root.render(gate()));
    expect(shown()).toBe("one moment");
    expect(client.signIns).toEqual([sent]);
  });

  test("leaves when the session expires", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(
      client,
      <RequireSession pending="one moment" signIn="auto">
        orders
      </RequireSession>,
    );
    await act(async () => client.change(signedOut("expired")));
    expect(shown()).toBe("one moment");
    expect(client.signIns).toHaveLength(1);
  });

  test("leaves when somebody looks at the page, and not before", async () => {
    const client = new FakeCoatroom(signedIn());
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    hide(true);
    await act(async () => client.change(signedOut("expired")));
    expect(client.signIns).toEqual([]);
    await act(async () => hide(false));
    expect(client.signIns).toHaveLength(1);
  });

  test("does not leave once somebody looks, when it is gone by then", async () => {
    const client = new FakeCoatroom(signedOut());
    hide(true);
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    await render(client, "welcome");
    await act(async () => hide(false));
    expect(client.signIns).toEqual([]);
  });

  test("shows its fallback on the page after a sign-out, and each click on it begins a sign-in", async () => {
    const before = new FakeCoatroom(signedIn());
    await render(before, null);
    before.signOut();
    const client = new FakeCoatroom(signedOut("never"));
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    expect(shown()).toBe("Sign in");
    expect(client.signIns).toEqual([]);
    await click("Sign in");
    await click("Sign in");
    expect(client.signIns).toHaveLength(2);
  });

  test("shows its fallback when the navigation was given up", async () => {
    vi.useFakeTimers();
    const client = new FakeCoatroom(signedOut());
    await render(
      client,
      <RequireSession signIn="auto" pending="one moment">
        orders
      </RequireSession>,
    );
    expect(shown()).toBe("one moment");
    await act(async () => void vi.advanceTimersByTime(30_000));
    vi.useRealTimers();
    expect(shown()).toBe("Sign in");
    await click("Sign in");
    expect(client.signIns).toHaveLength(2);
  });

  test("shows why a sign-in failed, and does not begin another by itself", async () => {
    const client = new FakeCoatroom(signedOut());
    client.callback = { returnTo: "/", state: signedOut(), error: DENIED };
    const gate = (
      <RequireSession signIn="auto" error={(error) => error.providerError}>
        orders
      </RequireSession>
    );
    await render(client, gate);
    await render(client, null);
    await render(client, gate);
    expect(shown()).toBe("access_denied");
    expect(client.signIns).toEqual([]);
  });

  test("shows why a sign-in cannot be started, and tries again at a click only", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = OUTAGE;
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    expect(shown()).toBe("Try again");
    await click("Try again");
    expect(client.signIns).toHaveLength(2);
    client.signInFails = null;
    await click("Try again");
    expect(client.signIns).toHaveLength(3);
  });

  test("shows its fallback to a user who came back by the back button", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = new CoatroomError("came_back");
    await render(
      client,
      <RequireSession signIn="auto" fallback="welcome">
        orders
      </RequireSession>,
    );
    expect(shown()).toBe("welcome");
    expect(client.signIns).toHaveLength(1);
  });

  test("leaves again at the end of the next session", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = OUTAGE;
    await render(client, <RequireSession signIn="auto">orders</RequireSession>);
    client.signInFails = null;
    await act(async () => client.change(signedIn()));
    expect(shown()).toBe("orders");
    await act(async () => client.change(signedOut("expired")));
    expect(client.signIns).toHaveLength(2);
  });
});

describe("a page that was rendered on a server", () => {
  test("is hydrated without a mismatch, even if it is known already who is signed in", async () => {
    const html = "<i>unknown nobody</i><p>one moment</p>";
    expect(renderToString(<Page client={new FakeCoatroom(UNKNOWN)} />)).toBe(html);
    const client = new FakeCoatroom(signedIn());
    await client.session();
    const host = document.body.appendChild(document.createElement("div"));
    host.innerHTML = html;
    const complaints = vi.fn();
    const errors = vi.spyOn(console, "error");
    const hydrated = await act(async () =>
      hydrateRoot(host, <Page client={client} />, { onRecoverableError: complaints }),
    );
    expect(host.innerHTML).toBe("<i>signed-in Alice</i><b>Alice</b>");
    expect(complaints).not.toHaveBeenCalled();
    expect(errors).not.toHaveBeenCalled();
    await act(async () => hydrated.unmount());
    host.remove();
    errors.mockRestore();
  });
});

test("an error boundary sees nothing of an outage", async () => {
  const client = new FakeCoatroom(unreachable(OUTAGE));
  await render(
    client,
    <Boundary>
      <RequireSession error="closed">orders</RequireSession>
    </Boundary>,
  );
  expect(shown()).toBe("closed");
});
