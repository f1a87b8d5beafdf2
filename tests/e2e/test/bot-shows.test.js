// What a Python bot injects is heard and seen in browsers, soon.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../src/browsers.js";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true, firefox: true });
const LIMIT_MS = 300;

for (const browser of ["chromium", "firefox"]) {
  test(`a bot's voice and picture reach ${browser} within ${LIMIT_MS} ms`, { timeout: 90_000 }, async () => {
    const room = it.room();
    const ada = await it.join(it[browser], room, "Ada", { fake: { width: 320, height: 180, fps: 10 } });
    const bot = await it.python("show.py", room, "--tone", 880);
    const { id } = await bot.event("ready");
    await ada.until("the bot's voice has a slot", s => !!document.querySelector(s), Person.audio(id));
    // Bursts begin with the seconds of the wall clock.
    const onsets = await ada.evaluate(s => window.__onsets(s, 5), Person.audio(id));
    const late = onsets.map(at => at % 1_000).sort((a, b) => a - b);
    assert.equal(late.length, 5, `onsets: ${late}`);
    assert.ok(late[2] <= LIMIT_MS, `voice comes ${late.map(Math.round)} ms late`);
    const seen = await ada.sees(id, { pictures: 60 });
    assert.equal(seen.backwards, 0, JSON.stringify(seen));
    assert.ok(seen.age <= LIMIT_MS, `pictures are ${Math.round(seen.age)} ms old: ${JSON.stringify(seen)}`);
  });
}

test("a bot shares a screen", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { width: 320, height: 180, fps: 10 } });
  const bot = await it.python("show.py", room, "--as", "screen", "--fps", 10, "--width", 1280, "--height", 720);
  const { id } = await bot.event("ready");
  const seen = await ada.sees(id, { source: "screen", pictures: 20, fps: 10 });
  assert.equal(seen.backwards, 0, JSON.stringify(seen));
});
