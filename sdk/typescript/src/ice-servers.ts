// The STUN and TURN servers that an answer names: `Link` header fields with rel="ice-server" (RFC 9725, 4.6; RFC 8288, 3).

/** Browsers slow down with more than a few, since each is asked from each network of the machine. */
export const MAX_ICE_SERVERS = 8;
/** In characters, of all `Link` fields together: a hundred times what servers say. */
export const MAX_LINK_LENGTH = 16_384;

/** What commas divide; those in a URL or a string do not. A string without an end takes the rest. */
const ELEMENT = /(?:<[^<>]*>|"(?:[^"\\]|\\.?)*(?:"|$)|[^,<"])+/g;
const TARGET = /^\s*<([^<>]*)>/;
const PARAMETER = /\s*;\s*([^\s;="]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/y;
/** RFC 7064 and RFC 7065. A browser refuses the whole list for one URL that it does not take. */
const HOST = String.raw`(?:\[[\da-f:.]+\]|[\w.~%-]+)(?::\d{1,5})?`;
const URI = new RegExp(String.raw`^(?:stuns?:${HOST}|turns?:${HOST}(?:\?transport=(?:udp|tcp))?)$`, "i");

/** What `RTCConfiguration` takes of a response's `Link` fields; what is malformed, or of another kind, is left out. */
export function iceServersOf(link: string | null): RTCIceServer[] {
  if (!link || link.length > MAX_LINK_LENGTH) return [];
  return (link.match(ELEMENT) ?? [])
    .map(iceServerOf)
    .filter(server => server !== undefined)
    .slice(0, MAX_ICE_SERVERS);
}

/** Whether there is a way through one of them: a STUN server only tells addresses, which the server sees by itself. */
export function canRelay(servers: RTCIceServer[]): boolean {
  return servers.some(server => /^turns?:/i.test(String(server.urls)));
}

function iceServerOf(element: string): RTCIceServer | undefined {
  const target = TARGET.exec(element);
  const urls = target?.[1]?.trim() ?? "";
  const parameters = target && parametersOf(element.slice(target[0].length));
  const relations = parameters?.get("rel")?.toLowerCase().split(/\s+/);
  if (!parameters || !relations?.includes("ice-server") || !URI.test(urls)) return undefined;
  if (/^stun/i.test(urls)) return { urls };
  const [username, credential] = [parameters.get("username"), parameters.get("credential")];
  const isPassword = (parameters.get("credential-type") ?? "password").toLowerCase() === "password";
  return username && credential && isPassword ? { urls, username, credential } : undefined;
}

/** By name in small letters; of those that come twice the first one counts. `undefined`: that is no list of parameters. */
function parametersOf(text: string): Map<string, string> | undefined {
  const found = new Map<string, string>();
  let at = 0;
  while (text.slice(at).trim() !== "") {
    PARAMETER.lastIndex = at;
    const [all, name = "", quoted, token] = PARAMETER.exec(text) ?? [];
    if (all === undefined) return undefined;
    at += all.length;
    const key = name.toLowerCase();
    if (!found.has(key)) found.set(key, quoted?.replace(/\\(.)/g, "$1") ?? token ?? "");
  }
  return found;
}
