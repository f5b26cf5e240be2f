/**
 * What the tabs of one application do together: one at a time, and everybody learns of it.
 *
 * Stores numbers only: the generation, which counts refreshes, sign-ins and sign-outs, and where there are no Web
 * Locks the time until which one tab is busy. Waits for nobody without a bound.
 *
 * @module
 */

import { readNumber, type World, writeNumber } from "./world.js";

/** What one tab tells the others. */
export interface Message<T> {
  /** The generation that it is about. */
  generation: number;
  body: Partial<T>;
}

/** This tab among the others. */
export interface Tabs<T> {
  /** How many refreshes, sign-ins and sign-outs the tabs have seen, as far as this one can know. */
  generation(): number;
  /** Counts one more. */
  advance(): void;
  /** This tab knows what happened up to `generation`. */
  caughtUp(generation: number): void;
  /** Tells the others. */
  tell(body: Partial<T>): void;
  /**
   * Runs `work` while no other tab does. After `patience` milliseconds it runs in any case, and those who wait behind us
   * do not wait for the one that hangs any more.
   */
  alone<R>(work: () => Promise<R>, patience: number): Promise<R>;
  /** Leaves the channel, or joins it again: a page that the browser keeps must not hold one. */
  leave(): void;
  join(): void;
  /** Where there is no channel, this event tells that there is news. */
  onStorage(event: StorageEvent): void;
}

/** Joins the others; `heard` gets what is news to this tab, `isNewer` when it is of a later generation. */
export function joinTabs<T>(
  world: World,
  name: string,
  ownersTime: number,
  heard: (body: Partial<T>, isNewer: boolean) => void,
): Tabs<T> {
  let own = readNumber(world, name);
  let channel: BroadcastChannel | undefined;

  function generation(): number {
    return Math.max(own, readNumber(world, name));
  }

  function hear({ generation, body }: Message<T>): void {
    const before = own;
    own = Math.max(own, generation);
    if (generation >= before) heard(body, generation > before);
  }

  function join(): void {
    try {
      channel = new world.BroadcastChannel(name);
      channel.onmessage = (event) => hear(event.data);
    } catch {
      // then the storage tells that there is news, though not what
    }
  }

  /** One tab at a time without Web Locks, as well as a number in a storage can do it. */
  async function lease<R>(work: () => Promise<R>, patience: number): Promise<R> {
    const key = `${name}:busy`;
    const end = world.Date.now() + patience;
    // a tab that closes in the middle of it holds up nobody for longer than it would have taken
    while (readNumber(world, key) > world.Date.now() && world.Date.now() < end) {
      await new Promise((resolve) => world.setTimeout(resolve, LEASE_STEP));
    }
    writeNumber(world, key, world.Date.now() + ownersTime);
    return work().finally(() => writeNumber(world, key, 0));
  }

  return {
    generation,
    advance() {
      own = generation() + 1;
      writeNumber(world, name, own);
    },
    caughtUp(generation) {
      own = Math.max(own, generation);
    },
    tell(body) {
      channel?.postMessage({ generation: own, body } satisfies Message<T>);
    },
    alone(work, patience) {
      const locks = world.navigator?.locks;
      if (!locks) return lease(work, patience);
      return new Promise((resolve, reject) => {
        let begun = false;
        const begin = async () => {
          if (begun) return;
          begun = true;
          world.clearTimeout(timer);
          // not what `request` settles with: a lock that is stolen rejects there, while the work goes on
          return work().then(resolve, reject);
        };
        const waiting = new AbortController();
        const timer = world.setTimeout(() => waiting.abort(), patience);
        locks
          .request(name, { signal: waiting.signal }, begin)
          .catch(() => locks.request(name, { steal: !begun }, begin))
          .catch(begin);
      });
    },
    leave() {
      channel?.close();
      channel = undefined;
    },
    join,
    onStorage({ key, newValue }) {
      if (!channel && key === name) hear({ generation: Number(newValue), body: {} });
    },
  };
}

const LEASE_STEP = 50;
