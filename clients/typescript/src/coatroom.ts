/**
 * `createCoatroom`: the session as this tab knows it, and when to ask again.
 *
 * Nobody is signed out but by the agent's own word (`session`, or `logout`): no outage, no answer of an API and no
 * clock of this machine does it. Asks for nothing before the application did, and for nothing by itself while nobody
 * looks at the page.
 *
 * @module
 */

import { callsOf, type SessionEntryJson, type SessionJson } from "./agent.js";
import { callbacksOf } from "./callback.js";
import { CoatroomError } from "./errors.js";
import { fetchOf } from "./fetch.js";
import { isAlike, ROUNDING } from "./state.js";
import { joinTabs } from "./tabs.js";
import type {
  Claims,
  Coatroom,
  CoatroomOptions,
  SessionEntry,
  SessionState,
  SignedOutReason,
  SignedOutState,
  SignInOptions,
  SignOutOptions,
} from "./types.js";
import { type Age, ageSince, type World } from "./world.js";

/**
 * A client of the agent at {@link CoatroomOptions.baseUrl}.
 *
 * Makes no request by itself: call {@link Coatroom.handleCallback} and {@link Coatroom.session} when the application
 * starts. On a server it does nothing by itself, and its state stays `unknown`.
 *
 * ```ts
 * const coatroom = createCoatroom();
 * await coatroom.handleCallback();
 * const { user } = await coatroom.session();
 * ```
 */
export function createCoatroom(options: CoatroomOptions = {}): Coatroom {
  return createIn(globalThis, options);
}

/**
 * A client in one tab of `world`.
 *
 * @internal
 */
