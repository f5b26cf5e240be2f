import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openEventSource } from "../src/events.js";
import type { ReconnectingWebSocket, WebSocketOptions } from "../src/socket.js";
import { openWebSocket } from "../src/socket.js";
import { FakeAgent, json, refuse } from "./agent.js";
import { Browser, type Tab } from "./browser.js";

let agent: FakeAgent;
let browser: Browser;
let tab: Tab;

beforeEach(() => {
  vi.useFakeTimers();
  agent = new FakeAgent();
  browser = new Browser(agent);
  FakeSocket.all = [];
});

afterEach(() => {
  for (const tab of browser.tabs) tab.client.close();
  vi.useRealTimers();
});

class FakeSocket {
  static all: FakeSocket[] = [];
  readyState = 0;
  protocol = "";
  bufferedAmount = 0;
  binaryType = "";
  sent: unknown[] = [];
  closed: unknown[] | undefined;
  onopen = () => {};
  onmessage = (_: { data: unknown }) => {};
  onclose = (_: { code: number }) => {};
  readonly url: string;
  readonly protocols: string | string[];
  constructor(url: string, protocols: string | string[]) {
    this.url = url;
    this.protocols = protocols;
    FakeSocket.all.push(this);
  }
  send(data: unknown) {
    this.sent.push(data);
  }
  close(...how: unknown[]) {
    this.closed = how;
  }
  accept() {
    this.readyState = 1;
    this.onopen();
  }
  drop(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
  static get last() {
    return FakeSocket.all.at(-1) as FakeSocket;
  }
}

async function signedIn() {
  agent.signIn(browser);
  tab = browser.open({ refreshAhead: false });
  await tab.client.session();
  agent.log.length = 0;
}

interface Heard {
  type: string;
  reason?: string;
  status?: number;
  data?: unknown;
  lastEventId?: string;
}

function listen(target: { addEventListener: unknown }, ...types: string[]): Heard[] {
  const heard: Heard[] = [];
  for (const type of ["open", "message", "drop", "close", ...types]) {
    (target as EventTarget).addEventListener(type, (event) => {
      const { reason, status, data, lastEventId } = event as unknown as Heard;
      heard.push(JSON.parse(JSON.stringify({ type, reason, status, data, lastEventId: lastEventId || undefined })));
    });
  }
  return heard;
}

function open(options: WebSocketOptions = {}): [ReconnectingWebSocket, Heard[]] {
  const url = "https://app.example/api/live";
  const socket = openWebSocket(tab.client, url, { WebSocket: FakeSocket as never, random: () => 1, ...options });
  return [socket, listen(socket)];
}

const tick = (milliseconds = 0) => vi.advanceTimersByTimeAsync(milliseconds);

describe("a WebSocket", () => {
  test("opens, sends, hears and closes", async () => {
    await signedIn();
    const [socket, heard] = open({ protocols: ["a"], binaryType: "arraybuffer" });
    await tick();
    expect(FakeSocket.last).toMatchObject({
      url: "wss://app.example/api/live",
      protocols: ["a"],
      binaryType: "arraybuffer",
    });
    expect(socket.state).toBe("connecting");
    expect(socket.send("early")).toBe(false);
    FakeSocket.last.accept();
    expect(socket.state).toBe("open");
    expect(socket.send("hello")).toBe(true);
    FakeSocket.last.onmessage({ data: "world" });
    socket.close(4000, "done");
    socket.close();
    expect(FakeSocket.last.sent).toEqual(["hello"]);
    expect(FakeSocket.last.closed).toEqual([4000, "done"]);
    expect(socket.state).toBe("closed");
    expect(heard).toEqual([
      { type: "open" },
      { type: "message", data: "world" },
      { type: "close", reason: "closed", status: 4000 },
    ]);
    await tick(100_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(agent.log).toEqual([]);
  });

  test("that drops comes back, later and later, and at once when it stood for a while", async () => {
    await signedIn();
    agent.tokenLife = 100_000;
    await tab.client.refresh();
    const [, heard] = open();
    await tick();
    for (const pause of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      const before = FakeSocket.all.length;
      FakeSocket.last.accept();
      FakeSocket.last.drop();
      await tick(pause - 1);
      expect(FakeSocket.all.length, `${pause}`).toBe(before);
      await tick(1);
      expect(FakeSocket.all.length, `${pause}`).toBe(before + 1);
    }
    FakeSocket.last.accept();
    await tick(6000);
    FakeSocket.last.drop(1001);
    await tick(500);
    expect(FakeSocket.all).toHaveLength(10);
    expect(heard.at(-1)).toEqual({ type: "drop", status: 1001 });
  });

  test("after a failed handshake with an expired token comes back after a refresh", async () => {
    await signedIn();
    const [, heard] = open();
    await tick(1000 * agent.tokenLife);
    FakeSocket.last.drop();
    await tick(500);
    expect(agent.log).toEqual(["GET /auth/session", "POST /auth/refresh"]);
    FakeSocket.last.accept();
    expect(FakeSocket.all).toHaveLength(2);
    expect(heard).toEqual([{ type: "drop", status: 1006 }, { type: "open" }]);
  });

  test("opens after a refresh where the token has run out already", async () => {
    await signedIn();
    await tick(1000 * agent.tokenLife);
    open();
    expect(FakeSocket.all).toHaveLength(0);
    await tick();
    expect(agent.log).toEqual(["POST /auth/refresh"]);
    expect(FakeSocket.all).toHaveLength(1);
  });

  test("stops when its session has ended: the agent is asked", async () => {
    await signedIn();
    const [socket, heard] = open();
    await tick();
    FakeSocket.last.accept();
    agent.sessions.clear();
    FakeSocket.last.drop(3000);
    await tick(100_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(socket.state).toBe("closed");
    expect(heard.at(-1)).toEqual({ type: "close", reason: "session-ended", status: 0 });
    expect(agent.log).toEqual(["GET /auth/session"]);
  });

  test("stops at once when the user signs out in another tab", async () => {
    await signedIn();
    const other = browser.open();
    await other.client.session();
    const [, heard] = open();
    await tick();
    FakeSocket.last.accept();
    other.client.signOut();
    await tick(1);
    expect(heard.at(-1)).toMatchObject({ type: "close", reason: "session-ended" });
    expect(FakeSocket.last.closed).toEqual([]);
  });

  test("is never tried without a session, but where that is optional", async () => {
    tab = browser.open();
    const [, heard] = open();
    await tick();
    expect(FakeSocket.all).toHaveLength(0);
    expect(heard).toEqual([{ type: "close", reason: "session-ended", status: 0 }]);
    open({ session: "optional" });
    await tick();
    expect(FakeSocket.all).toHaveLength(1);
  });

  test("in an outage of the agent goes on trying", async () => {
    await signedIn();
    open();
    await tick();
    agent.instead.set("/auth/session", () => refuse(503, "store_unavailable"));
    FakeSocket.last.drop();
    await tick(500);
    expect(FakeSocket.all).toHaveLength(2);
    expect(tab.client.state.status).toBe("signed-in");
  });

  test.each([
    { name: "an end in order", options: {}, code: 1000 },
    { name: "a code of the API's", options: { shouldReconnect: ({ code }: CloseEvent) => code !== 4003 }, code: 4003 },
  ])("$name is the end", async ({ options, code }) => {
    await signedIn();
    const [, heard] = open(options);
    await tick();
    FakeSocket.last.accept();
    FakeSocket.last.drop(code);
    await tick(100_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(heard.at(-1)).toEqual({ type: "close", reason: "ended", status: code });
  });

  test("the signal closes it, also while it waits", async () => {
    await signedIn();
    const abort = new AbortController();
    const [, heard] = open({ signal: abort.signal });
    await tick();
    FakeSocket.last.drop();
    abort.abort();
    await tick(100_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(heard.at(-1)).toMatchObject({ type: "close", reason: "closed" });
    const [, late] = open({ signal: abort.signal });
    await tick();
    expect(late).toMatchObject([{ type: "close", reason: "closed" }]);
  });

  test("many users do not come back at one moment", async () => {
    await signedIn();
    open({ random: () => 0 });
    await tick();
    FakeSocket.last.drop();
    await tick(250);
    expect(FakeSocket.all).toHaveLength(2);
  });
});

describe("a stream of events", () => {
  function serve(path = "/api/events") {
    const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
    const heads: Headers[] = [];
    agent.instead.set(path, ({ headers }) => {
      heads.push(headers);
      const body = new ReadableStream<Uint8Array>({ start: (controller) => void streams.push(controller) });
      return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
    });
    const write = (text: string) => streams.at(-1)?.enqueue(new TextEncoder().encode(text));
    return { streams, heads, write };
  }
  const url = "https://app.example/api/events";

  const texts: { name: string; chunks: string[]; heard: Heard[] }[] = [
    { name: "one line", chunks: ["data: a\n\n"], heard: [{ type: "message", data: "a" }] },
    { name: "several lines", chunks: ["data: a\ndata:b\ndata\n\n"], heard: [{ type: "message", data: "a\nb\n" }] },
    {
      name: "CR LF in two parts",
      chunks: ["data: a\r", "\n\r", "\ndata: b\r\n\r\n"],
      heard: [
        { type: "message", data: "a" },
        { type: "message", data: "b" },
      ],
    },
    {
      name: "CR, LF, LF in three parts",
      chunks: ["data: a\r", "\n", "\ndata: b\n\n"],
      heard: [
        { type: "message", data: "a" },
        { type: "message", data: "b" },
      ],
    },
    { name: "CR alone", chunks: ["data: a\r\r"], heard: [{ type: "message", data: "a" }] },
    { name: "parts in the middle", chunks: ["da", "ta:", " ä\n", "\n"], heard: [{ type: "message", data: "ä" }] },
    { name: "a comment", chunks: [": ping\n\n"], heard: [] },
    { name: "a mark of the byte order", chunks: ["\uFEFFdata: a\n\n"], heard: [{ type: "message", data: "a" }] },
    { name: "a name", chunks: ["event: news\ndata: a\n\n"], heard: [{ type: "news", data: "a" }] },
    { name: "a name of ours", chunks: ["event: close\ndata: a\n\n"], heard: [{ type: "message", data: "a" }] },
    { name: "a name without data", chunks: ["event: news\n\ndata: a\n\n"], heard: [{ type: "message", data: "a" }] },
    {
      name: "an id that stays",
      chunks: ["id: 7\ndata: a\n\ndata: b\n\n"],
      heard: [
        { type: "message", data: "a", lastEventId: "7" },
        { type: "message", data: "b", lastEventId: "7" },
      ],
    },
    { name: "an id with NUL", chunks: ["id: 7\0\ndata: a\n\n"], heard: [{ type: "message", data: "a" }] },
    { name: "no end", chunks: ["data: a\n"], heard: [] },
    { name: "a field of nobody's", chunks: ["other: x\ndata:  a\n\n"], heard: [{ type: "message", data: " a" }] },
  ];
  test.each(texts)("$name", async ({ chunks, heard: expected }) => {
    await signedIn();
    const { write } = serve();
    const heard = listen(openEventSource(tab.client, url), "news");
    await tick(1);
    for (const chunk of chunks) {
      write(chunk);
      await tick(1);
    }
    expect(heard).toEqual([{ type: "open" }, ...expected]);
  });

  test("comes back where it was", async () => {
    await signedIn();
    const { streams, heads, write } = serve();
    const source = openEventSource(tab.client, url, { random: () => 1, headers: { "x-own": "1" }, lastEventId: "1" });
    const heard = listen(source);
    await tick(1);
    expect(source.state).toBe("open");
    write("id: 2\nretry: 3000\ndata: a\n\n");
    await tick(1);
    streams[0]?.error(new TypeError("network"));
    await tick(2990);
    expect(source.state).toBe("connecting");
    expect(streams).toHaveLength(1);
    await tick(20);
    expect(streams).toHaveLength(2);
    expect(
      heads.map((head) => [head.get("last-event-id"), head.get("x-own"), head.get("token-handler-version")]),
    ).toEqual([
      ["1", "1", "1"],
      ["2", "1", "1"],
    ]);
    expect(heard.map(({ type }) => type)).toEqual(["open", "message", "drop", "open"]);
    source.close();
    source.close();
    expect(heard.at(-1)).toEqual({ type: "close", reason: "closed", status: 0 });
    expect(source.state).toBe("closed");
  });

  test.each([
    { name: "an event that broke off", written: ["id: 4\ndata: a\n\nid: 5\nda"], id: "4" },
    { name: "an id without data", written: ["id: 4\n\n"], id: "4" },
    { name: "an id of many letters", written: ["id: \u8ba2-5\ndata: a\n\n"], id: "\u00e8\u00ae\u00a2-5" },
    { name: "an empty id", written: ["id: 4\ndata: a\n\n", "id\ndata: b\n\n"], id: null },
    { name: "a pause that no timer can count", written: ["retry: 9999999999\n\n"], id: "never" },
  ])("comes back after $name", async ({ written, id }) => {
    await signedIn();
    agent.tokenLife = 1_000_000;
    await tab.client.refresh();
    const { streams, heads, write } = serve();
    openEventSource(tab.client, url, { random: () => 1 });
    await tick(1);
    for (const [place, text] of written.entries()) {
      write(text);
      await tick(1);
      streams[place]?.error(new TypeError("network"));
      await tick(500 * 2 ** place + 1);
    }
    if (id === "never") return expect(heads).toHaveLength(1);
    expect(heads).toHaveLength(1 + written.length);
    expect(heads.at(-1)?.get("last-event-id")).toBe(id);
  });

  test("is refreshed for like any call", async () => {
    await signedIn();
    const { streams } = serve();
    const answer = agent.instead.get("/api/events");
    let refused = false;
    agent.instead.set("/api/events", (call) => {
      if (refused) return answer?.(call);
      refused = true;
      return refuse(401, "access_token_expired");
    });
    openEventSource(tab.client, url);
    await tick(1);
    expect(streams).toHaveLength(1);
    expect(agent.log).toEqual(["GET /api/events", "POST /auth/refresh", "GET /api/events"]);
  });

  const refusals: { name: string; answer: () => Response; closed: Heard | null }[] = [
    {
      name: "204",
      answer: () => new Response(null, { status: 204 }),
      closed: { type: "close", reason: "ended", status: 204 },
    },
    {
      name: "the API's own 401",
      answer: () => json({}, 401),
      closed: { type: "close", reason: "failed", status: 401 },
    },
    { name: "a page", answer: () => new Response("<html>"), closed: { type: "close", reason: "failed", status: 200 } },
    { name: "404", answer: () => refuse(404, "not_found"), closed: { type: "close", reason: "failed", status: 404 } },
    { name: "an outage", answer: () => refuse(503, "upstream_busy", { "retry-after": "9" }), closed: null },
    { name: "too many", answer: () => refuse(429, "rate_limited", { "retry-after": "9" }), closed: null },
  ];
  test.each(refusals)("refused with $name", async ({ answer, closed }) => {
    await signedIn();
    agent.instead.set("/api/events", answer);
    const heard = listen(openEventSource(tab.client, url, { random: () => 1 }));
    await tick(8900);
    expect(agent.count("GET /api/events")).toBe(1);
    await tick(200);
    if (closed) expect(heard).toEqual([closed]);
    expect(agent.count("GET /api/events")).toBe(closed ? 1 : 2);
  });

  test("stops when its session has ended", async () => {
    await signedIn();
    const { streams } = serve();
    const heard = listen(openEventSource(tab.client, url));
    await tick(1);
    agent.sessions.clear();
    streams[0]?.error(new TypeError("broken off"));
    await tick(100_000);
    expect(streams).toHaveLength(1);
    expect(heard.at(-1)).toEqual({ type: "close", reason: "session-ended", status: 0 });
  });
});
