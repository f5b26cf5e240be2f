/**
 * Coatroom in Vue, 3.3 and later: a plugin, composables, and the guard of vue-router.
 *
 * ```ts
 * const coatroom = createCoatroom();
 *
 * protectRoutes(router, coatroom, { signIn: "auto", signedOut: "/welcome" });
 * createApp(App).use(coatroomPlugin(coatroom)).use(router).mount("#app");
 * ```
 *
 * On a server nobody is signed in yet (`unknown`), and nothing is asked.
 * It never leaves the page by itself unless told to by `signIn`.
 *
 * @module coatroom/vue
 */

import {
  getCurrentScope,
  type InjectionKey,
  inject,
  onScopeDispose,
  type Plugin,
  provide,
  type ShallowRef,
  shallowReadonly,
  shallowRef,
} from "vue";
import type { CoatroomError } from "./errors.js";
import { requireSession, type SignIn, visitOf } from "./gate.js";
import type { Claims, Coatroom, SessionState } from "./types.js";

export type { SignIn } from "./gate.js";

/** What the client is provided under, for `inject`; {@link useCoatroom} is shorter. */
export const coatroomKey: InjectionKey<Coatroom> = Symbol("coatroom");

/**
 * Hands the client to the whole application, and starts it: finishes a sign-in where this page is its callback, and
 * asks who is signed in.
 */
export function coatroomPlugin(client: Coatroom): Plugin {
  return {
    install(app) {
      app.provide(coatroomKey, client);
      visitOf(client);
    },
  };
}

/** What {@link coatroomPlugin} does, for the component that calls it and everything below. */
export function provideCoatroom(client: Coatroom): void {
  provide(coatroomKey, client);
  visitOf(client);
}

/**
 * The client that was provided.
 *
 * @throws {Error} when none was
 */
export function useCoatroom(): Coatroom {
  const client = inject(coatroomKey, null);
  if (!client) throw new Error("no app.use(coatroomPlugin(client)), no provideCoatroom above");
  return client;
}

/**
 * Who is signed in, and the clocks of the session.
 *
 * @param client where no component is being set up: in a store, or in a scope of your own
 */
export function useSession(client: Coatroom = useCoatroom()): Readonly<ShallowRef<SessionState>> {
  return follow(client, () => client.state);
}

/**
 * The claims of who is signed in, or `null`; changes only when they do, not when tokens were refreshed.
 *
 * @param client where no component is being set up
 */
export function useUser(client: Coatroom = useCoatroom()): Readonly<ShallowRef<Claims | null>> {
  return follow(client, () => client.state.user);
}

function follow<T>(client: Coatroom, read: () => T): Readonly<ShallowRef<T>> {
  const value = shallowRef(read());
  // A server disposes of no scopes, and nothing changes there.
  if (inBrowser()) {
    const unsubscribe = client.subscribe(() => {
      value.value = read();
    });
    if (getCurrentScope()) onScopeDispose(unsubscribe);
  }
  return shallowReadonly(value);
}

/** What {@link protectRoutes} has to know of a route of vue-router. */
export interface ProtectedRoute {
  readonly fullPath: string;
  readonly meta: Readonly<Record<PropertyKey, unknown>> & { readonly requiresSession?: unknown };
}

/** What {@link protectRoutes} has to know of vue-router, 4 and later. */
export interface ProtectedRouter {
  beforeEach(guard: (to: ProtectedRoute) => Promise<string | boolean>): () => void;
  resolve(to: string): { readonly href: string };
  replace(to: string): Promise<unknown>;
  readonly currentRoute: { readonly value: ProtectedRoute };
}

/** Which routes {@link protectRoutes} protects, and where others are sent. */
export interface ProtectRoutesOptions {
  /**
   * Whether only somebody who is signed in may see the route.
   *
   * @default whether its `meta` has `requiresSession`
   */
  requires?: (to: ProtectedRoute) => boolean;
  /**
   * `"auto"`, or what to ask the provider for: leave for the provider when nobody is signed in, and come back to the
   * route. Not so after a sign-out, or when the last sign-in led to nothing.
   */
  signIn?: SignIn;
  /** The path of a route for those who are not signed in. Left out, the navigation is given up. */
  signedOut?: string;
  /**
   * The path of a route for when nobody can say who is signed in, as during an outage, or a sign-in failed. Left out,
   * the navigation fails with the error, which `router.onError` hears.
   */
  failed?: string | ((error: CoatroomError) => string);
}

/**
 * Lets only somebody who is signed in see the routes that require it. When the session ends while one of them is shown,
 * in this tab or in another, it makes room for `signedOut`.
 *
 * Call it before `app.use(router)`, which navigates.
 *
 * @returns a function that ends the protection
 */
export function protectRoutes(
  router: ProtectedRouter,
  client: Coatroom,
  { requires = ({ meta }) => !!meta.requiresSession, signIn, signedOut, failed }: ProtectRoutesOptions = {},
): () => void {
  async function admit(to: ProtectedRoute): Promise<string | boolean> {
    if (!inBrowser() || !requires(to)) return true;
    try {
      const returnTo = router.resolve(to.fullPath).href;
      const options = signIn && { signIn: { returnTo, ...(signIn === "auto" ? {} : signIn) } };
      const { status } = await requireSession(client, options);
      return status === "signed-in" || (signedOut ?? false);
    } catch (error) {
      if (failed === undefined) throw error;
      return typeof failed === "string" ? failed : failed(error as CoatroomError);
    }
  }

  async function makeRoom(state: SessionState) {
    const here = router.currentRoute.value;
    // At the start there is a navigation under way, and its guard has its own answer.
    if (state.status !== "signed-out" || state.reason === "never" || !requires(here)) return;
    const answer = state.reason === "expired" ? await admit(here).catch(() => signedOut) : signedOut;
    if (typeof answer === "string") await router.replace(answer);
  }

  const stopGuard = router.beforeEach(admit);
  const unsubscribe = client.subscribe(makeRoom);
  return () => {
    stopGuard();
    unsubscribe();
  };
}

const inBrowser = () => typeof document !== "undefined";
