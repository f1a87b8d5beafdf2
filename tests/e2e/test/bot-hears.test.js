// A Python bot gets a browser's voice and picture as raw frames.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true, firefox: true });

/** 50 per second. */
const FRAMES_PER_MINUTE = 3_000;

test("a minute of voice: every frame, the tone, through silence and mute", { timeout: 120_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440, width: 320, height: 180, fps: 15 } });
  const ear = await it.python("hear.py", room, "--who", "Ada", "--seconds", 60);
  await ear.event("ready");
  const seconds = async n => {
    for (let i = 0; i < n; i++) await ear.event("second", 10_000);
  };
  await seconds(15);
  // Silence: what a browser sends may be nothing at all.
  await ada.evaluate(() => window.__voice.gain.gain.value = 0);
  await seconds(10);
  await ada.evaluate(() => window.__voice.gain.gain.value = window.__fake.amplitude);
  await seconds(5);
  await ada.click("mic-toggle");
  await seconds(10);
  await ada.click("mic-toggle");
  const heard = await ear.event("heard", 60_000);
  assert.ok(Math.abs(heard.frames - FRAMES_PER_MINUTE) <= 2, `frames in a minute: ${JSON.stringify(heard)}`);
  assert.equal(heard.odd, 0);
  assert.equal(heard.jumps, 0);
  assert.equal(heard.dropped, 0);
  // Ten seconds of mute, and ten of silence, for which Opus' DTX sends nothing but an update each 400 ms.
  assert.ok(heard.silence >= 800, `silent for 10 s, muted for 10 s: ${JSON.stringify(heard)}`);
  assert.ok(Math.abs(heard.frequency / 440 - 1) <= 0.01, `${heard.frequency} Hz`);
  assert.ok(Math.abs(heard.level + 13.5) <= 3, `${heard.level} dBFS`);
  assert.ok(heard.mixed > 2_900 && heard.mixed_with_speaker > 1_000, `the mix: ${JSON.stringify(heard)}`);
});

// 540 is no layer: the one below it is scaled.
for (const [what, args, height] of [
  ["as sent", ["--stable-height", 720], 720],
  ["scaled", ["--height", 540], 540],
]) {
  test(`pictures ${what} match their source and only go forward`, { timeout: 90_000 }, async () => {
    const room = it.room();
    await it.join(it.chromium, room, "Ada", { fake: { width: 1280, height: 720, fps: 15 } });
    const eye = await it.python("see.py", room, "--who", "Ada", "--seconds", 8, ...args);
    const seen = await eye.event("seen", 80_000);
    const text = JSON.stringify(seen);
    assert.equal(seen.height, height, text);
    assert.equal(seen.backwards, 0, text);
    assert.ok(seen.psnr >= 30, text);
    assert.ok(seen.unreadable <= 2, text);
    assert.ok(seen.pictures >= 60, text);
  });
}

test("Firefox is heard and seen alike", { timeout: 90_000 }, async () => {
  const room = it.room();
  await it.join(it.firefox, room, "Bob", { fake: { tone: 700, width: 640, height: 360, fps: 15 } });
  const ear = await it.python("hear.py", room, "--who", "Bob", "--seconds", 6);
  const eye = await it.python("see.py", room, "--who", "Bob", "--seconds", 5);
  const heard = await ear.event("heard", 60_000);
  assert.ok(Math.abs(heard.frequency / 700 - 1) <= 0.01, `${heard.frequency} Hz`);
  assert.ok(Math.abs(heard.level + 13.5) <= 3, `${heard.level} dBFS`);
  assert.deepEqual([heard.odd, heard.jumps], [0, 0], JSON.stringify(heard));
  const seen = await eye.event("seen", 60_000);
  const text = JSON.stringify(seen);
  assert.equal(seen.backwards, 0, text);
  assert.ok(seen.psnr >= 30, text);
  assert.ok(seen.unreadable <= 2 && seen.pictures >= 40, text);
});
