// Guest tokens: the way into rooms that need no account (`guests.rooms` in the server's config).

import { AntiphonError, errorOf, isRecord } from "./error.js";

/** Asks the server for a token of `room`. `forbidden`: the room takes invited people only. */
export async function requestGuestToken(url: string, room: string, name?: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(new URL(`/v1/rooms/${encodeURIComponent(room)}/guest-token`, url), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(name ? { name } : {}),
    });
  } catch {
    throw new AntiphonError("unreachable", "The server cannot be reached.");
  }
  if (!response.ok) throw await errorOf(response);
  const body: unknown = await response.json().catch(() => undefined);
  if (!isRecord(body) || typeof body.token !== "string") {
    throw new AntiphonError("protocol", "The server's guest token has no `token`.");
  }
  return body.token;
}
