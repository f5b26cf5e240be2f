// @vitest-environment happy-dom
/** What a guard of any router relies on: see `src/gate.ts`. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CoatroomError } from "../src/errors.js";
import { requireSession } from "../src/gate.js";
import { FakeCoatroom, hide, settle, signedIn, signedOut, unreachable } from "./fake_coatroom.js";

const OUTAGE = new CoatroomError("store_unavailable", { status: 503, retryAfter: 5 });
const DENIED = new CoatroomError("authorization_failed", { status: 400, providerError: "access_denied" });
const CAME_BACK = new CoatroomError("came_back");
const MINUTE = 60_000;

beforeEach(() => {
  sessionStorage.clear();
  hide(false);
});
afterEach(() => {
  vi.unstubAllGlobals();
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

  test("and a sign-in that cannot be started is the guard's error, and the next call tries again", async () => {
    const client = new FakeCoatroom(signedOut());
    client.signInFails = OUTAGE;
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe(OUTAGE);
    client.signInFails = null;
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
    expect(client.signIns).toHaveLength(2);
  });
});

describe("a page that came back from the provider without a session", () => {
  test("with an error does not leave again, and says so once", async () => {
    const client = new FakeCoatroom(signedOut());
    client.callback = { returnTo: "/", state: signedOut(), error: DENIED };
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe(DENIED);
    expect(client.signIns).toEqual([]);
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
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
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("signed-out");
    expect(client.signIns).toEqual([]);
    expect(await outcome(requireSession(client, { signIn: "auto" }))).toBe("pending");
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
