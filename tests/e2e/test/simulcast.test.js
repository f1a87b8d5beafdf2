// Simulcast of a real browser by rid: each of those who watch gets the layer for its height and its line, and goes from one to another.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Relay } from "../src/relay.js";
import { barePage, canSend, codecInUse, decodes, publish, sees, sentLayers, shows, videoStats, watch } from "../src/standard.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ chromium: true });
const relays = [];
after(() => relays.forEach(relay => relay.close()));
/** Chromium has no three layers of a smaller picture. */
const CAMERA = { width: 1024, height: 576, fps: 10, noise: 12 };
const LAYERS = { q: 4, h: 2, f: 1 };
const LOW = CAMERA.height / LAYERS.q;
const HIGH = CAMERA.height;
/** In bits per second; with that noise encoders take them, and the highest does not get through a line of {@link NARROW}. */
const RATES = { q: 150_000, h: 300_000, f: 1_200_000 };
const NARROW = 300_000;

/** Between two pictures, in ms: encoders leave out some for a second where the machine is busy. */
const FREEZE_MS = 2_000;
/** A line that has become wide is believed in step by step. */
const SHOWN_MS = 45_000;
/** An upper layer's key frame takes longer to come than pictures of the same time of the lower layers, the next of which may have been shown. */
const STEPS_BACK = 1;

/** What was seen since one began to look went forward, without a freeze. */
async function goesForward(person) {
  const seen = await person.evaluate(() => window.__seen("#player"));
  const text = JSON.stringify(seen);
  assert.ok(seen.backwards <= STEPS_BACK, text);
  assert.ok(seen.advanced > 0 && seen.longest <= FREEZE_MS, text);
  assert.ok(seen.unreadable <= seen.pictures * 0.1, text);
  return seen;
}

const look = person => person.evaluate(fps => window.__watch("#player", fps), CAMERA.fps);

/** Another height is asked for and shown, and pictures go on meanwhile and then: its player never lacks a key frame. */
async function switches(person, policy, height) {
  const { asked } = await videoStats(person);
  await look(person);
  await person.evaluate(next => window.__policy(next), policy);
  await shows(person, height, SHOWN_MS);
  await decodes(person, 20);
  const now = await videoStats(person);
  assert.deepEqual([now.height, now.asked], [height, asked]);
  await goesForward(person);
}

/** All three layers are sent, each in its size. */
function sendsAll(camera) {
  return until("three layers are sent", async () => {
    const layers = await sentLayers(camera);
    return Object.entries(LAYERS).every(([rid, down]) => layers[rid]?.height === HIGH / down && layers[rid].bytes > 0);
  }, 30_000);
}

for (const [name, scalabilityMode] of [["VP8"], ["H264", "L1T1"], ["AV1", "L1T1"]]) {
  test(`of a simulcast of ${name} each gets the layer for its height and its line`, { timeout: 120_000 }, async t => {
    const room = it.room();
    const camera = await barePage(it, it.chromium, CAMERA);
    if (!(await canSend(camera, "video")).includes(`video/${name}`)) return t.skip(`this Chromium sends no ${name}`);
    const encodings = Object.entries(LAYERS).map(([rid, scaleResolutionDownBy]) => ({
      rid,
      scaleResolutionDownBy,
      maxBitrate: RATES[rid],
      ...(scalabilityMode && { scalabilityMode }),
    }));
    await publish(it, camera, room, { kind: "video", codec: name, name: "Camera", encodings });
    const [all, some] = [await barePage(it, it.chromium, CAMERA), await barePage(it, it.chromium, CAMERA)];
    await watch(it, all, room, {});
    await shows(all, HIGH, SHOWN_MS);
    await sendsAll(camera);

    const line = await Relay.open();
    relays.push(line);
    line.down.rate = NARROW;
    await some.evaluate(udp => {
      window.__via = { udp };
    }, line.port);
    await watch(it, some, room, {});
    line.to(await some.evaluate(() => window.__relayTo.udp));
    await sees(some, 20, CAMERA.fps);
    const { height } = await videoStats(some);
    assert.ok(height < HIGH, `${height} lines are more than its line carries`);
    line.down.rate = Infinity;
    await shows(some, HIGH, SHOWN_MS);
    // Of much noise a key frame takes what a second may, and encoders leave out what follows.
    await camera.evaluate(() => {
      window.__fake.noise = 2;
    });
    await decodes(all, 10);
    await look(all);
    for (const [policy, height] of [[{ max_height: LOW }, LOW], [{}, HIGH], [{ max_height: LOW }, LOW]]) await switches(some, policy, height);
    assert.equal((await videoStats(all)).height, HIGH);
    assert.equal((await goesForward(all)).backwards, 0);
    for (const person of [all, some]) assert.equal(await codecInUse(person, "inbound-rtp"), `video/${name}`);
  });
}
