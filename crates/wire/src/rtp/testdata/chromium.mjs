// Makes chromium_*.txt beside this file: what Chromium sends of a camera with scalable coding, through our own server
// (`cargo build`, `npm ci`; then `node chromium.mjs`). Each line `rtp <hex>` is a decrypted packet as `GET .../dump` gives
// it: the dependency descriptor in header extension 12, the payload cut after its first bytes. Run by hand; tests read the
// files.

import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";

const E2E = new URL("../../../../../tests/e2e/src/", import.meta.url);
const { launchChromium } = await import(new URL("browsers.js", E2E));
const { Server } = await import(new URL("server.js", E2E));
const { barePage, publish, play, sees } = await import(new URL("standard.js", E2E));

const CONFIG = '[guests]\nrooms = ["*"]\n[demo]\nenabled = false\n[debug]\nrtp_dump = true\n[stop]\ndeadline_s = 1\n';
const KEPT = 48;
const PACKETS = 220;
const CAMERA = { width: 640, height: 360, fps: 15 };
const STREAMS = [
  ["AV1", "L1T3"],
  ["AV1", "L3T3"],
  ["AV1", "L3T3_KEY"],
  ["VP9", "L3T3_KEY"],
  ["VP9", "L3T3"],
  ["VP9", "L1T3"],
  ["VP8", "L1T3"],
  ["H264", "L1T2"],
];

/** The first RTP packets of a dump. */
async function dump(server, room, participant, token) {
  const path = `/v1/rooms/${room}/participants/${participant}/dump`;
  const response = await fetch(new URL(path, server.url), { headers: { Authorization: `Bearer ${token}` } });
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  let bytes = Buffer.alloc(0);
  const packets = [];
  let at = 24;
  for await (const chunk of response.body) {
    bytes = Buffer.concat([bytes, chunk]);
    while (at + 16 <= bytes.length && at + 16 + bytes.readUInt32LE(at + 8) <= bytes.length) {
      const length = bytes.readUInt32LE(at + 8);
      packets.push(bytes.subarray(at + 16 + 28, at + 16 + length));
      at += 16 + length;
    }
    if (packets.length >= PACKETS) return packets.slice(0, PACKETS);
  }
  throw new Error(`only ${packets.length} packets`);
}

/** Without most of the payload. */
function cut(rtp) {
  const csrcs = rtp[0] & 0x0f;
  let header = 12 + 4 * csrcs;
  if (rtp[0] & 0x10) header += 4 + 4 * rtp.readUInt16BE(header + 2);
  return rtp.subarray(0, header + KEPT);
}

const wanted = process.argv.slice(2);
const server = await Server.start({ config: CONFIG });
const chromium = await launchChromium();
for (const [codec, mode] of STREAMS) {
  const name = `chromium_${codec}_${mode}`.toLowerCase();
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const room = name.replaceAll("_", "-");
  const camera = await barePage({ server }, chromium, CAMERA);
  const encodings = [{ scalabilityMode: mode }];
  const participant = await publish({ server }, camera, room, { kind: "video", codec, name: "Camera", encodings });
  const token = await server.token(room, { grants: "moderate,subscribe" });
  const packets = dump(server, room, participant, token);
  // Somebody who watches, so that a key frame is asked for.
  const player = await barePage({ server }, chromium, CAMERA);
  await play({ server }, player, room, { kind: "video", participant });
  const seen = await sees(player, 10, CAMERA.fps).catch(error => String(error));
  const lines = (await packets).map(rtp => `rtp ${cut(rtp).toString("hex")}`);
  writeFileSync(new URL(`${name}.txt`, import.meta.url), `${lines.join("\n")}\n`);
  const stats = await camera.evaluate(async () => {
    const all = [...(await window.__connections[0].getStats()).values()];
    const { encoderImplementation, scalabilityMode, frameHeight, framesPerSecond } = all.find(
      s => s.type === "outbound-rtp",
    );
    return { encoderImplementation, scalabilityMode, frameHeight, framesPerSecond };
  });
  console.log(name, lines.length, JSON.stringify(stats), JSON.stringify(seen));
  await chromium.clear();
}
await chromium.close();
await server.stop();
