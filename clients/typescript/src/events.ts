/**
 * Server-sent events (HTML Living Standard §9.2) over {@link Coatroom.fetch}.
 *
 * Unlike the browser's `EventSource` it sends the custom header, so that the route needs no `resources: true`, it knows
 * why it was refused, and it takes its last event id along to a new connection. Never reads an answer that is none of
 * `text/event-stream`.
 *
 * @module
 */

import { errorOf } from "./errors.js";
import { ClosedEvent, DropEvent, Reconnection, type ReconnectOptions, type TypedEventTarget } from "./reconnect.js";
import type { Coatroom } from "./types.js";

/** How to open a {@link ReconnectingEventSource}. */
export interface EventSourceOptions extends ReconnectOptions {
  /** Headers of your own. */
  headers?: HeadersInit | undefined;
  /** The event after which to begin (`Last-Event-ID`). */
  lastEventId?: string | undefined;
}

/** What a {@link ReconnectingEventSource} tells, beside the events that the API gives names of their own. */
export interface EventSourceEvents {
  open: Event;
  /** Events without a name, or with one of ours. */
  message: MessageEvent<string>;
  /** It is lost, and will be tried again. */
  drop: DropEvent;
  /** It is over. */
  close: ClosedEvent;
  [name: string]: Event;
}

/** A stream of events that connects again, until it is closed or its session ends. */
export interface ReconnectingEventSource extends TypedEventTarget<EventSourceEvents> {
  readonly url: string;
  /** `connecting` also while it waits for the next try. */
  readonly state: "connecting" | "open" | "closed";
  /** The id of the last event that had one, or `""`. */
  readonly lastEventId: string;
  close(): void;
}

/**
 * Opens a stream of server-sent events that outlives dropped connections and expired tokens.
 *
 * ```ts
 * const events = openEventSource(coatroom, "/api/events");
 * events.addEventListener("message", ({ data }) => show(data));
 * events.addEventListener("close", ({ reason }) => reason === "session-ended" && coatroom.signIn());
 * ```
 */
export function openEventSource(
  coatroom: Coatroom,
  url: string | URL,
  options: EventSourceOptions = {},
): ReconnectingEventSource {
  return new Events(coatroom, url, options) as unknown as ReconnectingEventSource;
}

class Events extends EventTarget {
  readonly url: string;
  lastEventId: string;
  readonly #coatroom: Coatroom;
  readonly #headers: Headers;
  readonly #reconnection: Reconnection;
  readonly #abort = new AbortController();
  #isOpen = false;
  /** What the API asked to wait before the next try, in milliseconds. */
  #retry = 0;

  constructor(coatroom: Coatroom, url: string | URL, { headers, lastEventId = "", ...options }: EventSourceOptions) {
    super();
    this.url = String(url);
    this.lastEventId = lastEventId;
    this.#coatroom = coatroom;
    this.#headers = new Headers(headers);
    this.#headers.set("accept", "text/event-stream");
    this.#reconnection = new Reconnection(
      coatroom,
      options,
      (isUnasked) => this.#connect(isUnasked),
      (reason, status) => {
        this.#abort.abort();
        this.dispatchEvent(new ClosedEvent(reason, status));
      },
    );
  }

  get state(): ReconnectingEventSource["state"] {
    if (this.#reconnection.isStopped) return "closed";
    return this.#isOpen ? "open" : "connecting";
  }

  close(): void {
    this.#reconnection.stop("closed");
  }

  async #connect(background: boolean): Promise<void> {
    let status = 0;
    let retryAfter = 0;
    try {
      if (this.lastEventId) this.#headers.set("last-event-id", utf8(this.lastEventId));
      else this.#headers.delete("last-event-id");
      const response = await this.#coatroom.fetch(this.url, {
        headers: this.#headers,
        cache: "no-store",
        signal: this.#abort.signal,
        background,
      });
      status = response.status;
      const type = response.headers.get("content-type") ?? "";
      if (status === 200 && type.startsWith("text/event-stream") && response.body) {
        this.#isOpen = true;
        this.#reconnection.opened();
        this.dispatchEvent(new Event("open"));
        await this.#read(response.body, new URL(response.url || this.url, globalThis.location?.href).origin);
      } else {
        const error = await errorOf(response);
        response.body?.cancel();
        retryAfter = error?.retryAfter ?? 0;
        // what is not an outage stays as it is
        const canChange = status >= 500 || status === 429 || (status === 401 && error?.status === 401);
        if (!canChange) return this.#reconnection.stop(status === 204 ? "ended" : "failed", status);
      }
    } catch {
      // the connection broke, which is no error of a stream
    }
    this.#isOpen = false;
    if (this.#reconnection.isStopped) return;
    this.dispatchEvent(new DropEvent(status));
    await this.#reconnection.lost(Math.max(retryAfter, this.#retry / 1000));
  }

  async #read(body: ReadableStream<Uint8Array>, origin: string): Promise<void> {
    let data: string[] = [];
    let type = "";
    let id = this.lastEventId;
    const field = (name: string, value: string) => {
      if (name === "data") data.push(value);
      else if (name === "event") type = value;
      else if (name === "id" && !value.includes("\0")) id = value;
      else if (name === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
    };
    for await (const line of linesOf(body)) {
      if (line === "") {
        // an event that broke off must come once more
        this.lastEventId = id;
        const init = { data: data.join("\n"), origin, lastEventId: id };
        if (data.length) this.dispatchEvent(new MessageEvent(OUR_NAMES.has(type) ? "message" : type, init));
        data = [];
        type = "";
        continue;
      }
      const colon = line.indexOf(":");
      if (colon < 0) field(line, "");
      else field(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ""));
    }
  }
}

/** What an event of the API cannot be called; it is a `message` then. */
const OUR_NAMES = new Set(["", "open", "drop", "close"]);

/** A header takes bytes, each as one character. */
function utf8(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

/** Lines that end with CR LF, LF or CR; what no end follows is none. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let endsWithCr = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const chunk = decoder.decode(value, { stream: true });
    // the other half of a CR LF
    const text = endsWithCr && chunk.startsWith("\n") ? chunk.slice(1) : chunk;
    if (chunk) endsWithCr = chunk.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\n|\r/);
    rest = lines.pop() as string;
    yield* lines;
  }
}
