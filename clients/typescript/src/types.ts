/**
 * What the package speaks of: sessions, claims, options, and the client itself.
 *
 * Types only, nothing of this file is left at run time.
 * The HTTP interface behind it is `docs/http-api.md` of Coatroom; the words are those of RFC 6749,
 * RFC 9470, RFC 10017 and OpenID Connect Core.
 *
 * @module
 */

import type { CoatroomError } from "./errors.js";

/** How {@link createCoatroom} finds the agent, and how it behaves. Every option has a default. */
export interface CoatroomOptions {
  /**
   * Where the agent lives: a path on this origin, or an absolute URL.
   *
   * With an absolute URL such as `https://bff.example.com/auth` this page's origin has to be listed in the
   * setting `origins` of Coatroom, and both have to be of one site, or browsers send no cookies.
   *
   * @default "/auth"
   */
  baseUrl?: string | URL | undefined;

  /**
   * The custom header that every call carries (RFC 10017 §6.1.3.3); the setting `csrf_header` of Coatroom.
   *
   * @default "token-handler-version"
   */
  csrfHeader?: string | undefined;

  /**
   * The path of the page that the provider returns to, such as `/signed-in`, where `login.callback` of Coatroom
   * names a page of the application. {@link Coatroom.handleCallback} posts `login/end` on this page only.
   *
   * Leave it out where the provider returns to the agent, which is the default of Coatroom.
   */
  callbackPath?: string | undefined;

  /**
   * What the tabs of one application share: the name of their lock, of their channel and of a number in
   * `localStorage`. Only needed when two applications share an origin *and* a `baseUrl`.
   *
   * @default the absolute `baseUrl`
   */
  name?: string | undefined;

  /**
   * How many **seconds** before the access token runs out a visible page refreshes; never more than a quarter of
   * the time that the token was good for when this page learnt of it. `false` refreshes only when a call was
   * refused with `access_token_expired`. A page that nobody looks at never refreshes by itself.
   *
   * @default 30
   */
  refreshAhead?: number | false | undefined;

  /**
   * After how many **milliseconds** a call of an endpoint of the agent is given up as `timeout`.
   * Calls of your APIs have no limit but that of your own `signal`.
   *
   * @default 20_000
   */
  timeout?: number | undefined;

  /** What to use in place of `globalThis.fetch`, for those who want to watch or to fake the requests. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** The client. Make one for each application with {@link createCoatroom}, and share it. */
export interface Coatroom {
  /**
   * What is known now, without asking anybody. The same object until something changed, so that it can be handed to
   * `useSyncExternalStore` and its like.
   */
  readonly state: SessionState;

  /**
   * Calls `listener` with every new {@link Coatroom.state}, whatever changed it: this tab, another tab, or time.
   *
   * @returns a function that ends the subscription
   */
  subscribe(listener: (state: SessionState) => void): () => void;

  /**
   * Asks the agent who is signed in (`GET session`). Several calls at once are one request, and on a server there is
   * none: the state stays `unknown`.
   *
   * Never rejects: when the agent cannot be asked, what was known stays, and `error` says why.
   * Nobody is signed out by an outage.
   */
  session(): Promise<SessionState>;

  /**
   * Leaves this page for the provider (`POST login/start`), and comes back to it: path, query and fragment.
   *
   * The promise never resolves, because the page goes away. It rejects with `came_back` when the user returns by the
   * *back* button to this very page as the browser kept it.
   *
   * @throws {CoatroomError} when the sign-in cannot be started, for instance `provider_unavailable`
   */
  signIn(options?: SignInOptions): Promise<never>;

  /**
   * Finishes a sign-in, where this page is what the provider or the agent led back to. Call it before anything else
   * when the application starts; calling it twice does no harm.
   *
   * With {@link CoatroomOptions.callbackPath} it posts `login/end` once and puts the URL back that the sign-in began
   * on, with `history.replaceState`. In any case it reads the `login_error` that the agent leaves in the query of a
   * page when a sign-in failed, removes it, and asks who is signed in.
   *
   * Never rejects. In an outage the URL stays as it is, and a reload tries once more.
   *
   * @returns `null` when this page is no callback
   */
  handleCallback(): Promise<CallbackResult | null>;

  /**
   * Ends the session here (`POST logout`) and tells the other tabs, then leaves this page for the provider's own
   * sign-out (OpenID Connect RP-Initiated Logout), or for {@link SignOutOptions.returnTo} where it has none.
   *
   * @throws {CoatroomError} when it could not be done. Where there was no answer (`network`, `timeout`) it may have been
   *   done all the same: the agent is asked, and the state tells
   */
  signOut(options?: SignOutOptions): Promise<never>;

