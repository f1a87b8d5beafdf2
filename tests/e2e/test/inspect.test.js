// What is to be seen of a participant from outside: counts and events, decrypted RTP, metrics; and what an overloaded
// server says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Server } from "../src/server.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const CONFIG = `
[guests]
rooms = ["*"]
[demo]
enabled = false
[debug]
rtp_dump = true
[stop]
deadline_s = 1
`;
const it = suite({ chromium: true, server: { config: CONFIG } });
/** A thousandth of a core is too much already. */
const BUSY = `${CONFIG}[rooms]\nmax_busy = 0.001\n`;
const [OPUS, VP8] = [111, 96];

/** The RTP packets in the bytes of a pcap file of link type RAW; every length is checked. */
function packetsOf(pcap) {
  assert.equal(pcap.readUInt32LE(0), 0xa1b2c3d4);
  assert.equal(pcap.readUInt32LE(20), 101, "link type RAW");
  const packets = [];
  for (let at = 24; at + 16 <= pcap.length; ) {
    const length = pcap.readUInt32LE(at + 8);
    const ip = pcap.subarray(at + 16, at + 16 + length);
    if (ip.length < length) break; // The stream was cut here.
    assert.equal(ip[0], 0x45, "IPv4");
    assert.equal(ip.readUInt16BE(2), length);
    assert.equal(ip[9], 17, "UDP");
    assert.equal(ip.readUInt16BE(24), length - 20);
    const rtp = ip.subarray(28);
    assert.equal(rtp[0] >> 6, 2, "RTP");
    packets.push({ type: rtp[1] & 0x7f, sequence: rtp.readUInt16BE(2), ssrc: rtp.readUInt32BE(8), bytes: rtp.length });
    at += 16 + length;
  }
  return packets;
}

/** Reads a response's body until `enough` says so, then hangs up. */
async function read(response, enough) {
  let bytes = Buffer.alloc(0);
  for await (const chunk of response.body) {
    bytes = Buffer.concat([bytes, chunk]);
    if (enough(bytes)) return bytes;
  }
  throw new Error(`it ended after ${bytes.length} bytes`);
}

test("a participant's counts, events and decrypted RTP can be had", { timeout: 60_000 }, async () => {
  const room = it.room();
  const token = await it.server.token(room, { identity: "ada" });
  const ada = await it.join(it.chromium, room, "Ada", { token, fake: { width: 320, height: 180, fps: 15 } });
  const headers = { Authorization: `Bearer ${token}` };
  const resource = `/v1/rooms/${room}/participants/${ada.id}`;

  const dump = await it.server.fetch(`${resource}/dump`, { headers });
  assert.equal(dump.status, 200);
  assert.equal(dump.headers.get("content-type"), "application/vnd.tcpdump.pcap");
  const packets = packetsOf(await read(dump, bytes => packetsOf(bytes).length >= 200));
  for (const type of [OPUS, VP8]) {
    const flow = packets.filter(p => p.type === type);
    assert.ok(flow.length > 20, `${flow.length} packets of type ${type}`);
    assert.equal(new Set(flow.map(p => p.ssrc)).size, 1);
    const steps = flow.slice(1).map((p, i) => (p.sequence - flow[i].sequence) & 0xffff);
    assert.ok(steps.every(step => step === 1), `sequence of type ${type}: ${steps}`);
  }

  const { state, stats } = await (await it.server.fetch(`${resource}/stats`, { headers })).json();
  assert.equal(state, "connected");
  assert.ok(stats.events.some(e => e.event === "connected"), JSON.stringify(stats));
  const metrics = await (await it.server.fetch("/metrics")).text();
  assert.match(metrics, /# EOF\s*$/, "OpenMetrics ends so");
  assert.doesNotMatch(metrics, /ada/i, "people are in no label");
  assert.ok(!metrics.includes(room), "nor are rooms");
});

test("a server that is too busy refuses joins, and those who are in stay", { timeout: 60_000 }, async t => {
  const server = await Server.start({ config: BUSY });
  t.after(() => server.stop());
  const ada = await it.chromium.open(server.page("r", { name: "Ada" }), { fake: { width: 320, height: 180, fps: 15 } });
  await ada.joined();
  const headers = { Authorization: `Bearer ${await server.token("r")}`, "Content-Type": "application/sdp" };
  const body = await ada.evaluate(() => window.__antiphon.room.peerConnection.localDescription.sdp);
  // It is measured once per second.
  const refused = await until("a join is refused", async () => {
    const response = await server.fetch("/v1/rooms/r/participants", { method: "POST", headers, body });
    return response.status === 503 && response;
  });
  const { error } = await refused.json();
  assert.equal(error.code, "overloaded");
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  const bob = await it.chromium.open(server.page("r", { name: "Bob" }));
  await bob.until("a sentence for a person", () => document.querySelector("[role=alert]")?.textContent.includes("busy"));
  assert.equal(await ada.evaluate(() => window.__antiphon.room.state), "connected");
});
