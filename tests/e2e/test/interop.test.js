// The interop matrix: each client, publishing and playing, in each codec that it has. A cell without state, a failed cell, and a
// reason that is not true any more fail it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CODECS, cells, isVideo, letPlay, staleReasons, startPublishing, TABLE, toMarkdown } from "../src/interop.js";
import { ROOT } from "../src/server.js";
import { barePage, playOffered, sees } from "../src/standard.js";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true, firefox: true });
/** At once: more than this and two cores are late with pictures. */
const AT_ONCE = 2;
const TONE = 660;

test("every cell says something, and the page says the same", async () => {
  for (const [client, directions] of Object.entries(TABLE)) {
    for (const direction of ["publish", "play"]) {
      for (const codec of CODECS) assert.ok(directions[direction]?.[codec], `${client} ${direction} ${codec} is empty`);
    }
  }
  const page = readFileSync(`${ROOT}docs/reference/interop.md`, "utf8");
  assert.ok(page.includes(toMarkdown()), `docs/reference/interop.md should have:\n\n${toMarkdown()}\n`);
  assert.deepEqual(await staleReasons(it), []);
});

/** Runs all, some at a time; says how each went; fails with those that failed. */
async function run(t, all, one) {
  const waiting = [...all];
  const failed = [];
  // Firefox loses a page that is being opened while another one closes: one of its cells at a time.
  let firefox = false;
  const next = () => {
    const at = waiting.findIndex(({ client }) => client !== "Firefox" || !firefox);
    const [cell] = at < 0 ? [] : waiting.splice(at, 1);
    firefox ||= cell?.client === "Firefox";
    return cell;
  };
  const worker = async () => {
    for (let cell = next(); cell; cell = next()) {
      const begin = performance.now();
      const name = `${cell.client} ${cell.codec}`;
      try {
        const found = await one(cell);
        t.diagnostic(`${name}: works, ${Math.round(performance.now() - begin)} ms ${JSON.stringify(found)}`);
      } catch (error) {
        t.diagnostic(`${name}: FAILED`);
        failed.push(`${name}: ${error.message}`);
      }
      if (cell.client === "Firefox") firefox = false;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  assert.deepEqual(failed, []);
}

function goodSound(heard) {
  assert.ok(Math.abs(heard.frequency / TONE - 1) <= 0.01, JSON.stringify(heard));
}

function goodPictures(seen) {
  assert.ok(seen.backwards === 0 && seen.unreadable <= seen.pictures / 10, JSON.stringify(seen));
}

test("clients publish", { timeout: 600_000 }, async t => {
  await run(t, cells("publish"), async ({ client, codec }) => {
    const room = it.room();
    const name = `${client} ${codec}`;
    const bot = isVideo(codec)
      ? await it.python("units.py", room, "--who", name, "--form", "encoded", "--seconds", 40)
      : await it.python("hear.py", room, "--who", name, "--seconds", 3);
    const publisher = await startPublishing(it, client, room, codec, name);
    const found = await bot.event(isVideo(codec) ? "units" : "heard", 45_000);
    if (isVideo(codec)) {
      const text = JSON.stringify(found);
      assert.deepEqual(found.codecs, [codec.toLowerCase()], text);
      assert.ok(found.readable >= found.pictures * 0.9 && found.different > 3 && found.backwards === 0, text);
    } else {
      goodSound(found);
    }
    await Promise.all([bot.stop(), ...publisher.programs.map(p => p.stop?.() ?? p.close())]);
    return found;
  });
});

test("clients play", { timeout: 600_000 }, async t => {
  // One publisher for all who play a codec: packets of FFmpeg's, a key frame each second. It is there while they are, as two cores are slow with eight.
  const sources = new Map();
  const all = cells("play").toSorted((a, b) => CODECS.indexOf(a.codec) - CODECS.indexOf(b.codec));
  const left = new Set(all);
  const room = it.room();
  await run(t, all, async cell => {
    const { client, codec } = cell;
    if (!sources.has(codec)) sources.set(codec, startPublishing(it, "werift", room, codec, codec));
    const source = await sources.get(codec);
    try {
      const found = await letPlay(it, client, room, codec, source.id);
      if (isVideo(codec)) goodPictures(found);
      else goodSound(found);
      return found;
    } finally {
      left.delete(cell);
      if (![...left].some(other => other.codec === codec)) await Promise.all(source.programs.map(program => program.stop()));
    }
  });
});

// Chromium does so in foreign.test.js.
test("Firefox plays what the server offers", { timeout: 60_000 }, async () => {
  const room = it.room();
  const camera = await it.python("whip.py", room, "--tone", TONE, "--seconds", 40);
  const { id } = await camera.event("ready");
  const page = await barePage(it, it.firefox);
  const player = await playOffered(it, page, room, { participant: id, token: await it.server.token(room) });
  assert.deepEqual([player.posted, player.answered], [201, 204]);
  const seen = await sees(page, 15, 15);
  assert.equal(seen.backwards, 0, JSON.stringify(seen));
  await page.until("the tone", hertz => Math.abs((window.__heard("#player")?.frequency ?? 0) / hertz - 1) <= 0.01, TONE);
});
