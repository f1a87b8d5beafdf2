// Scalable video of a real browser: each of those who watch gets its layers, on whichever shard it is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { barePage, canSend, publish, sees, shows, videoStats, watch } from "../src/standard.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

// Peers take turns over the shards, so packets cross between them.
const CONFIG =
  '[guests]\nrooms = ["*"]\n[demo]\nenabled = false\n[rooms]\nspread_above = 0.0\n[stop]\ndeadline_s = 1\n';
const it = suite({ chromium: true, server: { config: CONFIG } });
const CAMERA = { width: 640, height: 360, fps: 15 };
/** So many pictures are counted. */
const COUNTED = 45;
/** From a wish to its picture. */
const SHOWN_MS = 20_000;

function goesForward(seen) {
  const text = JSON.stringify(seen);
  assert.equal(seen.backwards, 0, text);
  assert.ok(seen.advanced > 0, text);
  assert.ok(seen.unreadable <= seen.pictures * 0.1, text);
}

/** Freezes by libwebrtc's measure, a picture 150 ms later than usual: once the rate is halved one that is 85 ms late counts, which a busy
 * machine is now and then. A layer that is wrong freezes until the next key frame, again and again. */
const FREEZES = 1;

/** Half the frame rate is asked for, and comes, while the other one gets all. */
async function halvesTheRate(all, some) {
  const before = await videoStats(some);
  await some.evaluate(() => window.__policy({ max_height: 180, max_frame_rate: 8 }));
  await until("upper temporal layers are left out", async () => {
    const [first, second] = [await videoStats(all), await videoStats(some)];
    await until("time has passed", async () => (await videoStats(all)).decoded >= first.decoded + COUNTED);
    const [lot, few] = [await videoStats(all), await videoStats(some)];
    return (few.decoded - second.decoded) * 10 <= (lot.decoded - first.decoded) * 7 && few.decoded > second.decoded + 5;
  });
  assert.ok((await videoStats(some)).freezes <= before.freezes + FREEZES);
}

for (const [name, mode] of [
  ["VP9", "L3T3_KEY"],
  ["VP9", "L2T3"],
  ["AV1", "L3T3_KEY"],
  ["AV1", "L2T1"],
]) {
  test(`of ${name} ${mode} each gets the spatial layer for its height`, { timeout: 90_000 }, async t => {
    const room = it.room();
    // Chromium codes the upper layers of a larger picture only once it believes in the bandwidth.
    const camera = await barePage(it, it.chromium, { width: 640, height: 360, fps: 15 });
    if (!(await canSend(camera, "video")).includes(`video/${name}`)) return t.skip(`this Chromium sends no ${name}`);
    const encodings = [{ scalabilityMode: mode }];
    await publish(it, camera, room, { kind: "video", codec: name, name: "Camera", encodings });
    const [all, some] = [await barePage(it, it.chromium, CAMERA), await barePage(it, it.chromium, CAMERA)];
    await watch(it, all, room, {});
    await watch(it, some, room, { max_height: 180 });
    await shows(all, 360, SHOWN_MS);
    await shows(some, 180, SHOWN_MS);
    goesForward(await sees(some, 20, CAMERA.fps));
    const before = await videoStats(some);
    await some.evaluate(() => window.__policy({}));
    await shows(some, 360, SHOWN_MS);
    goesForward(await sees(some, 20, CAMERA.fps));
    await some.evaluate(() => window.__policy({ max_height: 180 }));
    await shows(some, 180, SHOWN_MS);
    goesForward(await sees(some, 20, CAMERA.fps));
    const halves = mode.endsWith("T3") || mode.endsWith("T3_KEY");
    if (halves) await halvesTheRate(all, some);
    await shows(all, 360, SHOWN_MS);
    const second = await videoStats(some);
    const text = JSON.stringify({ before, second });
    // Of the two times twenty that were seen; the first of them may have been decoded before.
    assert.ok(second.decoded >= before.decoded + 35, text);
    assert.ok(second.freezes <= before.freezes + (halves ? FREEZES : 0), text);
  });
}
