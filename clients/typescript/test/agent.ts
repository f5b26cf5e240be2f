/**
 * A scripted agent and proxy: sessions in cookies, with refresh tokens that are good for one use.
 *
 * Stricter than Coatroom: it remembers no refresh, so that a refresh token shown twice ends the session, and a client
 * that does not keep its tabs in order is seen.
 */

export interface Cookies {
  session: string;
  refreshToken: number;
  /** By the agent's clock, in milliseconds. */
  accessTokenEnds: number;
}

interface Session {
  id: string;
  claims: Record<string, unknown>;
  refreshToken: number;
  idleEnds: number;
  ends: number;
}

export interface Call {
  method: string;
  url: string;
  headers: Headers;
  body: string;
  init: RequestInit;
}

export class FakeAgent {
  /** Every request that came, as `METHOD /path`. */
  readonly log: string[] = [];
  readonly calls: Call[] = [];
  sessions = new Map<string, Session>();
  /** Seconds. */
  tokenLife = 300;
  idle = 1800;
  absolute = 36_000;
  /** Milliseconds that an answer takes. */
  latency = 0;
  /** Answers in place of the real ones, by path; a function may return `undefined` to let one pass. */
  readonly instead = new Map<string, (call: Call) => Response | Promise<Response> | Error | undefined>();
  /** Awaited before the answer to a path, after the cookies were read. */
  readonly held = new Map<string, Promise<void>>();
  reuses = 0;
  /** Whether a refresh that comes twice is answered twice. */
  remembers = false;
  private ids = 0;

  signIn(
    browser: { cookies: Cookies | null },
    claims: Record<string, unknown> = { sub: "alice", name: "Alice" },
  ): string {
    const id = `session-${++this.ids}`;
    const now = Date.now();
    const session = { id, claims, refreshToken: 1, idleEnds: now + 1000 * this.idle, ends: now + 1000 * this.absolute };
    this.sessions.set(id, session);
    browser.cookies = { session: id, refreshToken: 1, accessTokenEnds: now + 1000 * this.tokenLife };
    return id;
  }

  /** How many requests with this beginning came. */
  count(beginning: string): number {
    return this.log.filter((line) => line.startsWith(beginning)).length;
  }

  async fetch(
    browser: { cookies: Cookies | null; isOffline: boolean },
    input: RequestInfo | URL,
    init: RequestInit = {},
  ) {
    const request = new Request(new URL(input instanceof Request ? input.url : String(input), "https://app.example"), {
      ...(input instanceof Request
        ? { method: input.method, body: input.body, headers: input.headers, duplex: "half", signal: input.signal }
        : {}),
      ...init,
      keepalive: false,
      ...(init.body instanceof ReadableStream ? { duplex: "half" } : {}),
    } as RequestInit);
    const { pathname } = new URL(request.url);
    this.log.push(`${request.method} ${pathname}`);
    const isNear = new URL(request.url).origin === "https://app.example";
    const withCookies = init.credentials === "include" || (isNear && init.credentials === "same-origin");
    const cookies = withCookies && browser.cookies ? { ...browser.cookies } : null;
    const call = {
      method: request.method,
      url: request.url,
      headers: request.headers,
      body: await request.text(),
      init,
    };
    this.calls.push(call);
    request.signal.throwIfAborted();
    if (browser.isOffline) throw new TypeError("Failed to fetch");

    const aborted = new Promise<never>((_, reject) =>
      request.signal.addEventListener("abort", () => reject(request.signal.reason)),
    );
    aborted.catch(() => {});
    if (this.latency) await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, this.latency))]);
    const instead = await Promise.race([aborted, this.instead.get(pathname)?.(call)]);
    if (instead instanceof Error) throw instead;
    const answer = instead ?? this.answer(call, cookies);
    // an answer is made when the request comes, and arrives when the test says so
    await Promise.race([aborted, this.held.get(pathname)]);
    const set = (answer as { cookies?: Cookies | null }).cookies;
    if (set !== undefined) browser.cookies = set;
    return answer;
  }

  private answer({ method, url, headers, body }: Call, cookies: Cookies | null): Response {
    if (!headers.has("token-handler-version")) return refuse(403, "csrf_rejected");
    const { pathname } = new URL(url);
    const form = new URLSearchParams(body);
    const session = cookies ? this.sessions.get(cookies.session) : undefined;
    const live = session && Date.now() < Math.min(session.idleEnds, session.ends) ? session : undefined;
    switch (`${method} ${pathname}`) {
      case "GET /auth/session":
        return json(this.describe(live, cookies));
      case "POST /auth/refresh": {
        if (!cookies) return refuse(401, "unauthorized");
        if (!live) return Object.assign(refuse(401, "session_expired"), { cookies: null });
        if (live.refreshToken !== cookies.refreshToken && !this.remembers) {
          this.reuses++;
          this.sessions.delete(live.id);
          return refuse(401, "session_expired");
        }
        live.refreshToken++;
        if (form.get("background") !== "true") live.idleEnds = Date.now() + 1000 * this.idle;
        const next = {
          session: live.id,
          refreshToken: live.refreshToken,
          accessTokenEnds: Date.now() + 1000 * this.tokenLife,
        };
        return Object.assign(json(this.describe(live, next)), { cookies: next });
      }
      case "POST /auth/login/start":
        return json({ authorization_url: `https://login.example/authorize?${form}` });
      case "POST /auth/login/end": {
        if (form.get("state") !== "good") return refuse(400, "login_state_invalid");
        const browser = { cookies: null as Cookies | null };
        this.signIn(browser);
        const made = this.sessions.get((browser.cookies as unknown as Cookies).session) as Session;
        const answer = { ...this.describe(made, browser.cookies), return_to: "https://app.example/deep?a=1#part" };
        return Object.assign(json(answer), { cookies: browser.cookies });
      }
      case "POST /auth/logout":
        if (session) this.sessions.delete(session.id);
        return Object.assign(json(cookies ? { logout_url: "https://app.example/auth/logout/continue" } : {}), {
          cookies: null,
        });
      case "GET /auth/sessions":
        return json({
          sessions: [
            { id: "abcdefghijk", created_at: 1800000000, last_used_at: 1800003600, user_agent: null, current: true },
          ],
        });
      case "DELETE /auth/sessions/abcdefghijk":
        return json({});
    }
    if (!pathname.startsWith("/api")) return refuse(404, "not_found");
    if (!cookies) return refuse(401, "unauthorized");
    if (!session || Date.now() >= session.ends) return refuse(401, "session_expired");
    if (Date.now() >= cookies.accessTokenEnds) return refuse(401, "access_token_expired");
    return json({ method, body });
  }

  private describe(session: Session | undefined, cookies: Cookies | null) {
    if (!session || !cookies) {
      return { is_logged_in: false, id_token_claims: null, access_token_expires_in: null, session: null };
    }
    const left = (end: number) => Math.max(0, Math.floor((end - Date.now()) / 1000));
    return {
      is_logged_in: true,
      id_token_claims: session.claims,
      access_token_expires_in: left(cookies.accessTokenEnds),
      session: {
        id: session.id,
        idle_expires_in: left(session.idleEnds),
        expires_in: left(session.ends),
        provider_expires_in: null,
      },
    };
  }
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
}

export function refuse(status: number, code: string, headers: Record<string, string> = {}): Response {
  const body = { error_code: code, detailed_error: `about ${code}` };
  return json(body, status, { "token-handler-error": code, ...headers });
}
