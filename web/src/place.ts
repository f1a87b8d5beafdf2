// Where the page is: room and token from the address, and the link to give to others.

/** The room of `/`. */
export const DEFAULT_ROOM = "demo";

export interface Place {
  room: string;
  /** From `#token=...`; absent: a guest token is asked for. */
  token: string | undefined;
  /** From `?name=`. */
  name: string | undefined;
  /** `?autojoin=1` skips the pre-join page. */
  autojoin: boolean;
}

/** Reads a page address. */
export function placeOf(url: URL): Place {
  const path = /^\/r\/([^/]+)\/?$/.exec(url.pathname);
  return {
    room: path?.[1] ? safeDecode(path[1]) : DEFAULT_ROOM,
    token: new URLSearchParams(url.hash.slice(1)).get("token") ?? undefined,
    name: url.searchParams.get("name")?.trim() || undefined,
    autojoin: url.searchParams.get("autojoin") === "1",
  };
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the page reads of a token; the server alone verifies it. */
export interface Claims {
  name?: string;
  /** An identity: the token is one person's. */
  sub?: string;
  /** What it lets its bearer do, where it says. */
  grants?: string[];
  /** Seconds since the Unix epoch. */
  exp?: number;
}

/** The payload of a JWT, or nothing where it has none that can be read. */
export function claimsOf(token: string): Claims {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), c => c.charCodeAt(0));
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === "object" && value !== null ? (value as Claims) : {};
  } catch {
    return {};
  }
}

/**
 * The link by which others join. A token that is nobody's in particular goes along, as without it they cannot enter;
 * a personal one stays here.
 */
export function linkOf(origin: string, place: Pick<Place, "room" | "token">): string {
  const token = place.token && !claimsOf(place.token).sub ? `#token=${place.token}` : "";
  return `${origin}/r/${encodeURIComponent(place.room)}${token}`;
}
