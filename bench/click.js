#!/usr/bin/env node
// From the click on "Join" to the first picture of somebody else, in Chromium with the real web client: a page that
// publishes is in the room, another one joins again and again. docs/benchmarks.md says what the stages are.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { launchChromium } from "../tests/e2e/src/browsers.js";
import { Server } from "../tests/e2e/src/server.js";

const ROOM = "click";
/** What both cameras show; small enough that two pages and a server on two cores do not measure each other's encoders. */
const CAMERA = { width: 640, height: 360, fps: 30 };
/** In the order in which they are reached, as a rule. */
const STAGES = [
  "token", "connection made", "offer made", "posted", "answered", "answer applied", "ICE connected", "DTLS connected",
  "channel open", "people known", "slot assigned", "picture received", "picture", "tile there", "picture shown",
]; // biome-ignore format: a list
/** Joins before those that count: the first one pays for caches and just-in-time compilation. */
const WARM_UP = 2;
const PAGE = readFileSync(new URL("click-page.js", import.meta.url), "utf8");

const { values } = parseArgs({
  options: {
    joins: { type: "string", default: "20" },
    // Prints the single joins too.
    json: { type: "boolean", default: false },
  },
});

/** One join: ms after the click, by stage. */
async function join(chromium, server, number) {
  const page = await chromium.open(`${server.url}/r/${ROOM}`, { fake: { tone: 700, ...CAMERA }, script: PAGE });
  await page.page.locator("[data-testid=name-input]").fill(`Guest ${number}`);
  await page.until("the preview", () => document.querySelector(".preview video")?.currentTime > 0.5);
  // The click may come anywhere between two of the publisher's pictures and ticks of the server.
  await page.evaluate(ms => new Promise(resolve => setTimeout(resolve, ms)), Math.random() * 300);
  await page.click("join-button");
  await page.until("a picture", () => window.__stages["picture shown"]);
  const stages = await page.evaluate(() => window.__stages);
  await page.close();
  return Object.fromEntries(Object.entries(stages).map(([stage, at]) => [stage, at - stages.click]));
}

const at = (values, share) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))];

function report(joins) {
  console.log(`click to the first picture in Chromium, ms: ${joins.length} joins into a room with one publisher`);
  console.log(`  ${"".padEnd(20)}   p50    p95    p50 since the stage before`);
  let before = joins.map(() => 0);
  for (const stage of STAGES) {
    const times = joins.map(j => j[stage]).filter(t => t !== undefined);
    if (times.length < joins.length) {
      console.log(`  ${stage.padEnd(20)}   in ${times.length} joins only`);
      continue;
    }
    const since = at(times.map((t, i) => t - before[i]), 0.5);
    const [p50, p95] = [at(times, 0.5), at(times, 0.95)];
    console.log(`  ${stage.padEnd(20)}${p50.toFixed(0).padStart(6)} ${p95.toFixed(0).padStart(6)} ${since.toFixed(0).padStart(6)}`);
    before = times;
  }
}

const server = await Server.start({ shards: null });
const chromium = await launchChromium();
try {
  const publisher = await chromium.open(server.page(ROOM, { name: "Publisher" }), { fake: CAMERA });
  await publisher.joined();
  const joins = [];
  for (let i = 0; i < WARM_UP + Number(values.joins); i++) {
    const stages = await join(chromium, server, i);
    if (i >= WARM_UP) joins.push(stages);
  }
  if (values.json) console.log(JSON.stringify(joins));
  report(joins);
} finally {
  await chromium.close();
  await server.stop();
}