export function createIn(world: World, options: CoatroomOptions): Coatroom {
  const { csrfHeader = "token-handler-version", refreshAhead = 30, timeout = 20_000 } = options;
  const base = new URL(options.baseUrl ?? "/auth", world.location?.href ?? "http://localhost");
  const baseUrl = base.href.replace(/\/$/, "");
  const send: typeof fetch = (...call) => (options.fetch ?? world.fetch)(...call);
  const call = callsOf(world, send, baseUrl, csrfHeader, timeout);
  const closing = new AbortController();
  const tabs = joinTabs<News>(world, `coatroom:${options.name ?? baseUrl}`, 2 * timeout, heard);

  const listeners = new Set<(state: SessionState) => void>();
  let state: SessionState = { ...NOTHING, status: "unknown" };
  /** How old `state` is, and how many milliseconds are left of the access token and of the session. */
  let learnt: Age = never;
  let tokenLeft: Age = none;
  let endLeft: Age = never;
  /** How many milliseconds before its end the token is renewed, and whether that was tried and gained nothing. */
  let dueAt = 0;
  let isSpent = false;
  /** Failures in a row, and how many milliseconds are left until the next try. */
  let failures = 0;
  let restLeft: Age = none;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking: Promise<SessionState> | undefined;
  const renewing: Record<string, Promise<CoatroomError | null>> = {};

  // ---- what is known

  function become(next: SessionState): void {
    if (!isAlike(state, next)) {
      state = next;
      for (const listener of [...listeners]) {
        try {
          listener(state);
        } catch (error) {
          // one listener's mistake is reported, and is no other's
          Promise.reject(error);
        }
      }
    }
    wake();
  }

  function learn(
    { session, access_token_expires_in: life, id_token_claims: user, provider }: SessionJson,
    since: Age,
    reason?: SignedOutReason,
  ): void {
    failures = 0;
    restLeft = none;
    learnt = since;
    const before = tokenLeft();
    tokenLeft = none;
    endLeft = never;
    if (session) {
      const { id, idle_expires_in: idle, expires_in: absolute, provider_expires_in: refreshable } = session;
      const countdown = (seconds: number) => () => Math.max(0, 1000 * seconds - since());
      tokenLeft = countdown(life ?? Infinity);
      endLeft = countdown(Math.min(idle, absolute));
      // half the idle time ends a token as well, and no timer can put that off
      if (tokenLeft() > before + ROUNDING) {
        dueAt = Math.min(1000 * (refreshAhead as number), tokenLeft() / 4);
        isSpent = false;
      }
      const at = <T>(seconds: T) =>
        (seconds == null ? null : new Date(world.Date.now() - since() + 1000 * (seconds as number))) as
          | Date
          | (T & null);
      become({
        ...NOTHING,
        status: "signed-in",
        user: (JSON.stringify(user) === JSON.stringify(state.user) ? state.user : user) as Claims,
        session: {
          id,
          provider,
          accessTokenExpiresAt: at(life),
          idleExpiresAt: at(idle),
          expiresAt: at(absolute),
          providerExpiresAt: at(refreshable),
        },
      });
    } else {
      become({
        ...NOTHING,
        status: "signed-out",
        reason: reason ?? (state.session ? "expired" : ((state as SignedOutState).reason ?? "never")),
      });
    }
  }

  /** What was known stays. */
  function fail(error: CoatroomError): void {
    const since = ageSince(world);
    // users who saw one outage do not come back at one moment
    const pause = (error.retryAfter ?? Math.min(5 * 2 ** failures++, 60)) * (1000 + 250 * Math.random());
    restLeft = () => pause - since();
    isSpent = false;
    become({ ...state, error });
  }

  // ---- what the tabs tell each other

  function heard({ answer, error, at, reason }: Partial<News>, isNewer: boolean): void {
    if (error) fail(new CoatroomError(error.code, error));
    else if (answer && isNewer) {
      isSpent = true;
      learn(answer, ageSince(world, at), reason);
    } else if (answer?.session?.id !== state.session?.id || !answer) session();
  }

  function learnAndTell(answer: SessionJson, since: Age, reason?: SignedOutReason): void {
    learn(answer, since, reason);
    tabs.tell({ answer: answer.session ? answer : ({} as SessionJson), at: world.Date.now() - since(), reason });
  }

  /** A refresh, a sign-in or a sign-out. Where it was overtaken by another, who knows which of the two came last. */
  async function change<T extends SessionJson>(work: () => Promise<T>, reason?: SignedOutReason): Promise<T> {
    const generation = tabs.generation();
    const since = ageSince(world);
    const answer = await work();
    const isLast = tabs.generation() === generation;
    tabs.advance();
    if (isLast) learnAndTell(answer, since, reason);
    else await session(reason);
    return answer;
  }

  // ---- what is asked

  async function session(reason?: SignedOutReason): Promise<SessionState> {
    // a server has no session of its own
    if (!world.location) return state;
    asking ??= ask(reason).finally(() => {
      asking = undefined;
    });
    return asking;
  }

  async function ask(reason?: SignedOutReason, tries = 3): Promise<SessionState> {
    const generation = tabs.generation();
    const since = ageSince(world);
    try {
      const answer = await call("GET", "/session");
      // somebody signed in or out meanwhile: who knows which of the two this answer saw
      if (--tries && tabs.generation() !== generation) return ask(reason, tries);
      tabs.caughtUp(generation);
      const isNews = answer.session?.id !== state.session?.id;
      (isNews ? learnAndTell : learn)(answer, since, reason);
    } catch (error) {
      fail(error as CoatroomError);
    }
    return state;
  }

  /** The agent or the proxy said that there is no session: it may have spoken of an older one, so ask. */
  async function ended(): Promise<void> {
    // what was asked before that was said may be older
    await asking;
    if (state.status !== "signed-out") await session();
  }

  /**
   * New tokens, unless there were some since `generation`; what stood against it, or `null`. What nobody asked for, and
   * what a hidden page does, is no sign of the user.
   */
  function renew(generation: number, isUnasked?: boolean): Promise<CoatroomError | null> {
    const body = isUnasked || world.document?.hidden ? "background=true" : "";
    const key = generation + body;
    const known = state.error;
    renewing[key] ??= tabs
      .alone(async () => {
        if (tabs.generation() > generation) return null;
        // a failure is everybody's: who waited does not try the same once more, nor who comes while the agent rests
        if (state.error && (state.error !== known || (known.status && restLeft() > 0))) return state.error;
        return change(() => call("POST", "/refresh", body)).then(
          () => null,
          async (error: CoatroomError) => {
            if (error.status === 401) {
              tabs.advance();
              await ended();
              return state.session && !state.error ? null : error;
            }
            fail(error);
            tabs.tell({ error: { ...error } });
            return error;
          },
        );
      })
      .finally(() => delete renewing[key]);
    return renewing[key];
  }

  // ---- what happens by itself

  /** Looks every few seconds, while somebody looks at us, for what is due or older than `limit` milliseconds. */
  function wake(limit = never()): void {
    world.clearTimeout(timer);
    const isIdle = learnt === never && !state.error;
    if (isIdle || world.document?.visibilityState !== "visible" || closing.signal.aborted) return;
    const late = ageSince(world);
    // a timer that is late has slept
    timer = world.setTimeout(() => wake(late() > OLD ? OLD : undefined), BEAT);
    if (restLeft() > 0) return;
    if (refreshAhead !== false && state.session && !isSpent && tokenLeft() <= dueAt) {
      isSpent = true;
      renew(tabs.generation(), true);
    } else if (state.error || endLeft() <= 0 || learnt() > limit) session();
  }

  function listen<E = PageTransitionEvent>(target: EventTarget, type: string, listener: (event: E) => void): void {
    target.addEventListener(type, listener as (event: unknown) => void, { signal: closing.signal });
  }

  /** Something speaks for another try, unless the agent said when to come again. */
  function look(limit: number): void {
    if (!state.error?.retryAfter) restLeft = none;
    wake(limit);
  }

  if (world.document) {
    tabs.join();
    listen(world, "storage", tabs.onStorage);
    listen(world.document, "visibilitychange", () => look(OLD));
    listen(world, "online", () => look(1000));
    listen(world, "pagehide", tabs.leave);
    listen(world, "pageshow", ({ persisted }) => {
      if (persisted) {
        tabs.join();
        look(-1);
      }
    });
  }

  // ---- what the application calls

  function leave(url: string): Promise<never> {
    world.location.assign(url);
    return new Promise((_, reject) =>
      listen(world, "pageshow", ({ persisted }) => persisted && reject(new CoatroomError("came_back"))),
    );
  }

  async function signIn({ returnTo, parameters, ...options }: SignInOptions = {}): Promise<never> {
    const start = (returnTo: string | URL | undefined) =>
      call<{ authorization_url: string }>(
        "POST",
        "/login/start",
        Object.entries({ returnTo, ...options, ...parameters })
          .filter(([, value]) => value != null)
          .map(([name, value]) => [
            // the specifications' names: loginHint is login_hint
            parameters && name in parameters ? name : name.replace(/[A-Z]/g, "_$&").toLowerCase(),
            [value].flat().join(" "),
          ]),
        "authorization_url",
      );
    const answer = await start(returnTo ?? here()).catch((error: CoatroomError) => {
      // too long, or to be read in two ways: a sign-in that leads home is better than none
      if (returnTo || error.code !== "invalid_request") throw error;
      return start(undefined);
    });
    return leave(answer.authorization_url);
  }

  async function signOut({ everywhere, returnTo = "/" }: SignOutOptions = {}): Promise<never> {
    const { logout_url } = await tabs
      .alone(
        () =>
          change(
            () =>
              call<SessionJson & { logout_url?: string }>("POST", "/logout", everywhere ? "everywhere=true" : "", ""),
            "signed-out",
          ),
        BRIEFLY,
      )
      // it may have been done all the same
      .catch((error: CoatroomError) => {
        if (!error.status) session("signed-out");
        throw error;
      });
    return leave(logout_url ?? String(returnTo));
  }

  const [here, handleCallback] = callbacksOf(world, options.callbackPath, session, async (query) => {
    const { return_to } = await tabs.alone(() => change(() => call("POST", "/login/end", query)), BRIEFLY);
    return [state, return_to];
  });

  return {
    get state() {
      return state;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    session: () => session(),
    signIn,
    handleCallback,
    signOut,
    async refresh({ background } = {}) {
      await renew(background ? tabs.generation() : Infinity, background);
      return state;
    },
    fetch: fetchOf(world, send, base.origin, csrfHeader, tabs.generation, renew, ended),
    async sessions() {
      const { sessions } = await call<{ sessions: SessionEntryJson[] }>("GET", "/sessions", "", "sessions");
      return sessions.map(
        ({ created_at, last_used_at, user_agent, ...entry }): SessionEntry => ({
          ...entry,
          createdAt: new Date(1000 * created_at),
          lastUsedAt: new Date(1000 * last_used_at),
          userAgent: user_agent,
        }),
      );
    },
    async endSession(id) {
      await call("DELETE", `/sessions/${encodeURIComponent(id)}`, "", "");
    },
    close() {
      closing.abort();
      tabs.leave();
      world.clearTimeout(timer);
    },
  };
}

/** What one tab tells the others: what the agent answered when, or why it did not. */
interface News {
  answer?: SessionJson;
  /** By `Date`, in milliseconds. */
  at?: number;
  reason?: SignedOutReason | undefined;
  error?: Pick<CoatroomError, "code" | "status" | "detail" | "retryAfter">;
}

const NOTHING = { session: null, user: null, error: null };
const never = () => Infinity;
const none = () => 0;

/** Milliseconds: how often a visible page looks at its clocks. */
const BEAT = 5000;
/** Milliseconds: what a page that is looked at again takes for old. */
const OLD = 30_000;
/** Milliseconds: how long a sign-in or a sign-out waits for a refresh; the agent copes with both at once. */
const BRIEFLY = 3000;
