// @vitest-environment happy-dom
/** What a guard of any router relies on: see `src/gate.ts`. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CoatroomError } from "../src/errors.js";
import { requireSession, visitOf } from "../src/gate.js";
import { FakeCoatroom, hide, settle, signedIn, signedOut, unreachable } from "./fake_coatroom.js";

const OUTAGE = new CoatroomError("store_unavailable", { status: 503, retryAfter: 5 });
const DENIED = new CoatroomError("authorization_failed", { status: 400, providerError: "access_denied" });
const CAME_BACK = new CoatroomError("came_back");
const MINUTE = 60_000;

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
  hide(false);
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** What came of a promise so far; one that leaves the page stays pending. */
async function outcome(promise: Promise<unknown>): Promise<unknown> {
  let result: unknown = "pending";
  promise.then(
    (value) => {
      result = (value as { status: string }).status;
    },
    (error) => {
      result = error;
    },
  );
  await settle();
  return result;
}

describe("somebody who is signed in", () => {
  test("is let in, and the agent is asked once for all guards", async () => {
    const client = new FakeCoatroom(signedIn());
    const both = await Promise.all([requireSession(client), requireSession(client, { signIn: "auto" })]);
    expect(both.map(({ user }) => user?.sub)).toEqual(["alice", "alice"]);
    await requireSession(client);
    expect(client.calls).toEqual(["handleCallback", "session"]);
  });

  test("is let in without a question where the callback told already", async () => {
    const client = new FakeCoatroom(signedOut());
    client.callback = { returnTo: "/orders", state: signedIn(), error: null };
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-in");
    expect(client.calls).toEqual(["handleCallback"]);
  });

  test("is let in during an outage", async () => {
    const client = new FakeCoatroom(signedIn(undefined, OUTAGE));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-in");
  });
});

describe("nobody signed in", () => {
  test("is said where signing in was not asked for", async () => {
    const client = new FakeCoatroom(signedOut());
    expect(await outcome(requireSession(client))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
  });

  const options = [
    { name: "auto", signIn: "auto", sent: undefined },
    { name: "options", signIn: { returnTo: "/orders?page=2#top" }, sent: { returnTo: "/orders?page=2#top" } },
  ] as const;
  test.each(options)("leaves for the provider: $name", async ({ signIn, sent }) => {
    const client = new FakeCoatroom(signedOut());
    expect(await outcome(requireSession(client, { signIn }))).toBe("pending");
    expect(client.signIns).toEqual([sent]);
  });

  test("leaves once, however many guards ask", async () => {
    const client = new FakeCoatroom(signedOut());
    for (let guard = 0; guard < 3; guard++) requireSession(client, { signIn: "auto" });
    await settle();
    requireSession(client, { signIn: "auto" });
    await settle();
    expect(client.signIns).toHaveLength(1);
  });

  test("and an outage is the guard's error, and the next call asks again", async () => {
    const client = new FakeCoatroom(unreachable(OUTAGE));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe(OUTAGE);
    expect(client.signIns).toEqual([]);
    client.answers(signedIn());
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-in");
  });

  test("and a sign-in that cannot be started is the guard's error, and no later guard begins one", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = OUTAGE;
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe(OUTAGE);
    client.signInFails = null;
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toHaveLength(1);
  });

  test("is said when half a minute later the page is still there: a navigation was given up", async () => {
    vi.useFakeTimers();
    const client = new FakeCoatroom(signedOut());
    const guard = requireSession(client, { signIn: "auto" });
    expect(await outcome(guard)).toBe("pending");
    vi.advanceTimersByTime(29_999);
    expect(await outcome(guard)).toBe("pending");
    vi.advanceTimersByTime(1);
    expect(await outcome(guard)).toBe("signed-out");
    expect(client.signIns).toHaveLength(1);
  });

  test("and each click begins anew, whatever became of the last", async () => {
    const client = new FakeCoatroom(signedOut());
    requireSession(client, { signIn: "auto" });
    await settle();
    const visit = visitOf(client);
    visit.leave();
    visit.leave({ prompt: "login" });
    expect(client.signIns).toEqual([undefined, undefined, { prompt: "login" }]);
  });
});

