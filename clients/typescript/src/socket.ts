/**
 * A WebSocket (RFC 6455) that comes back.
 *
 * Keeps and repeats nothing: what was sent or missed while it was away is the application's protocol to sort out.
 *
 * @module
 */

import { ClosedEvent, DropEvent, Reconnection, type ReconnectOptions, type TypedEventTarget } from "./reconnect.js";
import type { Coatroom } from "./types.js";

/** How to open a {@link ReconnectingWebSocket}. */
export interface WebSocketOptions extends ReconnectOptions {
  /** Subprotocols, the best first (RFC 6455 §1.9). */
  protocols?: string | string[] | undefined;
  /** How binary messages arrive. @default "blob" */
  binaryType?: BinaryType | undefined;
  /** Whether to connect again after this close of the other side. @default event.code !== 1000 */
  shouldReconnect?: ((event: CloseEvent) => boolean) | undefined;
  /** What to use in place of `globalThis.WebSocket`. */
  WebSocket?: typeof WebSocket | undefined;
}

/** What a {@link ReconnectingWebSocket} tells. */
export interface WebSocketEvents {
  /** It stands, for the first time or again: subscribe to what you need. */
  open: Event;
  message: MessageEvent;
  /** It is lost, and will be tried again. */
  drop: DropEvent;
  /** It is over. */
  close: ClosedEvent;
}

/** A WebSocket that connects again, until it is closed or its session ends. */
export interface ReconnectingWebSocket extends TypedEventTarget<WebSocketEvents> {
  readonly url: string;
  /** `connecting` also while it waits for the next try. */
  readonly state: "connecting" | "open" | "closed";
  /** The subprotocol that was agreed on, or `""`. */
  readonly protocol: string;
  /** Bytes that are still to be sent. */
  readonly bufferedAmount: number;
  /**
   * Sends a message.
   *
   * @returns whether it stood; when it did not, nothing is kept to be sent later
   */
  send(data: Parameters<WebSocket["send"]>[0]): boolean;
  /** Ends it; nothing is tried again. */
  close(code?: number, reason?: string): void;
}

/**
 * Opens a WebSocket behind Coatroom that outlives dropped connections and expired tokens.
 *
 * ```ts
 * const socket = openWebSocket(coatroom, "/api/live");
 * socket.addEventListener("open", () => socket.send("subscribe orders"));
 * socket.addEventListener("message", ({ data }) => show(data));
 * socket.addEventListener("close", ({ reason }) => reason === "session-ended" && coatroom.signIn());
 * ```
 *
 * @param url a path on this origin, or an absolute URL; `https:` and `wss:` mean the same
 */
export function openWebSocket(
  coatroom: Coatroom,
  url: string | URL,
  options: WebSocketOptions = {},
): ReconnectingWebSocket {
  return new Socket(coatroom, url, options) as unknown as ReconnectingWebSocket;
}

class Socket extends EventTarget {
  readonly url: string;
  readonly #reconnection: Reconnection;
  #socket: WebSocket | undefined;
  #closing: [(number | undefined)?, (string | undefined)?] = [];

  constructor(coatroom: Coatroom, url: string | URL, options: WebSocketOptions) {
    super();
    const absolute = new URL(url, globalThis.document?.baseURI);
    absolute.protocol = absolute.protocol.replace("http", "ws");
    this.url = absolute.href;
    this.#reconnection = new Reconnection(
      coatroom,
      options,
      () => this.#connect(options),
      (reason, status) => {
        this.#socket?.close(...(this.#closing as [number, string]));
        this.#socket = undefined;
        this.dispatchEvent(new ClosedEvent(reason, status));
      },
    );
  }

  get state(): ReconnectingWebSocket["state"] {
    if (this.#reconnection.isStopped) return "closed";
    return this.#socket?.readyState === OPEN ? "open" : "connecting";
  }

  get protocol(): string {
    return this.#socket?.protocol ?? "";
  }

  get bufferedAmount(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(data: Parameters<WebSocket["send"]>[0]): boolean {
    const isOpen = this.state === "open";
    if (isOpen) this.#socket?.send(data);
    return isOpen;
  }

  close(code?: number, reason?: string): void {
    this.#closing = code === undefined ? [] : [code, reason];
    this.#reconnection.stop("closed", code);
  }

  #connect({ protocols = [], binaryType = "blob", shouldReconnect, ...options }: WebSocketOptions): void {
    const socket = new (options.WebSocket ?? globalThis.WebSocket)(this.url, protocols);
    this.#socket = socket;
    socket.binaryType = binaryType;
    socket.onopen = () => {
      this.#reconnection.opened();
      this.dispatchEvent(new Event("open"));
    };
    socket.onmessage = ({ data, origin, lastEventId }) => {
      this.dispatchEvent(new MessageEvent("message", { data, origin, lastEventId }));
    };
    // a failed handshake comes here as well, as code 1006 and without a word on why
    socket.onclose = (event) => {
      if (this.#reconnection.isStopped) return;
      this.#socket = undefined;
      if (!(shouldReconnect?.(event) ?? event.code !== NORMAL)) {
        this.#reconnection.stop("ended", event.code);
        return;
      }
      this.dispatchEvent(new DropEvent(event.code));
      this.#reconnection.lost();
    };
  }
}

const OPEN = 1;
const NORMAL = 1000;
