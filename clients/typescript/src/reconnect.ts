/**
 * What WebSockets and event streams have in common: when to connect again, and when not any more.
 *
 * A browser does not tell why a handshake failed, so the agent is asked: a session that ended stops it, a token that
 * ran out is refreshed first. Never tries at a fixed pace, and never while the session is over. A lost connection is no
 * sign of the user: where only one can renew the token, it waits for that, or for the end of the session.
 *
 * @module
 */

import type { Coatroom, SessionState } from "./types.js";

/** How to connect again. */
export interface ReconnectOptions {
  /**
   * `optional` for what works without a session as well (a route with `auth: optional` or `none`): then the end of the
   * session stops nothing.
   *
   * @default "required"
   */
  session?: "required" | "optional" | undefined;
  /**
   * **Milliseconds** before the second try; doubles with each further one.
   *
   * @default 500
   */
  minDelay?: number | undefined;
  /**
   * **Milliseconds** before a try at most.
   *
   * @default 30_000
   */
  maxDelay?: number | undefined;
  /** Spreads the tries of many users, between half of the delay and all of it. @default Math.random */
  random?: (() => number) | undefined;
  /** Closes it. */
  signal?: AbortSignal | undefined;
}

/** Why it is over: by us, by the other side, because the session ended, or because it cannot work. */
export type ClosedReason = "closed" | "ended" | "session-ended" | "failed";

/** It is over, and is not tried again. */
export class ClosedEvent extends Event {
  /**
   * - `closed`: by `close()` or the signal
   * - `ended`: by the other side, in order
   * - `session-ended`: the user has to sign in
   * - `failed`: the answer was one that trying again does not change, see `status`
   */
  readonly reason: ClosedReason;
  /** The WebSocket close code (RFC 6455 §7.4) or the HTTP status, 0 where there is none. */
  readonly status: number;

  constructor(reason: ClosedReason, status = 0) {
    super("close");
    this.reason = reason;
    this.status = status;
  }
}

/** The connection is lost, and will be tried again. */
export class DropEvent extends Event {
  /** The WebSocket close code (RFC 6455 §7.4) or the HTTP status, 0 where there is none. */
  readonly status: number;

  constructor(status: number) {
    super("drop");
    this.status = status;
  }
}

/** `addEventListener` that knows which event has which type. */
export interface TypedEventTarget<Events> {
  addEventListener<Type extends keyof Events & string>(
    type: Type,
    listener: ((event: Events[Type]) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof Events & string>(
    type: Type,
    listener: ((event: Events[Type]) => void) | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * The life of one connection after another.
 *
 * @internal
 */
export class Reconnection {
  readonly #coatroom: Coatroom;
  readonly #options: ReconnectOptions;
  readonly #connect: (isUnasked: boolean) => void;
  readonly #over: (reason: ClosedReason, status: number) => void;
  readonly #done = new AbortController();
  readonly #unsubscribe: () => void;
  /** Ends a pause, because there is news of the session. */
  #wake: (() => void) | undefined;
  #failures = 0;
  #openedAt: number | undefined;

  constructor(
    coatroom: Coatroom,
    options: ReconnectOptions,
    connect: (isUnasked: boolean) => void,
    over: (reason: ClosedReason, status: number) => void,
  ) {
    this.#coatroom = coatroom;
    this.#options = options;
    this.#connect = connect;
    this.#over = over;
    this.#unsubscribe = coatroom.subscribe(() => {
      if (!this.#isOver()) this.#wake?.();
    });
    options.signal?.addEventListener("abort", () => this.stop("closed"), { signal: this.#done.signal });
    // who calls has to be able to listen first
    queueMicrotask(() => (options.signal?.aborted ? this.stop("closed") : this.#prepare(false)));
  }

  get isStopped(): boolean {
    return this.#done.signal.aborted;
  }

  /** The connection stands. */
  opened(): void {
    this.#openedAt = Date.now();
  }

  /** It does not any more, or never did. At the earliest after `retryAfter` seconds it is tried again. */
  async lost(retryAfter = 0): Promise<void> {
    if (this.isStopped) return;
    // one that is accepted and dropped at once is no success
    if (this.#openedAt && Date.now() - this.#openedAt > STABLE) this.#failures = 0;
    this.#openedAt = undefined;
    const { minDelay = 500, maxDelay = 30_000, random = Math.random } = this.#options;
    const delay = Math.min(minDelay * 2 ** this.#failures++, maxDelay) * (0.5 + random() / 2);
    await this.#pause(Math.max(delay, 1000 * retryAfter));
    await this.#prepare(true);
  }

  stop(reason: ClosedReason, status = 0): void {
    if (this.isStopped) return;
    this.#done.abort();
    this.#unsubscribe();
    this.#over(reason, status);
  }

  /** Connects, if there is still somebody to connect for. */
  async #prepare(isUnasked: boolean): Promise<void> {
    const coatroom = this.#coatroom;
    if (isUnasked || coatroom.state.status === "unknown") await coatroom.session();
    let isSpent = false;
    while (!this.isStopped && isExpired(coatroom.state)) {
      if (!isSpent) await coatroom.refresh({ background: isUnasked });
      const { session, error } = coatroom.state;
      if (this.#options.session === "optional" || !session || !isExpired(coatroom.state)) break;
      if (error) return this.lost(error.retryAfter ?? 0);
      // no timer can put that off: a user can, and then there is news
      isSpent = isUnasked = true;
      await this.#pause(Math.max(Number(session.idleExpiresAt) - Date.now(), STABLE), true);
      if (Number(session.idleExpiresAt) <= Date.now()) await coatroom.session();
    }
    if (!this.#isOver()) this.#connect(isUnasked);
  }

  #isOver(): boolean {
    const { status } = this.#coatroom.state;
    if (this.#options.session !== "optional" && status === "signed-out") this.stop("session-ended");
    return this.isStopped;
  }

  /** Waits, but not longer than the network is away, or until there is news of the session. */
  #pause(milliseconds: number, isForNews = false): Promise<void> {
    return new Promise((resolve) => {
      const waiting = new AbortController();
      const over = () => {
        this.#wake = undefined;
        clearTimeout(timer);
        waiting.abort();
        resolve();
      };
      if (isForNews) this.#wake = over;
      const timer = setTimeout(over, Math.min(milliseconds, LONGEST));
      globalThis.addEventListener?.("online", over, { signal: waiting.signal });
      this.#done.signal.addEventListener("abort", over, { signal: waiting.signal });
    });
  }
}

function isExpired({ session }: SessionState): boolean {
  return Number(session?.accessTokenExpiresAt ?? Infinity) <= Date.now();
}

/** Milliseconds: a day, for whatever asks for more than a timer can count. */
const LONGEST = 86_400_000;
/** Milliseconds after which a connection was a good one. */
const STABLE = 5000;
