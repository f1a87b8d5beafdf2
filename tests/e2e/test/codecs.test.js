// Every codec that a browser sends, through the server, to browsers and to bots.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { barePage, canSend, codecInUse, play, publish, sees } from "../src/standard.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ chromium: true });
const CAMERA = { width: 640, height: 360, fps: 15 };
function goesForward(seen) {
  const text = JSON.stringify(seen);
  assert.equal(seen.backwards, 0, text);
  assert.ok(seen.advanced > 0, text);
  assert.ok(seen.unreadable <= seen.pictures * 0.1, text);
}

/** What a bot gets of the publisher in raw pictures. */
async function botSees(room) {
  const eye = await it.python("units.py", room, "--who", "Camera", "--height", 360, "--seconds", 25);
  const seen = await eye.event("seen");
  const text = JSON.stringify(seen);
  assert.equal(seen.height, 360, text);
  assert.equal(seen.backwards, 0, text);
  assert.ok(seen.readable >= seen.pictures * 0.9, text);
  assert.ok(seen.different > 5, text);
}

/** What a bot gets of the publisher as it was sent. */
async function botTakes(room, codec) {
  const taker = await it.python("units.py", room, "--who", "Camera", "--form", "encoded", "--seconds", 25);
  const units = await taker.event("units");
  const text = JSON.stringify(units);
  assert.deepEqual(units.codecs, [codec], text);
  assert.equal(units.keys[0], true, text);
  assert.ok(units.keys.includes(false), text);
  assert.equal(units.pictures, units.keys.length, text);
  assert.equal(units.readable, units.pictures, text);
  assert.equal(units.backwards, 0, text);
}

for (const name of ["VP8", "VP9", "H264", "AV1"]) {
  test(`${name} by WHIP is played by WHEP and got by bots`, { timeout: 90_000 }, async t => {
    const room = it.room();
    const codec = name.toLowerCase();
    const camera = await barePage(it, it.chromium, CAMERA);
    if (!(await canSend(camera, "video")).includes(`video/${name}`)) return t.skip(`this Chromium sends no ${name}`);
    const participant = await publish(it, camera, room, { kind: "video", codec: name, name: "Camera" });
    const player = await barePage(it, it.chromium, CAMERA);
    await play(it, player, room, { kind: "video", participant });
    goesForward(await sees(player, 30, CAMERA.fps));
    assert.equal(await codecInUse(camera, "outbound-rtp"), `video/${name}`);
    assert.equal(await codecInUse(player, "inbound-rtp"), `video/${name}`);
    await botSees(room);
    await botTakes(room, codec);
  });
}

/** The processes in which the server decodes AV1: itself again, by another name. */
function codecWorkers() {
  const threads = `/proc/${it.server.pid}/task`;
  const children = readdirSync(threads).map(thread => readFileSync(`${threads}/${thread}/children`, "utf8"));
  return children.flatMap(list => list.split(" ").filter(Boolean)).map(Number);
}

test("a codec worker that dies is a gap in the pictures", { timeout: 90_000 }, async t => {
  const room = it.room();
  const camera = await barePage(it, it.chromium, CAMERA);
  if (!(await canSend(camera, "video")).includes("video/AV1")) return t.skip("this Chromium sends no AV1");
  await publish(it, camera, room, { kind: "video", codec: "AV1", name: "Camera" });
  await until("the test before has left no codec worker", () => codecWorkers().length === 0);
  const eye = await it.python("units.py", room, "--who", "Camera", "--frames", 60, "--seconds", 40);
  const [worker] = await until("a codec worker runs", () => codecWorkers().length > 0 && codecWorkers());
  // Standard input, output and errors, and the first again: no socket of the server's.
  await until("it holds its own files only", () => readdirSync(`/proc/${worker}/fd`).length <= 4);
  process.kill(worker, "SIGKILL");
  const seen = await eye.event("seen", 45_000);
  const text = JSON.stringify(seen);
  assert.equal(seen.backwards, 0, text);
  assert.ok(seen.readable >= seen.pictures * 0.9, text);
  const metrics = await (await it.server.fetch("/metrics")).text();
  assert.equal(/^antiphon_codec_workers_died_total (\d+)$/m.exec(metrics)?.[1], "1");
  await eye.stop();
  await until("no consumer, no codec worker", () => codecWorkers().length === 0);
});

