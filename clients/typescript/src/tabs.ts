/**
 * What the tabs of one application do together: one at a time, and everybody learns of it.
 *
 * Stores one number only: the generation, which counts refreshes, sign-ins and sign-outs. Waits for nobody without a
 * bound, and for nobody at all where there are no Web Locks.
 *
 * @module
 */

import { stored, type World } from "./world.js";

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
   * Runs `work` while no other tab does. After `patience` milliseconds it runs in any case. Without `patience` it waits
   * as long as a tab may take, and then takes the lock away from the one that hangs; of many that wait one does.
   */
  alone<R>(work: () => Promise<R>, patience?: number): Promise<R>;
  /** Leaves the channel, or joins it again: a page that the browser keeps must not hold one. */
  leave(): void;
  join(): void;
  /** Where there is no channel, this event tells that there is news; and it tells who cleared the storage. */
  onStorage(event: StorageEvent): void;
}

/** Joins the others; `heard` gets what is news to this tab, `isNewer` when it is of a later generation. */
export function joinTabs<T>(
  world: World,
  name: string,
  ownersTime: number,
  heard: (body: Partial<T>, isNewer: boolean) => void,
): Tabs<T> {
  let own = stored(world, name);
  let channel: BroadcastChannel | undefined;

  function generation(): number {
    const number = stored(world, name);
    // somebody cleared it: tabs that open now must not count from nothing
    return number < own ? stored(world, name, own) || own : number;
  }

  function hear({ generation, body }: Message<T>): void {
    const before = own;
    own = Math.max(own, generation);
    heard(body, generation > before);
  }

  function join(): void {
    try {
      channel = new world.BroadcastChannel(name);
      channel.onmessage = (event) => hear(event.data);
    } catch {
      // then the storage tells that there is news, though not what
    }
  }

  function alone<R>(work: () => Promise<R>, patience?: number): Promise<R> {
    const locks = world.navigator?.locks;
    // the agent copes with what comes twice within a minute
    if (!locks) return work();
    return new Promise((resolve, reject) => {
      let begun: Promise<void> | undefined;
      const begin = () => {
        world.clearTimeout(timer);
        // not what `request` settles with: a lock that is stolen rejects there, while the work goes on
        begun ??= work().then(resolve, reject);
        return begun;
      };
      const waiting = new AbortController();
      const timer = world.setTimeout(() => waiting.abort(), patience ?? ownersTime);
      locks
        .request(name, { signal: waiting.signal }, begin)
        .catch(() =>
          begun || patience
            ? begin()
            : locks.request(`${name}:thief`, { ifAvailable: true }, (isThief) =>
                // a thief that hangs itself is waited for once
                isThief ? locks.request(name, { steal: true }, begin) : resolve(alone(work, ownersTime)),
              ),
        )
        .catch(begin);
    });
  }

  return {
    generation,
    advance() {
      own = generation() + 1;
      stored(world, name, own);
    },
    caughtUp(generation) {
      own = Math.max(own, generation);
    },
    tell(body) {
      channel?.postMessage({ generation: own, body } satisfies Message<T>);
    },
    alone,
    leave() {
      channel?.close();
      channel = undefined;
    },
    join,
    onStorage({ key }) {
      if (key && key !== name) return;
      const number = generation();
      if (!channel) hear({ generation: number, body: {} });
    },
  };
}
