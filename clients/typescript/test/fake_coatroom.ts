/**
 * A client that does what a test tells it to, with the identity rules of the real one: the same state until something
 * changed, and promises that never reject where the interface says so.
 *
 * Makes no request, keeps no time and touches no page.
 */

import type { CoatroomError } from "../src/errors.js";
import type { CallbackResult, Claims, Coatroom, SessionState, SignInOptions, UnknownState } from "../src/types.js";

export const UNKNOWN: UnknownState = { status: "unknown", session: null, user: null, error: null };

export function signedIn(user: Claims = ALICE, error: CoatroomError | null = null): SessionState {
  const later = new Date(1_900_000_000_000);
  const session = {
    id: "abcdefghijk",
    accessTokenExpiresAt: later,
    idleExpiresAt: later,
    expiresAt: later,
    providerExpiresAt: null,
  };
  return { status: "signed-in", session, user, error };
}

export function signedOut(reason: "never" | "signed-out" | "expired" = "never"): SessionState {
  return { status: "signed-out", session: null, user: null, reason, error: null };
}

export function unreachable(error: CoatroomError): SessionState {
  return { status: "unknown", session: null, user: null, error };
}

export const ALICE: Claims = { sub: "alice", name: "Alice" };

export class FakeCoatroom implements Coatroom {
  state: SessionState = UNKNOWN;
  /** What was called, in order. */
  readonly calls: string[] = [];
  /** With what `signIn` was called. */
  readonly signIns: (SignInOptions | undefined)[] = [];
  readonly listeners = new Set<(state: SessionState) => void>();
  /** What `handleCallback` answers, once. */
  callback: CallbackResult | null = null;
  /** Why `signIn` does not leave the page, as long as it does not. */
  signInFails: CoatroomError | null = null;
  #answer: SessionState;
  #held: Promise<void> = Promise.resolve();

  constructor(answer: SessionState) {
    this.#answer = answer;
  }

  /** What the agent answers from now on. */
  answers(answer: SessionState) {
    this.#answer = answer;
  }

  /** Keeps the agent from answering until the function that comes back is called. */
  hold(): () => void {
    let release = () => {};
    this.#held = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  }

  /** What changes by itself: another tab, or time. */
  change(state: SessionState) {
    if (state === this.state) return;
    this.state = state;
    for (const listener of [...this.listeners]) listener(state);
  }

  subscribe = (listener: (state: SessionState) => void) => {
    const own = (state: SessionState) => listener(state);
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  };

  session = async () => {
    this.calls.push("session");
    await this.#held;
    this.change(this.#answer);
    return this.state;
  };

  signIn = (options?: SignInOptions): Promise<never> => {
    this.calls.push("signIn");
    this.signIns.push(options);
    return this.signInFails ? Promise.reject(this.signInFails) : new Promise(() => {});
  };

  handleCallback = async () => {
    this.calls.push("handleCallback");
    const result = this.callback;
    this.callback = null;
    if (result) this.change(result.state);
    return result;
  };

  signOut = (): Promise<never> => {
    this.calls.push("signOut");
    this.change(signedOut("signed-out"));
    return new Promise(() => {});
  };

  refresh = async () => this.state;
  fetch: typeof globalThis.fetch = async () => new Response();
  sessions = async () => [];
  endSession = async () => {};
  close = () => {};
}

/** What the page looks like to the user. */
export function hide(hidden: boolean) {
  Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}

/** Lets everything happen that waits for nothing but promises. */
export async function settle() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}
