// Bad lines, with a real browser behind them: what it freezes and conceals by its own statistics. `make lines` runs them: the
// two browsers' software codecs take a machine of two cores, and what they then leave out looks like the line's fault.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as pass } from "node:timers/promises";
import { Person } from "../src/browsers.js";
import { Relay } from "../src/relay.js";
import { suite } from "../src/suite.js";

const options = { timeout: 120_000, skip: !process.env.ANTIPHON_LINES && "make lines runs it" };
const it = suite({ chromium: true });
const relays = [];
after(() => relays.forEach(relay => relay.close()));

/** Bob's sight of Ada, from here on. */
function look(person, ada) {
  return person.evaluate(s => window.__watch(s), Person.video(ada.id));
}

/** What was seen since: the longest time from one picture to the next in ms, and pictures that are not whole. */
function looked(person, ada) {
  return person.evaluate(s => {
    const { pictures, unreadable, longest, height } = window.__seen(s);
    return { pictures, unreadable, longest, height };
  }, Person.video(ada.id));
}

/**
 * Ada with a picture that takes what it may in each layer (90, 305 and 1,026 kbit/s) and still is 30 pictures a second in the
 * lowest: of more noise that takes four times its rate, and the encoder leaves out three pictures of four. And Bob, who watches her through a relay.
 * With half of that noise the encoder makes most pictures of the lowest layer on a busy machine, too. */
async function stage({ noise = 6 } = {}) {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440, width: 960, height: 540, noise } });
  const relay = await Relay.open();
  relays.push(relay);
  const bob = await it.chromium.open(`${it.server.url}/r/${room}`, { fake: { tone: 700, width: 320, height: 180 } });
  await bob.evaluate(udp => {
    window.__via = { udp };
  }, relay.port);
  await bob.page.locator("[data-testid=name-input]").fill("Bob");
  await bob.click("join-button");
  relay.to(await bob.until("the answer", () => window.__relayTo?.udp));
  bob.id = await bob.joined();
  await bob.sees(ada.id, { pictures: 30 });
  return { ada, bob, relay, room };
}

/** What Ada's browser has sent of a layer: its bytes and pictures. */
function layer(ada, rid) {
  return ada.evaluate(async rid => {
    const sum = { bytes: 0, pictures: 0 };
    for (const connection of window.__connections) {
      for (const s of (await connection.getStats()).values()) {
        if (s.type !== "outbound-rtp" || s.rid !== rid) continue;
        sum.bytes += s.bytesSent;
        sum.pictures += s.framesSent ?? 0;
      }
    }
    return sum;
  }, rid);
}

/** What Bob's browser says of Ada's pictures: those that came whole and were decoded, and how long they were kept, in s. */
function ofAda(bob, ada) {
  return bob.evaluate(async selector => {
    const track = document.querySelector(selector)?.srcObject?.getVideoTracks()[0]?.id;
    for (const connection of window.__connections) {
      for (const s of (await connection.getStats()).values()) {
        if (s.type !== "inbound-rtp" || s.trackIdentifier !== track) continue;
        const { framesReceived: came, framesDecoded: decoded, jitterBufferDelay: delay, jitterBufferEmittedCount: emitted } = s;
        return { came, decoded, delay, emitted };
      }
    }
  }, Person.video(ada.id));
}

/** What Bob's browser says of all that came in, summed up by kind. */
function received(bob) {
  return bob.evaluate(async () => {
    const sum = { video: {}, audio: {} };
    for (const connection of window.__connections) {
      for (const s of (await connection.getStats()).values()) {
        if (s.type !== "inbound-rtp") continue;
        for (const [key, value] of Object.entries(s)) {
          if (typeof value === "number") sum[s.kind][key] = (sum[s.kind][key] ?? 0) + value;
        }
        if (s.kind === "video" && s.framesDecoded) sum.video.height = Math.max(sum.video.height ?? 0, s.frameHeight ?? 0);
      }
    }
    return sum;
  });
}

/** What was received meanwhile. */
async function during(bob, seconds) {
  const before = await received(bob);
  await pass(seconds * 1_000);
  const now = await received(bob);
  const of = (kind, key) => (now[kind][key] ?? 0) - (before[kind][key] ?? 0);
  return {
    bps: ((of("video", "bytesReceived") + of("audio", "bytesReceived")) * 8) / seconds,
    picture: (of("video", "bytesReceived") * 8) / seconds,
    fps: of("video", "framesDecoded") / seconds,
    frozen: of("video", "totalFreezesDuration") / seconds,
    freezes: of("video", "freezeCount"),
    concealed: of("audio", "concealedSamples") / Math.max(1, of("audio", "totalSamplesReceived")),
    // Bytes of a packet: what RED repeats is in it. (Chromium counts no redundant blocks: `fecPacketsReceived` stays 0.)
    voice: of("audio", "bytesReceived") / Math.max(1, of("audio", "packetsReceived")),
    height: now.video.height,
  };
}

