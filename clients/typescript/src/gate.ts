/**
 * What a page does that only somebody who is signed in may see: wait, open, leave for the provider, or say why not.
 *
 * The adapters for React and Vue are made of this, and the guard of any router can be.
 * It never begins two sign-ins at once. It never signs in by itself what has just come back from the provider without a
 * session, or a page that nobody looks at. It never takes an outage for a sign-out.
 *
 * @module
 */

import type { CoatroomError } from "./errors.js";
import type { Coatroom, SignedInState, SignedOutState, SignInOptions } from "./types.js";

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
 * page goes away. It resolves with the signed-out state all the same when the user has just come back without a
 * session, by the *back* button for instance: to leave again would be a trap. The next call leaves.
 *
 * @throws {CoatroomError} when nobody can say who is signed in, when a sign-in cannot be started, and once when the one
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
  if (signIn) await (visit.refusal?.told ? visit.leave(signIn) : visit.leaveUnasked(signIn));
  const { refusal } = visit;
  if (refusal) refusal.told = true;
  if (refusal?.error) throw refusal.error;
  return client.state as SignedInState | SignedOutState;
}

/**
 * What happened to one client on this page.
 *
 * @internal
 */
export interface Visit {
  /** Resolves, and never rejects, when the agent has answered, or could not; then it is gone. None on a server. */
  starting: Promise<void> | undefined;
  refusal: Refusal | null;
  /** Leaves for the provider; resolves, and never rejects, when the page stays: then `refusal` says why. */
  leave(signIn?: SignIn): Promise<void>;
  /** The same without a click of the user: not after a refusal, and only when somebody looks at the page. */
  leaveUnasked(signIn: SignIn): Promise<void>;
}

/**
 * Why this page does not leave for the provider by itself: the last time led to an error, or to nothing.
 *
 * @internal
 */
export interface Refusal {
  readonly error: CoatroomError | null | undefined;
  /** Whether a guard has said so: when it is asked again, the user wants to leave. */
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
    const result = await client.handleCallback();
    if (client.state.status === "unknown") await client.session();
    if ((exchangeMark(0) || result?.error) && !client.state.user) visit.refusal = { error: result?.error };
    visit.starting = undefined;
  };

  const visit: Visit = {
    starting: undefined,
    refusal: null,
    leave(signIn) {
      leaving ??= client.signIn(signIn === "auto" ? undefined : signIn).catch((error: CoatroomError) => {
        leaving = undefined;
        visit.refusal = { error: error.code === "came_back" ? undefined : error };
      });
      return leaving;
    },
    async leaveUnasked(signIn) {
      await visit.starting;
      // A dozen tabs that a browser opens again must not make a dozen sign-ins: the one in front does, and the others
      // hear of it.
      if (document.hidden) {
        await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
      }
      if (visit.refusal || client.state.user) return;
      exchangeMark(Date.now());
      await visit.leave(signIn);
    },
  };

  if (typeof document !== "undefined") {
    visit.starting = start();
    // For the life of the client: what is over must not stand in the way of the next sign-in.
    client.subscribe((state) => {
      if (state.user) visit.refusal = null;
    });
  }
  return visit;
}

/**
 * Remembers, for this tab and beyond this page, when it left without being asked to, and says whether it had before, a
 * short time ago. Where storage is switched off, `login_error` and the agent's own limit of restarts are left.
 */
function exchangeMark(now: number): boolean {
  try {
    const age = Date.now() - sessionStorage[MARK];
    sessionStorage[MARK] = now;
    return age < MARK_MILLISECONDS;
  } catch {
    return false;
  }
}

const visits = new WeakMap<Coatroom, Visit>();
const MARK = "coatroom:left";
const MARK_MILLISECONDS = 300_000;
