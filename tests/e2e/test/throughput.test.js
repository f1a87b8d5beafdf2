// Much of it: 80 MB/s of raw pictures to one Python bot; ten cameras to one bot.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const it = suite();

test("a minute of 720p30 as RGB24 in Python: at least 29 per second, the rest counted", { timeout: 120_000 }, async () => {
  const room = it.room();
  await (await it.python("feed.py", room)).event("ready");
  const program = await it.python("raw.py", room, "--seconds", 60);
  const done = await program.event("done", 110_000);
  const text = JSON.stringify(done);
  assert.ok(done.per_second >= 29, text);
  assert.ok(done.mb_per_second >= 80, text);
  assert.equal(done.wrong, 0, text);
  assert.equal(done.received, done.delivered + done.lost + done.queued, text);
});

for (const [form, seconds] of [["encoded", 20], ["i420", 20]]) {
  test(`ten cameras of 720p30 to one bot (${form}): every frame is delivered or counted`, { timeout: 90_000 }, async () => {
    const program = await it.python("ten.py", it.room(), "--seconds", seconds, "--form", form);
    const done = await program.event("done", 80_000);
    const text = JSON.stringify(done);
    assert.equal(done.streams, 10, text);
    assert.equal(done.jumps, 0, text);
    for (const s of done.stats) assert.equal(s.received, s.delivered + s.dropped + s.queued, text);
    const sum = key => done.stats.reduce((n, s) => n + s[key], 0);
    // What was sent after a stream's first keyframe arrived is there or counted; a second of each may be before.
    assert.ok(sum("received") + sum("gaps") >= done.sent - 10 * 75, text);
    // What the program took is what was delivered: its loop's own losses are counted too.
    assert.ok(Math.abs(sum("delivered") - done.got - done.in_loop) <= 10, text);
    if (form === "encoded") assert.equal(sum("dropped"), 0, text);
  });
}
