// Bounded waiting: polls for a condition, or puts a time limit on a promise.
//
// It never waits without a limit, and never for a fixed time in the hope that something has happened by then.

import { setTimeout as pause } from 'node:timers/promises';

/**
 * Polls until `condition` answers something truthy, and answers that.
 *
 * @param {string} what for the message when it never came
 * @param {() => unknown} condition may be async; an exception counts as "not yet" and is told at the end
 */
export async function until(what, condition, { timeout = 15_000, every = 100 } = {}) {
  const deadline = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      if (error instanceof Fatal) throw error;
      last = error;
    }
    if (Date.now() >= deadline) {
      throw new Error(`${what}: not within ${timeout} ms${last ? ` (${last.message})` : ''}`, { cause: last });
    }
    await pause(every);
  }
}

/** Thrown inside a condition to stop waiting at once. */
export class Fatal extends Error {}

/** `promise`, or a rejection after `timeout` milliseconds. */
export async function within(what, promise, timeout = 15_000) {
  const stop = new AbortController();
  const late = pause(timeout, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`${what}: not within ${timeout} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}
