// A shard that is busier than the operator wants it serves fewer videos, says so, and serves all of them again once it is calm. Voices go
// on all the while.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { test } from "node:test";
import { Person } from "../src/browsers.js";
import { settings } from "../src/reach.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

/** What is busy here: many times what the three people take, in a debug build, too. */
const BUSY = 0.15;
/** Below this it is calm (docs/design/room.md). */
const CALM = (BUSY * 13) / 16;
/** From the report of the load on. */
const SHED_MS = 2_000;
const CONFIG = settings(`[rooms]\nmax_busy = 1.0\nshed_busy = ${BUSY}\n`);
const it = suite({ chromium: true, server: { config: CONFIG, shards: 1 } });
const CAMERA = { width: 320, height: 180, fps: 10 };

/** A binding request (RFC 8489, 5) to one whom nobody knows. */
const DATAGRAM = Buffer.from("0001000c2112a442616e746970686f6e7474757200060008" + Buffer.from("aaaa:bbb").toString("hex"), "hex");
/** Datagrams per second to begin with, and at most. */
const [FLOW, MAX_FLOW] = [4_000, 256_000];
const [STEP_MS, DOUBLE_MS] = [5, 1_500];

/**
 * Work of the shard's that is no client's, so that the load is high and low when the test wants it, on any machine: datagrams of a stranger,
 * twice as many each {@link DOUBLE_MS}.
 */
class Flood {
  #socket = createSocket("udp4");
  #grows = true;
  #timer;

