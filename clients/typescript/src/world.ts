/**
 * What of the browser is used, and what time it is there.
 *
 * An argument everywhere, so that one process can hold several tabs. Whatever may be missing (a server, a worker,
 * private mode, an opaque origin) is optional, and a storage that throws counts as missing.
 * Two clocks measure how old a fact is, since each of them can stand still or jump: the monotonic one sleeps with some
 * laptops, the other is set by hand.
 *
 * @module
 */

/** The globals of a page, of a worker or of a server. */
export type World = typeof globalThis;

/** How many milliseconds ago something was. */
export type Age = () => number;

/**
 * Something that is now, or that was at `date` on another tab's clock. Its age is that of the clock that says more: what
 * is asked for once too often does no harm.
 */
export function ageSince(world: World, date = world.Date.now()): Age {
  const monotonic = () => world.performance.now();
  const start = monotonic() - Math.max(0, world.Date.now() - date);
  return () => Math.max(monotonic() - start, world.Date.now() - date);
}

/** A number in `localStorage`, after `value` was put there; 0 where there is none. A server's storage is nobody's. */
export function stored(world: World, key: string, value?: number): number {
  try {
    const storage = world.document && world.localStorage;
    if (value) storage.setItem(key, String(value));
    return Number(storage.getItem(key)) || 0;
  } catch {
    return 0;
  }
}