  /**
   * New tokens into the cookies (`POST refresh`), one tab at a time; counts as a sign of the user.
   *
   * {@link Coatroom.fetch} does this by itself when it is needed, so hardly anybody has to call it.
   * One that is under way for another reason does not count for it: then there is another behind that.
   * Never rejects: when it could not be done, `error` says why.
   */
  refresh(options?: RefreshOptions): Promise<SessionState>;

  /**
   * `fetch` for the APIs behind Coatroom; bound, so that it can be handed to any HTTP library.
   *
   * For URLs of this page's origin and of the agent's it adds the custom header and the cookies (`credentials` is
   * `include` for another origin, and stays as it is for this page's own). When the access
   * token ran out it refreshes, one tab at a time, and repeats the call. Everything else passes untouched: other
   * origins, `mode: "no-cors"`, `credentials: "omit"`, and the answers of your API, good or bad.
   *
   * It behaves as `fetch`: it rejects when there is no answer, and never because of a status. What Coatroom itself
   * answered is told by {@link errorOf}. When the call could not be repeated because the refresh was refused, the
   * answer is that of the refresh (`session_expired`, `provider_unavailable` …).
   *
   * A refresh counts as a sign of the user, unless the page is hidden or the call says `background: true`. Say so for
   * what a timer began, or a page that is left open keeps its session alive.
   *
   * A body that is a stream cannot be sent twice. Then the refresh is done, and the answer is the 401 with
   * `access_token_expired`: make the call once more with a new stream. The body of a `Request` is kept in memory until
   * the answer is there.
   */
  readonly fetch: typeof globalThis.fetch &
    ((input: RequestInfo | URL, init?: CoatroomRequestInit) => Promise<Response>);

  /**
   * The user's sessions in all browsers, the one used last first (`GET sessions`).
   *
   * @throws {CoatroomError} `not_found` where Coatroom keeps sessions in cookies only
   */
  sessions(): Promise<SessionEntry[]>;

  /**
   * Ends one of the user's sessions by its {@link SessionEntry.id} (`DELETE sessions/{id}`). To end the current one
   * use {@link Coatroom.signOut}.
   *
   * @throws {CoatroomError} `not_found` where Coatroom keeps sessions in cookies only
   */
  endSession(id: string): Promise<void>;

