/**
 * What a page does that only somebody who is signed in may see: wait, open, leave for the provider, or say why not.
 *
 * The adapters for React and Vue are made of this, and the guard of any router can be.
 * By itself it never begins two sign-ins at once, and never signs in what has just come back from the provider without a
 * session, a browser that was signed out, or a page that nobody looks at. It never takes an outage for a sign-out.
 *
 * @module
 */

import type { CoatroomError } from "./errors.js";
import type { Coatroom, SessionState, SignedInState, SignedOutState, SignInOptions } from "./types.js";

/** What to do with somebody who is not signed in: leave for the provider, and what to ask it for. */
export type SignIn = "auto" | SignInOptions;

/** What {@link requireSession} does with somebody who is not signed in. */
export interface RequireSessionOptions {
  /**
   * `"auto"`, or what to ask the provider for: leave for the provider. Left out, only say that nobody is signed in.
   *
   * A guard knows where the user is heading, and the address bar does not yet: `signIn: { returnTo: to }`.
   */
  signIn?: SignIn | undefined;
}

/**
 * Who is signed in, for the guard of a router: finishes a sign-in where this page is its callback, asks the agent once,
 * and from then on answers with what is known.
 *
 * ```ts
 * const { user } = await requireSession(coatroom, { signIn: { returnTo: "/orders" } });
 * ```
 *
 * With `signIn` and nobody signed in the page leaves for the provider, and the promise does not resolve, because the
 * page goes away. It resolves with the signed-out state all the same after a sign-out, when the user has just come back
 * without a session, by the *back* button for instance, and when half a minute later the page is still there: to leave
 * again would be a trap. From then on only a click signs in: {@link Coatroom.signIn}.
 *
 * A router may run a guard for a page that the user only points at. Leave `signIn` out there.
 *
 * @throws {CoatroomError} when nobody can say who is signed in, and once when a sign-in cannot be started, or the one
 *   that led to this page failed
 */
export async function requireSession(
  client: Coatroom,
  { signIn }: RequireSessionOptions = {},
): Promise<SignedInState | SignedOutState> {
  const visit = visitOf(client);
  await visit.starting;
  // What could not be answered at the start may be answered now.
  const state = client.state.status === "unknown" ? await client.session() : client.state;
  if (state.status === "unknown") throw state.error;
  if (state.status === "signed-in") return state;
  if (signIn) await visit.leaveUnasked(signIn, () => true);
  const { refusal } = visit;
  if (refusal?.error && !refusal.told) {
    refusal.told = true;
    throw refusal.error;
  }
  return client.state as SignedInState | SignedOutState;
}

/**
 * What happened to one client on this page.
 *
 * @internal
 */
export interface Visit {
  /** Resolves, and never rejects, when the agent has answered, or could not; then it is gone. None on a server. */
  starting?: Promise<void> | undefined;
  /** Kept until somebody is signed in: however many guards ask one after another, none of them is a click. */
  refusal?: Refusal | undefined;
  /**
   * Leaves for the provider, at a click; each begins anew, since nobody tells of a navigation that was given up.
   * Resolves, and never rejects, when that led to nothing: then `refusal` says why.
   */
  leave(signIn?: SignIn): Promise<void>;
  /**
   * The same without a click of the user: once, not after a refusal or a sign-out, and only when somebody looks at the
   * page and it is still wanted then. Resolves when the page stays.
   */
  leaveUnasked(signIn: SignIn, isWanted: () => boolean): Promise<void>;
}

/**
 * Why this page does not leave for the provider by itself: there was a sign-out, or the last time led to an error, or
 * to nothing.
 *
 * @internal
 */
export interface Refusal {
  readonly error?: CoatroomError | null | undefined;
  /** Whether a guard has thrown the error: the next one says who is signed in. */
  told?: boolean;
}

/**
 * The one visit of a client. The first call starts it, unless there is no page.
 *
 * @internal
 */
export function visitOf(client: Coatroom): Visit {
  const visit = visits.get(client) ?? createVisit(client);
  visits.set(client, visit);
  return visit;
}

function createVisit(client: Coatroom): Visit {
  let leaving: Promise<void> | undefined;

  const start = async () => {
    const error = (await client.handleCallback())?.error;
    if (client.state.status === "unknown") await client.session();
    const hasLeft = Date.now() - exchangeMark("sessionStorage", "") < MARK_MILLISECONDS;
    // A sign-in always leads to a page that starts; what a tab knew before a sign-out says nothing new.
    if (client.state.user) exchangeMark("localStorage", "");
    else if (hasLeft || error) visit.refusal = { error };
    visit.starting = undefined;
  };

  const follow = (state: SessionState) => {
    // What is over must not stand in the way of the next sign-in.
    if (state.user) visit.refusal = undefined;
    if ((state as SignedOutState).reason === "signed-out") {
      visit.refusal ??= {};
      exchangeMark("localStorage", 1);
    }
  };

  const visit: Visit = {
    leave: (signIn) =>
      client.signIn(signIn === "auto" ? undefined : signIn).catch((error: CoatroomError) => {
        visit.refusal = error.code === "came_back" ? {} : { error };
      }),
    async leaveUnasked(signIn, isWanted) {
      await visit.starting;
      // A dozen tabs that a browser opens again must not make a dozen sign-ins: the one in front does, and the others
      // hear of it.
      if (document.hidden) {
        await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
      }
      if (client.state.user || !isWanted()) return;
      // Where the provider still knows the user, leaving for it would undo a sign-out. The page after one knows of
      // `never`, and a tab that missed the news of it of `expired`.
      if (exchangeMark("localStorage")) visit.refusal ??= {};
      if (visit.refusal) return;
      exchangeMark("sessionStorage", Date.now());
      leaving ??= new Promise<void>((resolve) => {
        setTimeout(resolve, LEAVING_MILLISECONDS);
        visit.leave(signIn).then(resolve);
      }).then(() => {
        leaving = undefined;
        if (!client.state.user) visit.refusal ??= {};
      });
      await leaving;
    },
  };

  if (typeof document !== "undefined") {
    visit.starting = start();
    // For the life of the client.
    follow(client.state);
    client.subscribe(follow);
  }
  return visit;
}

/**
 * Remembers beyond this page: for this tab, when it left without being asked to; for this browser, whether somebody
 * signed out and nobody has signed in since. Answers what was known before; nothing is falsy, and no time.
 *
 * Where storage is switched off, `login_error` and the agent's own limit of restarts are left.
 */
function exchangeMark(kind: "sessionStorage" | "localStorage", mark?: number | "") {
  try {
    const storage = globalThis[kind];
    const before = storage[MARK];
    if (mark != null) storage[MARK] = mark;
    return before;
  } catch {}
}

const visits = new WeakMap<Coatroom, Visit>();
const MARK = "coatroom";
const MARK_MILLISECONDS = 300_000;
/** How long a page waits to be gone: longer than the agent may take, since a navigation that ends tells nobody. */
const LEAVING_MILLISECONDS = 30_000;
