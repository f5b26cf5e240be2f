/**
 * What can go wrong, as one type with a code for each case, and how to find it in an answer of `fetch`.
 *
 * Never contains text of the authorization response, and never decides anything: it reports.
 * Step-up challenges are those of RFC 9470 §3, their grammar that of RFC 9110 §11.
 *
 * @module
 */

import type { SignInOptions } from "./types.js";

/** The codes that Coatroom answers with (`error_code`, and the header `token-handler-error`). */
export type ServerErrorCode =
  /** 400: malformed input, a duplicate parameter, one that may not be set. Fix the call. */
  | "invalid_request"
  /** 400: the sign-in is unknown, expired, used or another browser's. Start over. */
  | "login_state_invalid"
  /** 400: the provider said no; `providerError` may say why. Show it, or start over. */
  | "authorization_failed"
  /** 401: there is no session. Sign in. */
  | "unauthorized"
  /** 401: a refresh is needed. {@link Coatroom.fetch} has done it. */
  | "access_token_expired"
  /** 401: the session has ended. Sign in. */
  | "session_expired"
  /** 403: the custom header, `Origin` or Fetch Metadata is missing or wrong. A bug, or an attack. */
  | "csrf_rejected"
  /** 403: this page's origin is not in the setting `origins`. */
  | "origin_not_allowed"
  /** 401: the route demands a stronger or a more recent sign-in, see {@link StepUpRequired}. */
  | "insufficient_user_authentication"
  /** 403: the route demands a claim that the user does not have, or scopes that were not granted. */
  | "forbidden"
  /** 404: no endpoint, route or file at this path. */
  | "not_found"
  /** 405: the path does not take this method. */
  | "method_not_allowed"
  /** 413: the body is over the route's limit. */
  | "payload_too_large"
  /** 421: an unknown host. */
  | "misdirected_request"
  /** 429: too many calls; `retryAfter` says when to come again. */
  | "rate_limited"
  /** 500: a bug. Report it. */
  | "server_error"
  /** 502: the provider's answer cannot be used. Retry later. */
  | "provider_error"
  /** 502: the API cannot be reached. Retry later. */
  | "upstream_unavailable"
  /** 503: the provider does not answer; `retryAfter` says when to come again. */
  | "provider_unavailable"
  /** 503: where sessions are kept cannot be asked; `retryAfter` says when to come again. */
  | "store_unavailable"
  /** 503: too many calls of this route are under way; `retryAfter` says when to come again. */
  | "upstream_busy"
  /** 503: the API took nothing of the call and wants it once more; `retryAfter` says when. */
  | "upstream_retry"
  /** 504: the API did not answer in time. */
  | "upstream_timeout";

/** The codes for what this page saw by itself; their `status` is 0 unless somebody else than Coatroom answered. */
export type ClientErrorCode =
  /** There was no answer: offline, a refused connection, or CORS. `cause` is what `fetch` rejected with. */
  | "network"
  /** There was no answer within {@link CoatroomOptions.timeout}. */
  | "timeout"
  /** The answer was a redirect, or the page that one led to: something in between wants a sign-in of its own. */
  | "redirected"
  /** The answer is none of Coatroom's: something in between answered, with `status`. */
  | "unexpected_answer"
  /** The user left for the provider and came back by the *back* button. */
  | "came_back";

/** What {@link CoatroomError.code} can be. A newer Coatroom may send more: have a `default`. */
export type ErrorCode = ServerErrorCode | ClientErrorCode;

/** What went wrong. Tell the cases apart by `code`; `message` is for developers and may change. */
export class CoatroomError extends Error {
  /** What went wrong. */
  declare readonly code: ErrorCode;
  /** The HTTP status, or 0 where there was no answer. */
  declare readonly status: number;
  /** A sentence for developers, or `""`. Do not show it, and do not rely on it. */
  declare readonly detail: string;
  /** How many **seconds** to wait before the next try, or `null` where nobody said. */
  declare readonly retryAfter: number | null;
  /**
   * With `authorization_failed`, the provider's own code where it is a registered one, such as `access_denied`
   * (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6). From a link it is advisory: never show it as text.
   */
  declare readonly providerError: string | null;