  /** Ends timers, channel and listeners. Afterwards nothing happens by itself any more. */
  close(): void;
}

/** Who is signed in, as far as this tab knows. Tell the cases apart by `status`. */
export type SessionState = UnknownState | SignedInState | SignedOutState;

/** Nobody asked yet, or the agent could not be asked (`error`). */
export interface UnknownState {
  readonly status: "unknown";
  readonly session: null;
  readonly user: null;
  /** Why the agent could not be asked, or `null`. */
  readonly error: CoatroomError | null;
}

/** Somebody is signed in. */
export interface SignedInState {
  readonly status: "signed-in";
  readonly session: Session;
  /** The claims of the verified ID token; the same object as long as they do not change. */
  readonly user: Claims;
  /** What went wrong since: an outage, which signs nobody out. `null` again once it is over. */
  readonly error: CoatroomError | null;
}

/** Nobody is signed in. */
export interface SignedOutState {
  readonly status: "signed-out";
  readonly session: null;
  readonly user: null;
  /**
   * - `never`: there was no session when this page asked first
   * - `signed-out`: in this browser, by {@link Coatroom.signOut}
   * - `expired`: the session this page knew has ended otherwise: idle, its absolute limit, ended from elsewhere or by
   *   the provider
   */
  readonly reason: SignedOutReason;
  readonly error: CoatroomError | null;
}

/** Why nobody is signed in, see {@link SignedOutState.reason}. */
export type SignedOutReason = "never" | "signed-out" | "expired";

/**
 * A session's name and its clocks. All times are points in time on this machine's clock, reckoned from what the
 * agent said was left; show them, but leave it to the agent to decide what is over.
 */
export interface Session {
  /** Names the session in logs and support requests; opens nothing. */
  readonly id: string;
  /** Where the user signed in, by the name in the configuration; only where that has several `providers`. */
  readonly provider?: string | undefined;
  /**
   * Until when calls of APIs pass before a refresh is needed, which {@link Coatroom.fetch} then does; `null` where
   * the agent does not say. Where sessions are kept in a store, calls renew the token themselves.
   */
  readonly accessTokenExpiresAt: Date | null;
  /** When the session ends without a sign of the user. */
  readonly idleExpiresAt: Date;
  /** When it ends in any case. */
  readonly expiresAt: Date;
  /** When the provider's refresh token ends, or `null` where it does not say. `expiresAt` counts it in already. */
  readonly providerExpiresAt: Date | null;
}

/**
 * The claims of the ID token (OpenID Connect Core §2 and §5.1), as many as the setting `session.claims` lets through.
 *
 * Give your own their types by declaration merging:
 *
 * ```ts
 * declare module "coatroom" {
 *   interface Claims {
 *     roles?: string[];
 *   }
 * }
 * ```
 */
export interface Claims {
  /** Who it is: unique and never given to another, at this provider. */
  sub: string;
  /** The full name, to be shown. */
  name?: string;
  given_name?: string;
  family_name?: string;
  /** What the user likes to be called. No key: it may change and be given to another. */
  preferred_username?: string;
  email?: string;
  email_verified?: boolean;
  /** The URL of a picture. */
  picture?: string;
  locale?: string;
  /** How the user was authenticated (OpenID Connect Core §2). */
  acr?: string;
  /** When the user was authenticated, in **seconds** since 1970. */
  auth_time?: number;
  [claim: string]: unknown;
}

/** What a sign-in asks the provider for (OpenID Connect Core §3.1.2.1). */
export interface SignInOptions {
  /**
   * Where the user comes back to: a path, or a URL on an origin that Coatroom lists; at most 2,000 bytes.
   *
   * @default this page, with query and fragment; where the agent does not return there, its `app_url`
   */
  returnTo?: string | URL | undefined;
  /**
   * Which of several `providers`, by its name in the configuration.
   *
   * @default that of the session, if there is one, else the configuration's default
   */
  provider?: string | undefined;
  /** `login` asks for the password again, `select_account` for the account, `none` for no question at all. */
  prompt?: "none" | "login" | "consent" | "select_account" | (string & {}) | undefined;
  /** Whom the provider should suggest. */
  loginHint?: string | undefined;
  /** Which ways to authenticate will do, the best first; with a session this is a step-up (RFC 9470). */
  acrValues?: string | readonly string[] | undefined;
  /** How many **seconds** ago the user may have authenticated; with a session this is a step-up (RFC 9470). */
  maxAge?: number | undefined;
  /** The user's languages, the best first (RFC 5646). */
  uiLocales?: string | readonly string[] | undefined;
  /** Some of the configured scopes, `openid` among them. */
  scope?: string | readonly string[] | undefined;
  /** What the setting `provider.allowed_parameters` adds. */
  parameters?: Readonly<Record<string, string | number | boolean>> | undefined;
}

/** How to refresh. */
export interface RefreshOptions {
  /**
   * Whether it is no sign of the user, because a timer or a lost connection began it. On a hidden page none is.
   *
   * @default false
   */
  background?: boolean | undefined;
}

/** What {@link Coatroom.fetch} takes beside what `fetch` does. */
export interface CoatroomRequestInit extends RequestInit {
  /** Whether no user began this call: then a refresh for it does not keep the session alive. */
  background?: boolean | undefined;
}

/** How to sign out. */
export interface SignOutOptions {
  /**
   * Ends every session of the user, in all browsers. Coatroom needs a `store` or a `revocation_store` for that.
   *
   * @default false
   */
  everywhere?: boolean | undefined;
  /**
   * Where to go when the provider has no sign-out of its own. Where it has one, the user comes back to the setting
   * `app_url`.
   *
   * @default "/"
   */
  returnTo?: string | URL | undefined;
}

/** What came of a sign-in that led back to this page. */
export interface CallbackResult {
  /**
   * Where the user is now: path, query and fragment, on this origin; after a sign-in the page that it began on, after one
   * that failed `/` or the page itself. The address bar shows it; hand it to a router that has looked there before.
   */
  readonly returnTo: string;
  /** Who is signed in now. */
  readonly state: SessionState;
  /**
   * Why the sign-in failed, or `null`. Somebody can be signed in all the same: an older session stays as it is, after a
   * step-up that failed for instance. Where it comes from
   * a `login_error` in the URL it is advisory, since anybody can write such a link: look at `state` first, and never
   * show its text.
   */
  readonly error: CoatroomError | null;
}

/** One of the user's sessions, see {@link Coatroom.sessions}. */
export interface SessionEntry {
  /** The `session.id` of that session; opens nothing. */
  readonly id: string;
  readonly createdAt: Date;
  readonly lastUsedAt: Date;
  /** What the browser called itself at the sign-in. Anybody can write anything there: show it as text. */
  readonly userAgent: string | null;
  /** Whether it is the session of this browser. */
  readonly current: boolean;
}
