/**
 * Sign-in without tokens in the browser: the client of Coatroom.
 *
 * ```ts
 * import { createCoatroom } from "coatroom";
 *
 * const coatroom = createCoatroom();
 * const { user } = await coatroom.session();
 * if (user) await coatroom.fetch("/api/orders");
 * else await coatroom.signIn();
 * ```
 *
 * It never sees, stores or asks for a token, a code or a secret: the browser's `HttpOnly` cookies carry everything.
 *
 * @module coatroom
 */

export { createCoatroom } from "./coatroom.js";
export type { ClientErrorCode, CoatroomErrorOptions, ErrorCode, ServerErrorCode } from "./errors.js";
export { CoatroomError, errorOf, StepUpRequired, stepUpOf } from "./errors.js";
export type { EventSourceEvents, EventSourceOptions, ReconnectingEventSource } from "./events.js";
export { openEventSource } from "./events.js";
export type { RequireSessionOptions, SignIn } from "./gate.js";
export { requireSession } from "./gate.js";
export type { ClosedReason, ReconnectOptions, TypedEventTarget } from "./reconnect.js";
export { ClosedEvent, DropEvent } from "./reconnect.js";
export type { ReconnectingWebSocket, WebSocketEvents, WebSocketOptions } from "./socket.js";
export { openWebSocket } from "./socket.js";
export type {
  CallbackResult,
  Claims,
  Coatroom,
  CoatroomOptions,
  CoatroomRequestInit,
  RefreshOptions,
  Session,
  SessionEntry,
  SessionState,
  SignedInState,
  SignedOutReason,
  SignedOutState,
  SignInOptions,
  SignOutOptions,
  UnknownState,
} from "./types.js";
