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
import type { Coatroom, CoatroomRequestInit } from "./types.js";
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
  renew: (generation: number, isUnasked?: boolean) => Promise<CoatroomError | null>,
  ended: () => Promise<void>,
): Coatroom["fetch"] {
  return async (input: RequestInfo | URL, init?: CoatroomRequestInit) => {
    let request = typeof input === "object" && "headers" in input ? input : undefined;
    const { body, credentials = request?.credentials, mode = request?.mode } = init ?? {};
    const signal = init?.signal ?? request?.signal;
    let origin: string | undefined;
    try {
      origin = new URL(request?.url ?? String(input), world.document?.baseURI ?? agentOrigin).origin;
    } catch {}
    const isOwn = origin === world.location?.origin;
    if ((!isOwn && origin !== agentOrigin) || credentials === "omit" || mode === "no-cors") return send(input, init);

    const headers = new Headers(init?.headers ?? request?.headers);
    headers.set(header, "1");
    // with `include` an answer that redirects to an origin with `Access-Control-Allow-Origin: *` could not be read
    const own = isOwn ? (credentials ?? "same-origin") : "include";
    const isStream = !!(body as ReadableStream | null)?.getReader;

    /** `promise`, but for an abort that comes first. */
    const unlessAborted = <T>(promise: Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        const abort = () => reject(signal?.reason);
        if (signal?.aborted) abort();
        signal?.addEventListener("abort", abort);
        promise.then(resolve).finally(() => signal?.removeEventListener("abort", abort));
      });

    for (let tries = 1; ; tries++) {
      const before = generation();
      const spare = request?.clone();
      const response = await send(request ?? input, { ...init, headers, credentials: own });
      request = spare;
      const code = response.headers.get(ERROR_HEADER);
      // once more after a refresh, and once more after one that another tab had made
      if (code !== "access_token_expired" || tries > 2) {
        spare?.body?.cancel();
        if (code === "session_expired" || code === "unauthorized") await unlessAborted(ended());
        return response;
      }
      // a tab that has just refreshed may have done it for us; what it got can have run out again
      const error = await unlessAborted(renew(before, init?.background));
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
