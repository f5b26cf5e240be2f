/**
 * `fetch` with the custom header, the cookies, and one repetition after a refresh.
 *
 * Never touches a call that does not go to Coatroom, never repeats one that may have reached an API (an error of
 * Coatroom's own means that it did not), and never reads a body.
 *
 * @module
 */

import type { CoatroomError } from "./errors.js";
import { ERROR_HEADER } from "./errors.js";
import type { World } from "./world.js";

/**
 * @param generation how many refreshes, sign-ins and sign-outs there were
 * @param renew a refresh, unless there was one since that generation; what stood against it
 * @param ended the answer said that there is no session
 */
export function fetchOf(
  world: World,
  send: typeof globalThis.fetch,
  agentOrigin: string,
  header: string,
  generation: () => number,
  renew: (generation: number) => Promise<CoatroomError | null>,
  ended: (code: string) => Promise<void>,
): typeof globalThis.fetch {
  /** Whether a call goes to Coatroom, and with cookies. */
  function isOurs(url: string, credentials?: string, mode?: string): boolean {
    try {
      const { origin } = new URL(url, world.document?.baseURI ?? agentOrigin);
      const isNear = origin === agentOrigin || origin === world.location?.origin;
      return isNear && credentials !== "omit" && mode !== "no-cors";
    } catch {
      return false;
    }
  }

  return async (input, init) => {
    let request = typeof input === "object" && "headers" in input ? input : undefined;
    const { body, credentials = request?.credentials, mode = request?.mode } = init ?? {};
    const signal = init?.signal ?? request?.signal;
    if (!isOurs(request?.url ?? String(input), credentials, mode)) return send(input, init);

    const headers = new Headers(init?.headers ?? request?.headers);
    headers.set(header, "1");
    const isStream = !!(body as ReadableStream | null)?.getReader;

    /** `promise`, but for an abort that comes first. */
    const unlessAborted = <T>(promise: Promise<T>) =>
      Promise.race([
        promise,
        new Promise<never>((_, reject) =>
          signal?.addEventListener("abort", () => reject(signal.reason), { once: true }),
        ),
      ]);

    for (let tries = 1; ; tries++) {
      const before = generation();
      const spare = !isStream && tries < MOST_TRIES ? request?.clone() : undefined;
      const response = await send(request ?? input, { ...init, headers, credentials: "include" });
      request = spare;
      const code = response.headers.get(ERROR_HEADER);
      if (code !== "access_token_expired" || tries === MOST_TRIES) {
        spare?.body?.cancel();
        if (code === "session_expired" || code === "unauthorized") await unlessAborted(ended(code));
        return response;
      }
      // a tab that has just refreshed may have done it for us; what it got can have run out again
      const error = await unlessAborted(renew(before));
      if (error) return answerOf(error);
      if (isStream) return response;
      response.body?.cancel();
    }
  };
}

/** Why a call could not be repeated, as the agent answered it. */
function answerOf(error: CoatroomError): Response {
  const { code, status, detail, retryAfter } = error;
  if (status < 400) throw error;
  return new Response(JSON.stringify({ error_code: code, detailed_error: detail }), {
    status,
    headers: {
      "content-type": "application/json",
      [ERROR_HEADER]: code,
      ...(retryAfter && { "retry-after": String(retryAfter) }),
    },
  });
}

/** A call, once more after a refresh, and once more after one that another tab had made. */
const MOST_TRIES = 3;