for (const name of ["PCMU", "PCMA", "G722"]) {
  test(`${name} by WHIP is heard by WHEP and by bots`, { timeout: 60_000 }, async t => {
    const room = it.room();
    const voice = await barePage(it, it.chromium, { tone: 440 });
    if (!(await canSend(voice, "audio")).includes(`audio/${name}`)) return t.skip(`this Chromium sends no ${name}`);
    const participant = await publish(it, voice, room, { kind: "audio", codec: name, name: "Voice" });
    const player = await barePage(it, it.chromium, {});
    await play(it, player, room, { kind: "audio", participant });
    const good = () => {
      const heard = window.__heard("#player");
      return heard && Math.abs(heard.level + 13.5) <= 3 && Math.abs(heard.frequency / 440 - 1) <= 0.01;
    };
    await player.until("440 Hz are heard", good, undefined, 20_000);
    assert.equal(await codecInUse(player, "inbound-rtp"), `audio/${name}`);
    const ear = await it.python("hear.py", room, "--who", "Voice", "--seconds", 4);
    const heard = await ear.event("heard");
    const text = JSON.stringify(heard);
    assert.ok(Math.abs(heard.frequency / 440 - 1) <= 0.01, text);
    assert.ok(Math.abs(heard.level + 13.5) <= 3, text);
    assert.equal(heard.jumps, 0, text);
  });
}

for (const source of ["camera", "screen"]) {
  test(`H264 that a bot has encoded is seen as its ${source}`, { timeout: 60_000 }, async () => {
    const room = it.room();
    const ada = await it.join(it.chromium, room, "Ada", { fake: { width: 320, height: 180, fps: 5 } });
    const bot = await it.python("inject_h264.py", room, "--as", source);
    const { id } = await bot.event("ready");
    goesForward(await ada.sees(id, { source, pictures: 30, fps: 15 }));
    // Who comes later asks for a keyframe.
    const bob = await it.join(it.chromium, room, "Bob", { fake: { width: 320, height: 180, fps: 5 } });
    goesForward(await bob.sees(id, { source, pictures: 15, fps: 15 }));
  });
}

test("a bot gets the layer of the height it asks for, live", { timeout: 180_000 }, async () => {
  const room = it.room();
  await it.join(it.chromium, room, "Ada", { fake: { width: 1280, height: 720, fps: 10 } });
  const heights = [180, 720, 360, 180];
  const eye = await it.python("layers.py", room, "--who", "Ada", "--seconds", 40, "--heights", ...heights);
  for (const asked of heights) {
    const layer = await eye.event("layer", 45_000);
    const text = JSON.stringify(layer);
    assert.equal(layer.asked, asked, text);
    assert.deepEqual(layer.source, [(asked * 16) / 9, asked], text);
    assert.equal(layer.backwards, 0, text);
    assert.equal(layer.unreadable, 0, text);
  }
});

test("bots that ask for 180 and for 720 at once get each their size of one decoding", { timeout: 90_000 }, async () => {
  const room = it.room();
  await it.join(it.chromium, room, "Ada", { fake: { width: 1280, height: 720, fps: 10 } });
  const eye = (...args) => it.python("see.py", room, "--who", "Ada", "--seconds", 2, "--stable-height", 720, ...args);
  const eyes = [await eye("--height", 180), await eye("--height", 720)];
  const [low, high] = await Promise.all(eyes.map(e => e.event("seen", 60_000)));
  assert.deepEqual([low.width, low.height], [320, 180], JSON.stringify(low));
  assert.deepEqual([high.width, high.height], [1280, 720], JSON.stringify(high));
  for (const seen of [low, high]) {
    const text = JSON.stringify(seen);
    // docs/design/bot.md: the greatest height that anybody wants is decoded, once.
    assert.deepEqual(seen.source, [1280, 720], text);
    assert.equal(seen.backwards, 0, text);
    assert.ok(seen.unreadable <= 2, text);
  }
});
