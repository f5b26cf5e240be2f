/**
 * The endpoints of the agent that are called with `fetch`, and their JSON (docs/http-api.md).
 *
 * Takes nothing for an answer of the agent that does not look like one, so that a page of HTML with status 200, from a
 * gateway or a captive portal, signs nobody out. Gives up after a time.
 *
 * @module
 */

import { CoatroomError, errorFrom } from "./errors.js";
import type { Claims } from "./types.js";
import type { World } from "./world.js";

/** What `session`, `refresh` and `login/end` answer; all times are seconds from now. */
export interface SessionJson {
  is_logged_in: boolean;
  id_token_claims: Claims | null;
  access_token_expires_in: number | null;
  session: {
    id: string;
    idle_expires_in: number;
    expires_in: number;
    provider_expires_in: number | null;
  } | null;
  provider?: string;
  return_to?: string;
}

/** An element of what `sessions` answers; times are seconds since 1970. */
export interface SessionEntryJson {
  id: string;
  created_at: number;
  last_used_at: number;
  user_agent: string | null;
  current: boolean;
}

/** Parameters of a call, as a form. */
export type Parameters = ConstructorParameters<typeof URLSearchParams>[0];

/** Calls one endpoint; `member` is what its answer must have. */
export type Call = <T = SessionJson>(
  method: "GET" | "POST" | "DELETE",
  path: string,
  parameters?: Parameters,
  member?: string,
) => Promise<T>;

/** How to call the agent at `baseUrl`. */
export function callsOf(
  world: World,
  send: typeof globalThis.fetch,
  baseUrl: string,
  header: string,
  timeout: number,
): Call {
  return async (method, path, parameters = "", member = "is_logged_in") => {
    const isPost = method === "POST";
    const waiting = new AbortController();
    const timer = world.setTimeout(() => waiting.abort(), timeout);
    try {
      const response = await send(baseUrl + path, {
        method,
        headers: { [header]: "1" },
        body: isPost ? new URLSearchParams(parameters) : null,
        credentials: "include",
        // what is under way when the page goes away is finished, and its cookies are kept
        keepalive: isPost,
        redirect: "manual",
        signal: waiting.signal,
      });
      if (!response.ok) throw await errorFrom(response);
      const answer = await response.json();
      if (member && answer?.[member] == null) throw SyntaxError(member);
      return answer;
    } catch (cause) {
      throw cause instanceof CoatroomError
        ? cause
        : new CoatroomError(
            waiting.signal.aborted ? "timeout" : cause instanceof SyntaxError ? "unexpected_answer" : "network",
            { cause },
          );
    } finally {
      world.clearTimeout(timer);
    }
  };
}
