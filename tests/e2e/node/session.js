// What the Node.js stacks have in common: arguments, JSON lines for the test, WHIP and WHEP, RTP by UDP from and to FFmpeg
// (py/rtp_send.py, py/rtp_recv.py), since neither stack encodes or decodes anything.

import { createSocket } from "node:dgram";

const [url, room, , token, mode, codec, who] = process.argv.slice(2);
export const args = { url, room, token, publishes: mode === "publish", codec, who };
export const kind = ["VP8", "VP9", "H264", "AV1"].includes(codec) ? "video" : "audio";
/** Of the local leg to and from FFmpeg. */
const LOCAL_TYPE = 96;
export const PAYLOAD_TYPE = { PCMU: 0, PCMA: 8, G722: 9, opus: 111 }[codec] ?? 102;
export const CLOCK_RATE = { video: 90_000 }[kind] ?? { opus: 48_000 }[codec] ?? 8_000;
export const CHANNELS = { opus: 2 }[codec] ?? 1;
export const FORMAT = { H264: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", VP9: "profile-id=0" }[codec];

export function say(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** Sends the offer; gives the answer. */
export async function exchange(offer) {
  const path = args.publishes ? `/whip/${room}` : `/whep/${room}/${args.who}`;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/sdp" };
  const response = await fetch(url + path, { method: "POST", headers, body: offer });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${path}: ${response.status} ${text}`);
  const location = response.headers.get("location");
  say("ready", { id: location.slice(location.lastIndexOf("/") + 1) });
  return text;
}

/** RTP from FFmpeg: tells the test where to send it, and gives each packet to `take`. */
export async function fromFfmpeg(take) {
  const socket = createSocket("udp4");
  await new Promise(resolve => socket.bind(0, "127.0.0.1", resolve));
  // Not its RTCP, which goes to the next port.
  socket.on("message", take);
  say("media", { port: socket.address().port });
}

/** From the beginning: what comes while nobody listens is lost. */
const firstLine = new Promise(resolve => process.stdin.once("data", line => resolve(String(line))));

/** Gives a function that passes RTP on to FFmpeg at the port which standard input names. */
export async function toFfmpeg() {
  const socket = createSocket("udp4");
  const port = Number(await firstLine);
  return packet => {
    packet[1] = (packet[1] & 0x80) | LOCAL_TYPE;
    socket.send(packet, port, "127.0.0.1");
  };
}

/** RTCP, by RFC 5761, section 4. */
export const isRtcp = packet => packet[1] >= 192 && packet[1] <= 223;

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