  constructor(port) {
    let [flow, sent, begin] = [FLOW, 0, performance.now()];
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (this.#grows && flow < MAX_FLOW && now - begin >= DOUBLE_MS) [flow, sent, begin] = [2 * flow, 0, now];
      // What an event loop that was held up has missed is left out.
      const due = Math.min(((now - begin) * flow) / 1_000 - sent, (4 * STEP_MS * flow) / 1_000);
      sent = ((now - begin) * flow) / 1_000;
      for (let i = 0; i < due; i++) this.#socket.send(DATAGRAM, port, "127.0.0.1");
    }, STEP_MS);
  }

  /** It is enough. */
  level() {
    this.#grows = false;
  }

  /** Ends it, once or again. */
  stop() {
    clearInterval(this.#timer);
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** The share of a core that the shard's thread used in the last second, as was reported. */
async function load() {
  const metrics = await (await it.server.fetch("/metrics")).text();
  return Number(/^antiphon_shard_busy_permille\S* (\d+)/m.exec(metrics)[1]) / 1_000;
}

/** Where the server's media port is, by what it answered. */
const portOf = person =>
  person.evaluate(() => Number(/a=candidate:\S+ \d+ udp \d+ \S+ (\d+)/i.exec(window.__antiphon.room.peerConnection.remoteDescription.sdp)[1]));

/** Writes down, with the wall clock, what the page is told. */
const listen = person =>
  person.evaluate(() => {
    window.__told = [];
    const { room } = window.__antiphon;
    const note = what => window.__told.push({ at: performance.timeOrigin + performance.now(), ...what });
    room.on("limits", limits => note({ limits: limits ?? null }));
    room.on("slots", slots => note({ cameras: [...slots.values()].filter(s => s.source === "camera").map(s => s.participant) }));
  });
const told = (person, of) => person.evaluate(key => window.__told.filter(entry => key in entry), of);
const limitsOf = person => person.evaluate(() => window.__antiphon.room.limits ?? null);

/** Of all voices that come in: packets, and those lost. */
const voices = person =>
  person.evaluate(async () => {
    const stats = [...(await window.__antiphon.room.peerConnection.getStats()).values()];
    const lines = stats.filter(s => s.type === "inbound-rtp" && s.kind === "audio" && s.packetsReceived > 0);
    return lines.map(({ packetsReceived: packets, packetsLost: lost }) => ({ packets, lost }));
  });
/** The packets of one's own voice. */
const spoken = person =>
  person.evaluate(async () => {
    const stats = [...(await window.__antiphon.room.peerConnection.getStats()).values()];
    return Math.max(...stats.filter(s => s.type === "outbound-rtp" && s.kind === "audio").map(s => s.packetsSent));
  });

test("a busy shard serves fewer videos within two seconds, says so, and all of them again once it is calm", { timeout: 150_000 }, async t => {
  const room = it.room();
  const [ada, ben, cyd] = [
    await it.join(it.chromium, room, "Ada", { fake: { ...CAMERA, tone: 440 } }),
    await it.join(it.chromium, room, "Ben", { fake: { ...CAMERA, tone: 660 } }),
    await it.join(it.chromium, room, "Cyd", { fake: { ...CAMERA, tone: 880 } }),
  ];
  // Joins are work, too.
  await until("the shard is calm and serves all", async () => (await load()) < CALM && !(await limitsOf(cyd)), 30_000);
  for (const other of [ada, ben]) await cyd.sees(other.id, { fps: CAMERA.fps, pictures: 10 });
  await Promise.all([cyd.hears(ada.id, 440), cyd.hears(ben.id, 660)]);
  await listen(cyd);
  const quiet = await load();
  assert.ok(quiet < CALM, `${quiet}: three people are too much for what is called calm here`);
  const before = { heard: await voices(cyd), said: await Promise.all([ada, ben].map(spoken)) };

  const flood = new Flood(await portOf(cyd));
  t.after(() => flood.stop());
  // Before the report of the load, by the time of a look.
  let begin;
  const isBusy = async () => {
    const now = Date.now();
    if ((await load()) > BUSY) return true;
    begin = now;
  };
  await until(`the load is above ${BUSY}`, isBusy, 20_000);
  flood.level();
  const shed = await until("the page is told", async () => (await told(cyd, "limits")).find(e => e.limits), 2 * SHED_MS);
  assert.deepEqual(shed.limits, { lastN: 1, reason: "server_busy" });
  const fewer = await until("one camera has gone", async () => (await told(cyd, "cameras")).find(e => e.cameras.length === 1), 2 * SHED_MS);
  for (const [what, at] of [["the page was told", shed.at], ["a camera went", fewer.at]]) {
    const took = Math.round(at - begin);
    console.log(`${what} ${took} ms after the load was last seen lower (${quiet} before, ${await load()} then)`);
    assert.ok(took <= SHED_MS, `${what} after ${took} ms`);
  }
  // The one that is left, and both voices.
  await cyd.sees(fewer.cameras[0], { fps: CAMERA.fps, pictures: 20 });
  const [gone] = [ada, ben].filter(p => p.id !== fewer.cameras[0]);
  assert.ok(!(await cyd.evaluate(s => document.querySelector(s)?.dataset.fresh === "true", Person.video(gone.id))), "it is shown no more");
  await Promise.all([cyd.hears(ada.id, 440), cyd.hears(ben.id, 660)]);

  flood.stop();
  const calm = await until("the load has fallen", async () => (await load()) < CALM && Date.now());
  await until("nothing is held back any more", async () => (await limitsOf(cyd)) === null, 60_000);
  const [, ...later] = await told(cyd, "limits");
  console.log(`all were served again ${Math.round(later.at(-1).at - calm)} ms after it was calm`);
  await cyd.sees(gone.id, { fps: CAMERA.fps, pictures: 10 });

  const after = { heard: await voices(cyd), said: await Promise.all([ada, ben].map(spoken)) };
  assert.equal(after.heard.length, 2);
  const sum = list => list.reduce((all, n) => all + n, 0);
  const lost = sum(after.heard.map(line => line.lost)) - sum(before.heard.map(line => line.lost));
  const came = sum(after.heard.map(line => line.packets)) - sum(before.heard.map(line => line.packets));
  const said = sum(after.said) - sum(before.said);
  console.log(`${said} packets were said, ${came} heard, ${lost} lost`);
  assert.equal(lost, 0, "voices go on without a gap");
  // What was under way when it was counted.
  assert.ok(Math.abs(said - came) <= 50, `${said} said, ${came} heard`);
});
