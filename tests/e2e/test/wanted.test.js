// What nobody watches is not encoded: a real browser turns its layers off and on as the room says.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Relay } from "../src/relay.js";
import { barePage, decodes, publish, sentLayers, shows, watch } from "../src/standard.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ chromium: true });
const relays = [];
after(() => relays.forEach(relay => relay.close()));
/** From the wish of a watcher to the browser's encoder; when it then sends is up to its own estimate of its line. */
const BACK_MS = 2_000;
/** Chromium begins with its lowest layer and adds the others as its estimate rises; each is turned off when it was seen. */
const SETTLED_MS = 40_000;
/** The one layer of a small camera takes 221 kbit/s. */
const [WIDE_BPS, NARROW_BPS] = [200_000, 120_000];

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

const asks = (person, height) =>
  person.evaluate(max_height => window.__antiphon.room.updatePolicy({ max_height }), height);

/** Waits until exactly these layers are on, then sees that the others send nothing. */
async function onlySent(person, wanted) {
  const isSo = async () => {
    const layers = Object.entries(await sentLayers(person));
    return layers.length === 3 && layers.every(([rid, layer]) => layer.active === wanted.includes(rid));
  };
  await until(`only ${wanted} is on`, isSo, SETTLED_MS);
  // What was encoded before that leaves meanwhile.
  await aSecond(person);
  const before = await sentLayers(person);
  await aSecond(person);
  const after = await sentLayers(person);
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
  await asks(bob, 180);
  await bob.until("Ada is seen", () => !!document.querySelector("[data-self=false] video[data-fresh=true]"));
  await onlySent(ada, ["q"]);

  const { f } = await sentLayers(ada);
  const asked = Date.now();
  await asks(bob, undefined);
  await until("the top layer is on", async () => (await sentLayers(ada)).f.active);
  const took = Date.now() - asked;
  assert.ok(took <= BACK_MS, `${took} ms`);
  await until("the top layer is back", async () => (await sentLayers(ada)).f.bytes > f.bytes);
  console.log(`the top layer was on after ${took} ms, and sent after ${Date.now() - asked} ms`);
  await bob.until("it is seen", () =>
    [...document.querySelectorAll("[data-self=false] video")].some(v => v.videoHeight === 540),
  );
  await onlySent(ada, ["f"]);

  await bob.evaluate(() => window.__antiphon.room.leave());
  await onlySent(ada, []);
});

const RIDS = ["q", "h", "f"];
/** Of three layers of 150, 300 and 600 kbit/s: nearly all; the lowest with its key frames, half as much again, and what is left while nobody watches
 * (docs/design/room.md: 150 kbit/s). */
const [ALL_BPS, LOWEST_BPS, NOBODY_BPS] = [900_000, 700_000, 160_000];

/** The layers of which the camera has encoded pictures while `passes` did. */
async function encoded(camera, passes) {
  const before = await sentLayers(camera);
  await passes();
  const now = await sentLayers(camera);
  return RIDS.filter(rid => now[rid].pictures > before[rid].pictures);
}

/** What the browser believes that it may send, in bits per second. */
const mayBeSent = person =>
  person.evaluate(async () => {
    const pairs = [...(await window.__connections[0].getStats()).values()].filter(s => s.type === "candidate-pair");
    return pairs.find(s => s.availableOutgoingBitrate)?.availableOutgoingBitrate;
  });

test("a browser that publishes by WHIP sends no more than what is watched takes", { timeout: 180_000 }, async () => {
  const room = it.room();
  const camera = await barePage(it, it.chromium, { width: 960, height: 540, fps: 10, noise: 2 });
  const encodings = RIDS.map((rid, i) => ({ rid, scaleResolutionDownBy: 4 / 2 ** i, maxBitrate: 150_000 * 2 ** i }));
  await publish(it, camera, room, { kind: "video", codec: "VP8", name: "Camera", encodings });
  const bob = await barePage(it, it.chromium, {});
  await watch(it, bob, room, {});
  await shows(bob, 540, SETTLED_MS);

  await until("it may send all layers", async () => (await mayBeSent(camera)) >= ALL_BPS, SETTLED_MS);
  await bob.evaluate(() => window.__policy({ max_height: 135 }));
  await shows(bob, 135, SETTLED_MS);
  const second = () => decodes(bob, 10);
  await until("the top layer stops", async () => !(await encoded(camera, second)).includes("f"), SETTLED_MS);
  const bound = await mayBeSent(camera);
  assert.ok((await encoded(camera, second)).includes("q"), "what is watched goes on");
  assert.ok(bound <= LOWEST_BPS, `${bound} bit/s`);

  await bob.evaluate(() => window.__policy({}));
  await shows(bob, 540, SETTLED_MS);
  assert.ok((await encoded(camera, second)).includes("f"), "what is watched again comes again");
  await until("it may send all layers again", async () => (await mayBeSent(camera)) >= ALL_BPS, SETTLED_MS);

  await bob.evaluate(() => window.__policy({ max_videos: 0 }));
  await until("next to nothing is left to it", async () => (await mayBeSent(camera)) <= NOBODY_BPS, SETTLED_MS);
});

test("a camera of one layer follows the line of who watches alone", { timeout: 120_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { width: 400, height: 225, fps: 15, noise: 6 } });
  const line = await Relay.open();
  relays.push(line);
  const bob = await barePage(it, it.chromium, {});
  await bob.evaluate(udp => {
    window.__via = { udp };
  }, line.port);
  await watch(it, bob, room, {});
  line.to(await bob.evaluate(() => window.__relayTo.udp));
  const aim = async () => (await sentLayers(ada)).q?.aim;
  await until("she sends what her picture takes", async () => (await aim()) >= WIDE_BPS, SETTLED_MS);
  await decodes(bob, 10);
  line.down.rate = NARROW_BPS;
  await until("she sends what his line carries", async () => (await aim()) <= NARROW_BPS, SETTLED_MS);
  await decodes(bob, 10);
  line.down.rate = Infinity;
  await until("she sends what her picture takes again", async () => (await aim()) >= WIDE_BPS, SETTLED_MS);
  await decodes(bob, 10);
});
