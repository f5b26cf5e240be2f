/**
 * When one state is another, and when it is the same told twice.
 *
 * Never decides who is signed in.
 *
 * @module
 */

import type { SessionState, SignedOutState } from "./types.js";

/** The same but for what rounding to seconds and the way of the answer make of it. */
export function isAlike(a: SessionState, b: SessionState): boolean {
  const [old, young] = [a.session, b.session] as unknown as [Record<string, number> | null, Record<string, number>];
  // without a reason and a user it is unknown, so `status` says nothing more; and the same user has a session in both
  return (
    a.user === b.user &&
    a.error === b.error &&
    (a as SignedOutState).reason === (b as SignedOutState).reason &&
    Object.entries(old ?? {}).every(
      ([key, value]) => value === young[key] || Math.abs(value - (young[key] as number)) < ROUNDING,
    )
  );
}

/** Milliseconds: by how much two answers may differ on one point in time. */
export const ROUNDING = 2000;
