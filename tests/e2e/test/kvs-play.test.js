// Clips and playback sessions: FFmpeg by Python, hls.js and dash.js in a real Chromium.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { Program } from "../src/python.js";
import { CONFIG, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const it = suite({ server: { config: CONFIG }, chromium: true });
const require = createRequire(import.meta.url);
const HLS = readFileSync(require.resolve("hls.js/dist/hls.min.js"), "utf8");
// Its package names no path for pages: beside what it names for programs.
const DASH = readFileSync(require.resolve("dashjs").replace(/dist\/.*$/, "dist/modern/umd/dash.all.min.js"), "utf8");

/** Plays to the end, four times as fast as it was. Gives what was shown. */
async function play(script, start, url) {
  const page = await it.chromium.open(`${it.server.url}/livez`);
  await page.evaluate(script);
  return page.evaluate(
    `(async () => {
      document.body.innerHTML = "<video muted playsinline></video>";
      const video = document.querySelector("video");
      const errors = [];
      const ended = new Promise(resolve => { video.onended = resolve; });
      video.onerror = () => errors.push(video.error.message);
      (${start})(video, ${JSON.stringify(url)}, errors);
      video.playbackRate = 4;
      await video.play();
      await Promise.race([ended, new Promise(resolve => setTimeout(resolve, 20_000))]);
      const { totalVideoFrames } = video.getVideoPlaybackQuality();
      return { at: video.currentTime, ended: video.ended, frames: totalVideoFrames, width: video.videoWidth, errors };
    })()`,
  );
}

const startHls = (video, url, errors) => {
  const player = new Hls();
  player.on(Hls.Events.ERROR, (_, data) => errors.push(data.details));
  player.loadSource(url);
  player.attachMedia(video);
};

const startDash = (video, url, errors) => {
  const player = dashjs.MediaPlayer().create();
  player.on("error", e => errors.push(JSON.stringify(e.error)));
  player.initialize(video, url, false);
};

test("players show what was stored", { timeout: 120_000 }, async () => {
  const program = new Program("kvs_play.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  const { hls, dash } = await program.event("stored", 60_000);
  for (const [name, script, start, url] of [
    ["hls.js", HLS, startHls, hls],
    ["dash.js", DASH, startDash, dash],
  ]) {
    const shown = await play(script, start, url);
    assert.deepEqual(shown.errors, [], `${name}: ${JSON.stringify(shown)}`);
    assert.ok(shown.ended && shown.at > 7.5 && shown.width === 256, `${name}: ${JSON.stringify(shown)}`);
    assert.ok(shown.frames > 100, `${name}: ${JSON.stringify(shown)}`);
  }
  await program.event("done", 60_000);
  await program.stop();
});
