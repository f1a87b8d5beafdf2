// Chromium's own file-backed fake devices, so that the browser's real capture path is used once.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Person } from "../src/browsers.js";
import { suite } from "../src/suite.js";

const RATE = 48_000;
const TONE = 523;

/** A WAV file of bursts of a tone with pauses as in speech: the browser's noise suppression takes a steady one away. */
function wav(frequency) {
  const samples = Int16Array.from({ length: RATE * 10 }, (_, i) => {
    const burst = Math.max(0, Math.sin((2 * Math.PI * 1.5 * i) / RATE));
    return 16_000 * burst * Math.sin((2 * Math.PI * frequency * i) / RATE);
  });
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + samples.byteLength, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(RATE, 24);
  head.writeUInt32LE(RATE * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([head, Buffer.from(samples.buffer)]);
}

const folder = mkdtempSync(join(tmpdir(), "antiphon-e2e-"));
const file = join(folder, "tone.wav");
writeFileSync(file, wav(TONE));
after(() => rmSync(folder, { recursive: true, force: true }));

const it = suite({
  chromium: true,
  chromiumArgs: ["--use-fake-device-for-media-stream", `--use-file-for-fake-audio-capture=${file}`],
});

test("devices of the browser itself are heard and seen", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const bob = await it.join(it.chromium, room, "Bob", { fake: { real: true } });
  const audible = ([s, f]) => {
    const heard = window.__heard(s);
    return heard && heard.level > -45 && Math.abs(heard.frequency / f - 1) <= 0.01;
  };
  await ada.until(`${TONE} Hz of Bob`, audible, [Person.audio(bob.id), TONE]);
  const selector = `[data-testid=tile][data-participant="${bob.id}"] video`;
  await ada.until("moving pictures of Bob", s => {
    const video = document.querySelector(s);
    return video && video.videoWidth > 0 && video.getVideoPlaybackQuality().totalVideoFrames > 30;
  }, selector);
});
