"use client";
/**
 * Coatroom in React, 18 and later: a provider, hooks, and a gate for what only somebody who is signed in may see.
 *
 * ```tsx
 * const coatroom = createCoatroom();
 *
 * createRoot(document.getElementById("root")!).render(
 *   <CoatroomProvider client={coatroom}>
 *     <RequireSession signIn="auto" pending={<p>One moment …</p>}>
 *       <Orders />
 *     </RequireSession>
 *   </CoatroomProvider>,
 * );
 * ```
 *
 * On a server nobody is signed in yet (`unknown`), and nothing is asked; so is the first render of a page that is
 * hydrated. It never leaves the page by itself unless told to by `signIn`.
 *
 * @module coatroom/react
 */

import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useContext,
  useEffect,
  useReducer,
  useSyncExternalStore,
} from "react";
import type { CoatroomError } from "./errors.js";
import { type SignIn, visitOf } from "./gate.js";
import type { Claims, Coatroom, SessionState, UnknownState } from "./types.js";

export type { SignIn } from "./gate.js";

/** What {@link CoatroomProvider} takes. */
export interface CoatroomProviderProps {
  /** The client, made outside of any component: it lives as long as the page does. */
  client: Coatroom;
  children?: ReactNode;
}

/**
 * Hands the client to everything below, and starts it: finishes a sign-in where this page is its callback, and asks who
 * is signed in.
 */
export function CoatroomProvider({ client, children }: CoatroomProviderProps): ReactElement {
  useEffect(() => {
    visitOf(client);
  }, [client]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/**
 * The client of the nearest {@link CoatroomProvider}.
 *
 * @throws {Error} when there is none above
 */
export function useCoatroom(): Coatroom {
  const client = useContext(ClientContext);
  if (!client) throw new Error("no <CoatroomProvider> above");
  return client;
}

/** Who is signed in, and the clocks of the session; renders again when any of it changed. */
export function useSession(): SessionState {
  const client = useCoatroom();
  return useSyncExternalStore(
    client.subscribe,
    () => client.state,
    () => UNKNOWN,
  );
}

/** The claims of who is signed in, or `null`; renders again only when they changed, not when tokens were refreshed. */
export function useUser(): Claims | null {
  const client = useCoatroom();
  return useSyncExternalStore(
    client.subscribe,
    () => client.state.user,
    () => null,
  );
}

/** What {@link RequireSession} shows, and when. */
export interface RequireSessionProps {
  /** What only somebody who is signed in may see. */
  children?: ReactNode;
  /**
   * Instead of `children` while nobody is signed in: a page that welcomes, or has a button to sign in.
   *
   * @default such a button
   */
  fallback?: ReactNode;
  /**
   * `"auto"`, or what to ask the provider for: leave for the provider when nobody is signed in. What then shows is
   * `pending`. Not so after a sign-out, or when the last sign-in led to nothing: then `fallback` is there.
   */
  signIn?: SignIn;
  /**
   * Shown until it is known who is signed in. Left out, the component suspends: the nearest `<Suspense>` shows its
   * own. Give it where pages are rendered on a server.
   */
  pending?: ReactNode;
  /**
   * Shown when nobody can say who is signed in, as during an outage, and when a sign-in failed. As a function it gets
   * the error, and what to do at a click on *try again*.
   *
   * @default such a button
   */
  error?: ReactNode | ((error: CoatroomError, retry: () => void) => ReactNode);
}

/**
 * Shows its children to somebody who is signed in.
 *
 * An outage does not replace them, and neither does a refresh. When the session ends, in this tab or in another, they
 * are gone at once.
 */
export function RequireSession({ children, fallback, signIn, pending, error }: RequireSessionProps): ReactNode {
  const client = useCoatroom();
  const state = useSession();
  const visit = visitOf(client);
  const [, render] = useReducer((count: number) => count + 1, 0);
  const leave = () => visit.leave(signIn).then(render);
  const unknown = state.status === "unknown";
  const leaves = !unknown && !state.user && !visit.refusal && !!signIn;

  // biome-ignore lint/correctness/useExhaustiveDependencies: what to ask for is written in place, anew at each render
  useEffect(() => {
    let mounted = true;
    if (leaves) visit.leaveUnasked(signIn, () => mounted).then(render);
    return () => {
      mounted = false;
    };
  }, [leaves, visit]);

  if (state.user) return children;
  const failure = unknown ? state.error : visit.refusal?.error;
  if (failure) {
    const retry = () => void (unknown ? client.session() : leave());
    return typeof error === "function" ? error(failure, retry) : (error ?? button("Try again", retry));
  }
  // The same promise at every render, and one that waits for no effect, since a suspended tree has none.
  if (unknown && pending === undefined && visit.starting) throw visit.starting;
  if (unknown || leaves) return pending;
  return fallback ?? button("Sign in", leave);
}

function button(label: string, onClick: () => unknown): ReactNode {
  return createElement("button", { type: "button", onClick }, label);
}

const ClientContext = createContext<Coatroom | null>(null);
const UNKNOWN: UnknownState = { status: "unknown", session: null, user: null, error: null };