  constructor(code: ErrorCode, options: CoatroomErrorOptions = {}) {
    super(options.detail || code, options);
    const nothing = { name: "CoatroomError", code, status: 0, detail: "", retryAfter: null, providerError: null };
    Object.assign(this, nothing, options);
  }
}

/** What a {@link CoatroomError} may know beside its code. */
export interface CoatroomErrorOptions {
  status?: number;
  detail?: string;
  retryAfter?: number | null;
  providerError?: string | null;
  cause?: unknown;
}

/** The API wants a better or a fresher authentication (RFC 9470 §3): offer `coatroom.signIn(error.signIn)`. */
export class StepUpRequired extends CoatroomError {
  /** What to sign in with: `acrValues` and `maxAge` as the API asked. */
  declare readonly signIn: SignInOptions;

  constructor(signIn: SignInOptions, status = 401) {
    super("insufficient_user_authentication", { status });
    Object.assign(this, { name: "StepUpRequired", signIn });
  }
}

/**
 * What Coatroom, or something in between, answered in place of the API; `null` when the answer is the API's own, good
 * or bad. The one exception is a step-up challenge, which is the API's: {@link StepUpRequired}.
 *
 * The body of `response` stays unread.
 *
 * ```ts
 * const response = await coatroom.fetch("/api/orders");
 * const error = await errorOf(response);
 * if (error instanceof StepUpRequired) confirmButton.onclick = () => coatroom.signIn(error.signIn);
 * else if (error) throw error;
 * ```
 *
 * A click and not at once: a provider that ignores what was asked for would send the user round and round.
 */
export async function errorOf(response: Response): Promise<CoatroomError | null> {
  const challenge = stepUpOf(response);
  if (challenge) return new StepUpRequired(challenge, response.status);
  if (wasRedirected(response)) return new CoatroomError("redirected", { status: response.status });
  return response.headers.has(ERROR_HEADER) ? errorFrom(response.clone()) : null;
}

/**
 * What a step-up challenge of the API asks for (RFC 9470 §3), ready for {@link Coatroom.signIn}; `null` when the answer
 * is none.
 */
export function stepUpOf(response: Response): SignInOptions | null {
  const challenge: Record<string, string> = {};
  // quoted strings are consumed whole, so that nothing inside of one passes for a parameter (RFC 9110 §11.2)
  const parameter = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/g;
  for (const [, name, quoted, plain] of (response.headers.get("www-authenticate") ?? "").matchAll(parameter)) {
    challenge[(name as string).toLowerCase()] = plain ?? (quoted as string).replace(/\\(.)/g, "$1");
  }
  if (challenge["error"] !== "insufficient_user_authentication") return null;
  const { acr_values: acrValues, max_age: maxAge } = challenge;
  return { ...(acrValues && { acrValues }), ...(maxAge && /^\d+$/.test(maxAge) && { maxAge: Number(maxAge) }) };
}

/**
 * Reads an answer that is none that was hoped for.
 *
 * @internal
 */
export async function errorFrom(response: Response): Promise<CoatroomError> {
  const { status, headers } = response;
  const body = (await response.json().catch(() => null)) ?? {};
  // a redirect that was not followed has no status
  const code = headers.get(ERROR_HEADER) ?? body.error_code ?? (status ? "unexpected_answer" : "redirected");
  return new CoatroomError(code, {
    status,
    detail: body.detailed_error ?? "",
    // a day is as good as for ever
    retryAfter: Math.min(Number(headers.get("retry-after")), 86_400) || null,
    providerError: body.provider_error ?? null,
  });
}

/** A page of HTML behind a redirect is a sign-in of something in between: Coatroom and APIs have none. */
function wasRedirected(response: Response): boolean {
  return (
    response.type === "opaqueredirect" ||
    (response.redirected && (response.headers.get("content-type") ?? "").startsWith("text/html"))
  );
}

/**
 * Every error of Coatroom's own carries this header, and no answer of an API does.
 *
 * @internal
 */
export const ERROR_HEADER = "token-handler-error";
