/**
 * A browser with tabs, as far as the library looks: locks, channels, storage, visibility, history, the cookies of one
 * agent. Timers and clocks are those of the test, which fakes them.
 */

import { createIn } from "../src/coatroom.js";
import type { Coatroom, CoatroomOptions } from "../src/types.js";
import type { World } from "../src/world.js";
import type { Cookies, FakeAgent } from "./agent.js";

/** What a browser can lack. */
export interface Lacks {
  locks?: boolean;
  channel?: boolean;
  storage?: "missing" | "throws";
}

export class Browser {
  cookies: Cookies | null = null;
  isOffline = false;
  /** Milliseconds that a message between tabs takes. */
  delay = 0;
  readonly tabs: Tab[] = [];
  readonly locks = new FakeLocks();
  readonly storage = new Map<string, string>();
  readonly channels = new Map<string, Set<FakeChannel>>();

  readonly agent: FakeAgent;
  readonly lacks: Lacks;

  constructor(agent: FakeAgent, lacks: Lacks = {}) {
    this.agent = agent;
    this.lacks = lacks;
  }

  /** The event that the other tabs get; without a key everything was cleared. */
  tellOfStorage(from: Tab | null, key: string | null, newValue: string | null): void {
    for (const other of this.tabs) {
      if (other === from || other.isFrozen) continue;
      const event = Object.assign(new Event("storage"), { key, newValue });
      queueMicrotask(() => other.window.dispatchEvent(event));
    }
  }

  open(options: CoatroomOptions = {}, href = "https://app.example/page?x=1#top"): Tab {
    const tab = new Tab(this, href, options);
    this.tabs.push(tab);
    return tab;
  }
}

export class Tab {
  readonly window: EventTarget & Record<string, unknown>;
  readonly document: EventTarget & { visibilityState: string; baseURI: string };
  readonly client: Coatroom;
  /** Where the page went. */
  readonly left: string[] = [];
  url: URL;
  isFrozen = false;

  constructor(browser: Browser, href: string, options: CoatroomOptions) {
    const tab = this;
    this.url = new URL(href);
    this.document = Object.assign(new EventTarget(), { visibilityState: "visible", baseURI: href });
    Object.defineProperty(this.document, "hidden", { get: () => this.document.visibilityState === "hidden" });
    const { lacks } = browser;
    const location = {
      get href() {
        return tab.url.href;
      },
      get origin() {
        return tab.url.origin;
      },
      get pathname() {
        return tab.url.pathname;
      },
      get search() {
        return tab.url.search;
      },
      get hash() {
        return tab.url.hash;
      },
      assign: (url: string) => this.left.push(String(url)),
      replace: (url: string) => this.left.push(`replace ${url}`),
    };
    const history = {
      state: { router: "state" },
      replaceState(_state: unknown, _title: string, url: URL) {
        tab.url = new URL(url, tab.url);
      },
    };
    const localStorage = {
      getItem: (key: string) => {
        if (lacks.storage === "throws") throw new DOMException("denied", "SecurityError");
        return browser.storage.get(key) ?? null;
      },
      setItem: (key: string, value: string) => {
        if (lacks.storage === "throws") throw new DOMException("denied", "SecurityError");
        browser.storage.set(key, value);
        browser.tellOfStorage(tab, key, value);
      },
    };
    class BroadcastChannel extends FakeChannel {
      constructor(name: string) {
        super(browser, name);
      }
    }
    const window = Object.assign(new EventTarget(), {
      document: this.document,
      location,
      history,
      navigator: lacks.locks ? {} : { locks: browser.locks },
      ...(lacks.channel ? {} : { BroadcastChannel }),
      ...(lacks.storage === "missing" ? {} : { localStorage }),
      fetch: (input: RequestInfo, init?: RequestInit) => browser.agent.fetch(browser, input, init),
      // named when they are called, because tests replace them
      setTimeout: (...timer: Parameters<typeof setTimeout>) => setTimeout(...timer),
      clearTimeout: (timer: number) => clearTimeout(timer),
      performance: { now: () => performance.now() },
      Date: { now: () => Date.now() },
    });
    this.window = window as unknown as Tab["window"];
    this.client = createIn(window as unknown as World, options);
  }

  hide(): void {
    this.document.visibilityState = "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  show(): void {
    this.document.visibilityState = "visible";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  /** Leaves the page for the back/forward cache, and comes back by the *back* button. */
  freeze(): void {
    this.window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }));
    this.isFrozen = true;
  }

  thaw(): void {
    this.isFrozen = false;
    this.window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  }

  goOnline(): void {
    this.window.dispatchEvent(new Event("online"));
  }
}

class FakeChannel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  private readonly peers: Set<FakeChannel>;
  private readonly browser: Browser;

  constructor(browser: Browser, name: string) {
    this.browser = browser;
    this.peers = browser.channels.get(name) ?? new Set();
    browser.channels.set(name, this.peers.add(this));
  }

  postMessage(message: unknown): void {
    for (const peer of this.peers) {
      if (peer !== this) {
        const data = structuredClone(message);
        const arrive = () => this.peers.has(peer) && peer.onmessage?.({ data });
        if (this.browser.delay) setTimeout(arrive, this.browser.delay);
        else queueMicrotask(arrive);
      }
    }
  }

  close(): void {
    this.peers.delete(this);
  }
}

interface Request {
  name: string;
  begin: () => void;
}

/** The Web Locks API, as far as it is used: in order, abortable while waiting, and with `steal`. */
export class FakeLocks {
  private readonly held = new Map<string, { fail: (error: unknown) => void }>();
  private readonly waiting: Request[] = [];
  /** How many were held at once at most, thefts aside. */
  thefts = 0;

  request(
    name: string,
    options: { signal?: AbortSignal; steal?: boolean; ifAvailable?: boolean },
    work: (lock: object | null) => unknown,
  ): Promise<unknown> {
    if (options.ifAvailable && this.held.has(name)) return Promise.resolve(work(null));
    return new Promise((resolve, reject) => {
      const request = {
        name,
        begin: () => {
          const holder = { fail: reject };
          this.held.set(name, holder);
          queueMicrotask(async () => {
            try {
              resolve(await work({}));
            } catch (error) {
              reject(error);
            }
            if (this.held.get(name) === holder) {
              this.held.delete(name);
              this.next(name);
            }
          });
        },
      };
      if (options.steal) {
        this.thefts++;
        this.held.get(name)?.fail(new DOMException("stolen", "AbortError"));
        request.begin();
        return;
      }
      options.signal?.addEventListener("abort", () => {
        const place = this.waiting.indexOf(request);
        if (place < 0) return;
        this.waiting.splice(place, 1);
        reject(options.signal?.reason);
      });
      this.waiting.push(request);
      if (!this.held.has(name)) this.next(name);
    });
  }

  /** Somebody holds it and never lets go. */
  hang(name: string): void {
    this.held.set(name, { fail() {} });
  }

  private next(name: string): void {
    const place = this.waiting.findIndex((request) => request.name === name);
    if (place >= 0) (this.waiting.splice(place, 1)[0] as Request).begin();
  }
}
