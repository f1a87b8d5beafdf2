// Errors of the API: `{"error":{"code","message"}}` over HTTP, `error` in a control reply, and the client's own.

/** Kinds of errors the server sends (docs/reference/errors), and those that only a client meets. */
export type ErrorCode =
  | "unauthenticated"
  | "token_expired"
  | "forbidden"
  | "bad_request"
  | "bad_sdp"
  | "no_common_codec"
  | "too_large"
  | "not_found"
  | "conflict"
  | "room_full"
  | "rate_limited"
  | "overloaded"
  | "draining"
  | "unsupported_codec"
  | "disabled"
  | "at_limit"
  | "already_running"
  | "no_data_retention"
  | "internal"
  /** The server could not be reached by HTTP. */
  | "unreachable"
  /** The server answered, but no media connection came about in time. */
  | "connection_failed"
  /** No reply to a request in time. */
  | "timeout"
  /** The room was left while the request was under way. */
  | "closed"
  /** An answer that this client does not understand. */
  | "protocol";

/** What every failing call of this library throws. Programs look at `code`; `message` says what to do. */
export class AntiphonError extends Error {
  override readonly name = "AntiphonError";
  constructor(
    readonly code: ErrorCode,
    message: string,
    /** HTTP status, where there was one. */
    readonly status?: number,
  ) {
    super(message);
  }
}

/** The error of an HTTP response that is not ok. Never throws: a body of another shape gives `fallback`. */
export async function errorOf(response: Response): Promise<AntiphonError> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = isRecord(body) && isRecord(body.error) ? body.error : undefined;
  const code = typeof error?.code === "string" ? (error.code as ErrorCode) : codeOfStatus(response.status);
  const message =
    typeof error?.message === "string"
      ? error.message
      : `The server answered with status ${response.status}.`;
  return new AntiphonError(code, message, response.status);
}

function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return "unauthenticated";
  if (status === 403) return "forbidden";
  if (status === 404) return "not_found";
  if (status === 413) return "too_large";
  if (status === 429) return "rate_limited";
  if (status === 503) return "overloaded";
  return status >= 500 ? "internal" : "bad_request";
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
