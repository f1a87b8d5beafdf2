// What nobody watches is not encoded: a real browser turns its layers off and on as the room says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ chromium: true });
/** From the wish of a watcher to the browser's encoder; when it then sends is up to its own estimate of its line. */
const BACK_MS = 2_000;
/** Chromium begins with its lowest layer and adds the others as its estimate rises; each is turned off when it was seen. */
const SETTLED_MS = 40_000;

/** Voice goes on all the while: so many of its packets are a second, by the clock that matters. */
const SECOND = 50;
const spoken = person =>
  person.evaluate(async () => {
    const stats = [...(await window.__antiphon.room.peerConnection.getStats()).values()];
    return Math.max(...stats.filter(s => s.type === "outbound-rtp" && s.kind === "audio").map(s => s.packetsSent));
  });

async function aSecond(person) {
  const begin = await spoken(person);
  await until("a second has passed", async () => (await spoken(person)) >= begin + SECOND);
}

/** The camera's layers as they are sent: whether they are on, and bytes until now. */
const layersOf = person =>
  person.evaluate(async () => {
    const stats = await window.__antiphon.room.peerConnection.getStats();
    const layers = [...stats.values()].filter(s => s.type === "outbound-rtp" && s.rid);
    return Object.fromEntries(layers.map(s => [s.rid, { active: s.active, bytes: s.bytesSent }]));
  });

const watch = (person, height) =>
  person.evaluate(max_height => window.__antiphon.room.updatePolicy({ max_height }), height);

/** Waits until exactly these layers are on, then sees that the others send nothing. */
async function onlySent(person, wanted) {
  const isSo = async () => {
    const layers = Object.entries(await layersOf(person));
    return layers.length === 3 && layers.every(([rid, layer]) => layer.active === wanted.includes(rid));
  };
  await until(`only ${wanted} is on`, isSo, SETTLED_MS);
  // What was encoded before that leaves meanwhile.
  await aSecond(person);
  const before = await layersOf(person);
  await aSecond(person);
  const after = await layersOf(person);
  for (const rid of Object.keys(after)) {
    const bytes = after[rid].bytes - before[rid].bytes;
    if (wanted.includes(rid)) assert.ok(bytes > 0, `${rid} is wanted and not sent`);
    else assert.equal(bytes, 0, `${rid} is sent for nobody`);
  }
}

test("a browser encodes only the layers that somebody watches", { timeout: 180_000 }, async () => {
  const room = it.room();
  const camera = { width: 960, height: 540, fps: 10 };
  const ada = await it.join(it.chromium, room, "Ada", { fake: camera });
  const bob = await it.join(it.chromium, room, "Bob", { fake: { width: 320, height: 180, fps: 5 } });
  await watch(bob, 180);
  await bob.until("Ada is seen", () => !!document.querySelector("[data-self=false] video[data-fresh=true]"));
  await onlySent(ada, ["q"]);

  const { f } = await layersOf(ada);
  const asked = Date.now();
  await watch(bob, undefined);
  await until("the top layer is on", async () => (await layersOf(ada)).f.active);
  const took = Date.now() - asked;
  assert.ok(took <= BACK_MS, `${took} ms`);
  await until("the top layer is back", async () => (await layersOf(ada)).f.bytes > f.bytes);
  console.log(`the top layer was on after ${took} ms, and sent after ${Date.now() - asked} ms`);
  await bob.until("it is seen", () =>
    [...document.querySelectorAll("[data-self=false] video")].some(v => v.videoHeight === 540),
  );
  await onlySent(ada, ["f"]);

  await bob.evaluate(() => window.__antiphon.room.leave());
  await onlySent(ada, []);
});
