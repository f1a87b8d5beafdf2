// What somebody meets who follows the README: the demo bot that is already there, and the example that echoes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../src/browsers.js";
import { suite } from "../src/suite.js";

/** The server as `make run` starts it, but for ports and folder. */
const it = suite({ chromium: true, server: { config: "" } });
const SILENT = { silent: true, width: 640, height: 360, fps: 15 };
/** Both echo after a second; the network, two encoders and two jitter buffers add to that. */
const ECHO_MS = [1_000, 1_600];
const BURST_MS = 400;

/** Speaks for a moment; gives when that began, on the wall clock. */
const speak = person =>
  person.evaluate(async ms => {
    const { gain } = window.__voice;
    const begin = performance.timeOrigin + performance.now();
    gain.gain.value = window.__fake.amplitude;
    await new Promise(resolve => setTimeout(resolve, ms));
    gain.gain.value = 0;
    return begin;
  }, BURST_MS);

/** Says something and waits for the echo: how much later it came, ms. */
async function echo(person, voice) {
  await person.until("nobody speaks", s => window.__heard(s)?.level < -60, voice);
  const onset = person.evaluate(s => window.__onsets(s, 1), voice);
  const begin = await speak(person);
  const [heard] = await onset;
  return heard - begin;
}

function aSecondLater(ms) {
  assert.ok(ms >= ECHO_MS[0] && ms <= ECHO_MS[1], `the echo came after ${Math.round(ms)} ms`);
}

test("the demo bot greets, echoes a second later and shows a level meter", { timeout: 60_000 }, async () => {
  const ada = await it.join(it.chromium, "demo", "Ada", { fake: SILENT });
  const bot = await ada.until("the bot is there", () => {
    return [...window.__antiphon.room.participants.values()].find(p => p.kind === "bot")?.id;
  });
  const [voice, face] = [Person.audio(bot), Person.video(bot)];
  await ada.until("its chime is heard", s => window.__heard(s)?.level > -50, voice);
  aSecondLater(await echo(ada, voice));

  await ada.until("its picture is there", s => document.querySelector(s)?.dataset.fresh === "true", face);
  // The greeting goes after some seconds; then the picture of a silent room stands still.
  // Coded, a few of its 14,400 pixels differ from one second to the next all the same: at edges of letters, five at most.
  await ada.until("its picture stands still", async s => (await window.__changes(s, 15)) < 10, face);
  await ada.evaluate(() => (window.__voice.gain.gain.value = window.__fake.amplitude));
  await ada.until("the meter moves", async s => (await window.__changes(s, 15)) > 50, face);
  await ada.screenshot("demo");
});

test("examples/python/echo.py says back what it hears a second later", { timeout: 60_000 }, async () => {
  const room = "demo";
  const ada = await it.join(it.chromium, room, "Ada", { fake: SILENT });
  const program = await it.python("../../../examples/python/echo.py", room, "--name", "Echo.py", "--seconds", 20);
  const bot = await ada.until("the example is there", () => {
    return [...window.__antiphon.room.participants.values()].find(p => p.name === "Echo.py")?.id;
  });
  aSecondLater(await echo(ada, Person.audio(bot)));
  const seen = await ada.until("it shows a picture", s => document.querySelector(s)?.videoWidth, Person.video(bot));
  assert.ok(seen >= 320, `${seen} pixels wide`);
  await program.stop();
});