test("a line that narrows is followed", options, async () => {
  const { ada, bob, relay } = await stage();
  relay.down.rate = 2_000_000;
  relay.down.delay = 20;
  await pass(10_000);
  const before = await during(bob, 5);
  await look(bob, ada);
  relay.down.rate = 500_000;
  const drop = await during(bob, 1);
  // Adapted within the second: what is sent from then on fits.
  const [offered, begun] = [relay.down.offered, performance.now()];
  drop.after = await during(bob, 1);
  drop.offered = ((relay.down.offered - offered) * 8_000) / (performance.now() - begun);
  drop.seen = await looked(bob, ada);
  await pass(1_000);
  const [{ bytes: sent }, seconds] = [await layer(ada, "h"), 8];
  const narrow = await during(bob, seconds);
  // That layer and the voice fit, and no more.
  narrow.middle = (((await layer(ada, "h")).bytes - sent) * 8) / seconds;
  relay.down.rate = 2_000_000;
  await pass(10_000);
  const back = await during(bob, 5);
  const seen = await looked(bob, ada);
  const all = JSON.stringify({ before, drop, narrow, back, seen });
  console.log(all);
  assert.ok(before.bps > 900_000, `the picture takes too little for this test: ${all}`);
  assert.ok(drop.offered < 525_000, all);
  assert.ok(narrow.bps <= 500_000 && narrow.concealed < 0.03, all);
  assert.ok(narrow.picture >= 0.8 * narrow.middle && narrow.fps >= 14, all);
  assert.ok(drop.frozen + drop.after.frozen <= 0.3 && drop.seen.longest <= 350 && narrow.frozen < 0.05, all);
  assert.equal(seen.unreadable, 0, `torn pictures: ${all}`);
  assert.ok(back.bps >= 0.8 * before.bps, all);
});

test("a line that loses a tenth", options, async () => {
  const { ada, bob, relay } = await stage();
  const before = await during(bob, 3);
  for (const way of [relay.up, relay.down]) Object.assign(way, { loss: 0.1, delay: 25 });
  await pass(5_000);
  await look(bob, ada);
  const lossy = await during(bob, 20);
  const seen = await looked(bob, ada);
  const all = JSON.stringify({ before, lossy, seen });
  console.log(all);
  assert.ok(lossy.fps > 10 && lossy.frozen < 0.02, all);
  assert.ok(lossy.concealed < 0.03, all);
  assert.ok(lossy.voice >= 1.6 * before.voice, `a packet of voice has no earlier one in it (RED): ${all}`);
  assert.equal(seen.unreadable, 0, `torn pictures: ${all}`);
});

test("a line that loses three tenths is usable, and nobody else's is worse for it", options, async () => {
  const { ada, bob, relay, room } = await stage({ noise: 3 });
  const cleo = await it.join(it.chromium, room, "Cleo", { fake: { tone: 600, width: 320, height: 180 } });
  await cleo.sees(ada.id, { pictures: 30 });
  await pass(10_000);
  await look(cleo, ada);
  await pass(10_000);
  const before = { ...(await looked(cleo, ada)), voice: (await during(bob, 3)).voice };
  for (const way of [relay.up, relay.down]) Object.assign(way, { loss: 0.3, delay: 25 });
  await pass(5_000);
  await Promise.all([look(bob, ada), look(cleo, ada)]);
  const [sent, kept] = await Promise.all([layer(ada, "q"), ofAda(bob, ada)]);
  const lossy = await during(bob, 20);
  const [sentThen, keptThen] = await Promise.all([layer(ada, "q"), ofAda(bob, ada)]);
  lossy.sent = sentThen.pictures - sent.pictures;
  lossy.kept = (1_000 * (keptThen.delay - kept.delay)) / (keptThen.emitted - kept.emitted);
  lossy.came = keptThen.came - kept.came;
  lossy.decoded = keptThen.decoded - kept.decoded;
  // Of Ada: what Bob shows goes by his bad line.
  const [seen, good] = await Promise.all([looked(bob, ada), looked(cleo, ada)]);
  const all = JSON.stringify({ lossy, seen, before, good });
  console.log(all);
  assert.ok(lossy.sent / 20 >= 15, `her browser makes too few pictures of that layer for this test: ${all}`);
  assert.ok(lossy.kept >= 200, `her pictures are not kept for what is sent again: ${all}`);
  assert.ok(lossy.voice >= 2.2 * before.voice, `a packet of voice has not two earlier ones in it (RED): ${all}`);
  assert.ok(lossy.concealed <= 0.15 && seen.pictures / 20 >= 10 && seen.longest <= 2_000, all);
  assert.equal(seen.unreadable + good.unreadable, 0, `torn pictures: ${all}`);
  assert.ok(good.height >= before.height && good.pictures / 20 >= 0.9 * (before.pictures / 10), all);
  assert.ok(good.longest <= Math.max(200, 1.5 * before.longest), all);
});
