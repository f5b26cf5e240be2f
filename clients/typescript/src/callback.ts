/**
 * The way back from the provider: finishing a sign-in, and the URL that it began on.
 *
 * Never posts an answer of the provider twice at once, never passes on text of a link but for what has the shape of a
 * code, and leaves the URL as it is where trying again can help.
 *
 * @module
 */

import { CoatroomError, type ErrorCode } from "./errors.js";
import type { CallbackResult, SessionState } from "./types.js";
import type { World } from "./world.js";

/**
 * @param session asks who is signed in
 * @param post posts `login/end`, and answers the session and `return_to`
 * @returns this page as a `return_to`, and `handleCallback`
 */
export function callbacksOf(
  world: World,
  callbackPath: string | undefined,
  session: () => Promise<SessionState>,
  post: (query: URLSearchParams) => Promise<[SessionState, string | undefined]>,
): [here: () => string | undefined, handleCallback: () => Promise<CallbackResult | null>] {
  let handling: Promise<CallbackResult | null> | undefined;

  function show(url: URL): string {
    world.history.replaceState(world.history.state, "", url);
    return url.pathname + url.search + url.hash;
  }

  async function finish(): Promise<CallbackResult | null> {
    const url = new URL(world.location.href);
    if (url.pathname === callbackPath && url.searchParams.has("state")) return signedIn(url);

    const code = url.searchParams.get("login_error");
    if (code === null) return null;
    url.search = withoutError(url.search);
    const returnTo = show(url);
    return { returnTo, state: await session(), error: errorOfLink(code) };
  }

  async function signedIn(url: URL): Promise<CallbackResult> {
    try {
      const [state, returnTo = "/"] = await post(url.searchParams);
      const target = new URL(returnTo, url);
      if (target.origin !== url.origin) {
        world.location.replace(target.href);
        await new Promise(() => {});
      }
      return { returnTo: show(target), state, error: null };
    } catch (caught) {
      // in an outage the provider's answer stays good, and a reload or another call tries once more
      if ((caught as CoatroomError).status === 400) show(new URL(url.pathname, url));
      else handling = undefined;
      return { returnTo: "/", state: await session(), error: caught as CoatroomError };
    }
  }

  return [
    () => {
      const { pathname, search, hash } = world.location;
      // text and not `URLSearchParams`, which would spell the rest of the query its own way
      return pathname === callbackPath ? undefined : pathname + withoutError(search) + hash;
    },
    async () => {
      if (!world.location) return null;
      // effects that run twice get one answer, and whoever asks later still learns of an error that has left the URL
      handling ??= finish().then((result) => {
        if (!result?.error) handling = undefined;
        return result;
      });
      return handling;
    },
  ];
}

function withoutError(search: string): string {
  return search.replace(/([?&])login_error=[^&]*&?/, "$1").replace(/[?&]$/, "");
}

/** Either a code of Coatroom's own, or one that the provider refused with. */
function errorOfLink(code: string): CoatroomError {
  const shaped = /^[a-z_]+$/.test(code) ? code : null;
  return /^(login_state|authorization|session|rate|provider|store)_/.test(`${shaped}`)
    ? new CoatroomError(shaped as ErrorCode)
    : new CoatroomError("authorization_failed", { providerError: shaped });
}