describe("after a sign-out", () => {
  /** The same tab, or another, after the next page was loaded: nothing is left but the storage. */
  const load = (answer = signedOut("never")) => new FakeCoatroom(answer);

  async function signOut() {
    const client = load(signedIn());
    await requireSession(client, { signIn: "auto" });
    client.signOut();
    return client;
  }

  test("the next page does not leave, and neither does a reload of it", async () => {
    await signOut();
    for (let page = 0; page < 3; page++) {
      const client = load();
      expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
      expect(client.signIns).toEqual([]);
    }
  });

  test("the page itself does not leave, also where storage is switched off", async () => {
    vi.stubGlobal("localStorage", undefined);
    const client = await signOut();
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
  });

  test("in another tab a guard that runs does not leave", async () => {
    const client = load(signedIn());
    await requireSession(client, { signIn: "auto" });
    client.change(signedOut("signed-out"));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
  });

  test("a tab that missed the news and took it for an expiry does not leave", async () => {
    const other = load(signedIn());
    await requireSession(other, { signIn: "auto" });
    await signOut();
    // What it knows of the user is old, and clears nothing.
    other.change(signedIn(undefined, OUTAGE));
    other.change(signedOut("expired"));
    expect(await outcome(requireSession(other, { signIn: "auto" }))).toBe("signed-out");
    expect(other.signIns).toEqual([]);
  });

  test("a page that was opened after it and asks for the first time now does not leave", async () => {
    const client = load(signedOut("signed-out"));
    await client.session();
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
  });

  test("and the next sign-in, an expiry leaves again", async () => {
    await signOut();
    const client = load(signedIn());
    await requireSession(client, { signIn: "auto" });
    client.change(signedOut("expired"));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
    expect(client.signIns).toHaveLength(1);
  });
});

describe("a page that came back from the provider without a session", () => {
  test("with an error does not leave again, and says so once", async () => {
    const client = new FakeCoatroom(signedOut());
    client.callback = { returnTo: "/", state: signedOut(), error: DENIED };
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe(DENIED);
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
  });

  test("by the back button, as the browser kept it, does not leave again", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = CAME_BACK;
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toHaveLength(1);
  });

  test("by the back button, loaded anew, does not leave again", async () => {
    requireSession(new FakeCoatroom(signedOut()), { signIn: "auto" });
    await settle();
    const client = new FakeCoatroom(signedOut());
    // The guards of a parent and of its child run one after another in one navigation.
    for (let guard = 0; guard < 3; guard++) {
      expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    }
    expect(client.signIns).toEqual([]);
  });

  test("leaves again after a reload", async () => {
    for (let load = 0; load < 2; load++) {
      requireSession(new FakeCoatroom(signedOut()), { signIn: "auto" });
      await settle();
    }
    const client = new FakeCoatroom(signedOut());
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
  });

  test("leaves again when that was long ago", async () => {
    const now = vi.spyOn(Date, "now");
    now.mockReturnValue(1_800_000_000_000);
    requireSession(new FakeCoatroom(signedOut()), { signIn: "auto" });
    await settle();
    now.mockReturnValue(1_800_000_000_000 + 5 * MINUTE);
    const client = new FakeCoatroom(signedOut());
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
    now.mockRestore();
  });

  test("leaves again when somebody was signed in meanwhile", async () => {
    const client = new FakeCoatroom(signedOut());
    client.callback = { returnTo: "/", state: signedOut(), error: DENIED };
    await outcome(requireSession(client));
    client.change(signedIn());
    client.change(signedOut("expired"));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
  });

  test("lets an older session in", async () => {
    const client = new FakeCoatroom(signedIn());
    client.callback = { returnTo: "/", state: signedIn(), error: DENIED };
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-in");
    client.change(signedOut("expired"));
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
  });

  test("leaves where storage is switched off, as the agent limits restarts", async () => {
    vi.stubGlobal("sessionStorage", undefined);
    const client = new FakeCoatroom(signedOut());
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
    expect(client.signIns).toHaveLength(1);
  });
});

describe("a page that nobody looks at", () => {
  test("does not leave until somebody does", async () => {
    hide(true);
    const client = new FakeCoatroom(signedOut());
    const guard = requireSession(client, { signIn: "auto" });
    expect(await outcome(guard)).toBe("pending");
    expect(client.signIns).toEqual([]);
    hide(false);
    await settle();
    expect(client.signIns).toHaveLength(1);
  });

  test("does not leave at all when another tab has signed in", async () => {
    hide(true);
    const client = new FakeCoatroom(signedOut());
    const guard = requireSession(client, { signIn: "auto" });
    await settle();
    client.change(signedIn());
    hide(false);
    expect(await outcome(guard)).toBe("signed-in");
    expect(client.signIns).toEqual([]);
  });
});
