// WHEP's extensions and REMB with real clients: a player chooses layers and hears events; a WHIP publisher sends less while
// nobody watches, and comes back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { barePage, play, publish, shows, videoStats } from "../src/standard.js";
import { CALLS } from "../src/stored.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ chromium: true, server: { config: CALLS } });
/** Chromium begins with its lowest layer and adds the others as its estimate rises. */
const SETTLED_MS = 40_000;
/** From a viewer's request to the publisher's highest layer. */
const BACK_MS = 2_000;
const CAMERA = { width: 960, height: 540, fps: 15, noise: 6 };
const ENCODINGS = [
  { rid: "q", scaleResolutionDownBy: 4 },
  { rid: "h", scaleResolutionDownBy: 2 },
  { rid: "f" },
];

async function startCamera(room) {
  const camera = await barePage(it, it.chromium, CAMERA);
  const id = await publish(it, camera, room, { kind: "video", codec: "VP8", name: "Camera", encodings: ENCODINGS });
  return { camera, id };
}

/** One request of a player's, with its token. */
async function ask(player, url, body, method = "POST") {
  const headers = { Authorization: `Bearer ${player.token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  return fetch(url, { method, headers, body: text });
}

/** Reads an event stream; `latest` has the newest data of each event, `names` all events in order. */
async function listen(url) {
  const response = await fetch(url, { headers: { Accept: "text/event-stream" } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("Content-Type"), "text/event-stream");
  const heard = { latest: {}, names: [], ended: false };
  const read = async () => {
    let rest = "";
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const [, name, data] = part.match(/^event: (\w+)\ndata: (.*)$/) ?? [];
        if (!name) continue;
        heard.names.push(name);
        heard.latest[name] = JSON.parse(data);
      }
    }
  };
  read().then(
    () => (heard.ended = true),
    () => (heard.ended = true),
  );
  return heard;
}

test("a player chooses among the encodings and hears what there is", { timeout: 240_000 }, async () => {
  const room = it.room();
  const { camera, id } = await startCamera(room);
  const [one, two] = [await barePage(it, it.chromium, CAMERA), await barePage(it, it.chromium, CAMERA)];
  const player = await play(it, one, room, { kind: "video", participant: id });
  await shows(one, 540, SETTLED_MS);

  const made = await ask(player, player["server-sent-events"], ["active", "inactive", "layers", "viewercount", "recording"]);
  assert.equal(made.status, 201);
  const stream = new URL(made.headers.get("Location"), it.server.url).href;
  const heard = await listen(stream);
  await until("the first events", () => heard.latest.viewercount && heard.latest.layers);
  assert.deepEqual(heard.names.slice(0, 3), ["active", "layers", "viewercount"]);
  assert.equal(heard.latest.viewercount.viewercount, 1);
  await until("all encodings", () => heard.latest.layers["0"].active.length === 3);
  const { layers } = heard.latest.layers["0"];
  assert.deepEqual([...new Set(layers.map(l => l.encodingId))], ["f", "h", "q"], JSON.stringify(layers));
  const sizes = Object.fromEntries(layers.map(l => [l.encodingId, [l.width, l.height]]));
  assert.deepEqual(sizes, { f: [960, 540], h: [480, 270], q: [240, 135] });

  const other = await play(it, two, room, { kind: "video", participant: id });
  await until("two viewers", () => heard.latest.viewercount.viewercount === 2);
  await shows(two, 540, SETTLED_MS);
  for (const [encodingId, height] of [
    ["q", 135],
    ["h", 270],
    ["f", 540],
    ["q", 135],
  ]) {
    assert.equal((await ask(player, player.layer, { mediaId: "0", encodingId })).status, 200);
    await shows(one, height, SETTLED_MS);
    // Waited for: a busy machine's delays make any viewer's estimate drop for a moment, choice or no choice.
    await shows(two, 540, SETTLED_MS);
  }
  assert.equal((await ask(player, player.layer, {})).status, 200);
  await shows(one, 540, SETTLED_MS);
  assert.equal((await ask(player, player.layer, { encodingId: "x" })).status, 422);
  assert.equal((await ask({ token: other.token }, player.layer, {})).status, 403);

  // Browsers read the stream by EventSource, which knows no token; whoever reads last has it.
  const counted = await two.evaluate(
    url =>
      new Promise(resolve => {
        const source = new EventSource(url);
        source.addEventListener("viewercount", e => resolve([JSON.parse(e.data).viewercount, source.close()][0]));
      }),
    stream,
  );
  assert.equal(counted, 2);
  await until("the first reader is at its end", () => heard.ended);
  const again = await listen(stream);
  await until("what holds is told again", () => again.latest.viewercount?.viewercount === 2);
  await camera.evaluate(() => window.__connections[0].close());
  await until("the publication is over", () => again.names.includes("inactive"), 60_000);
  assert.equal((await ask(player, player.resource, undefined, "DELETE")).status, 204);
  await until("the stream ends with its player", () => again.ended);
  assert.equal((await fetch(stream)).status, 404);
});

test("a player is told what becomes of a recording of the room", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const player = await play(it, await barePage(it, it.chromium, CAMERA), room, { kind: "video", participant: ada.id });
  const made = await ask(player, player["server-sent-events"], ["recording"]);
  assert.equal(made.status, 201);
  const heard = await listen(new URL(made.headers.get("Location"), it.server.url).href);
  const record = await it.server.token(room, { grants: "record" });
  const path = `/v1/rooms/${room}/recordings`;
  const started = await it.ask(record, "POST", path);
  assert.equal(started.status, 201, JSON.stringify(started.json));
  const told = state => until(`it is told: ${state}`, () => heard.latest.recording?.recording === state);
  await told("recording");
  for (const [action, state] of [["pause", "paused"], ["resume", "recording"], ["stop", "stopped"]]) {
    assert.equal((await it.ask(record, "POST", `${path}/${started.json.id}:${action}`)).status, 200);
    await told(state);
  }
  assert.ok(heard.names.every(name => name === "recording"), "and of nothing else, as asked");
});

test("an unrelated stack, aiortc, chooses, too", { timeout: 120_000 }, async () => {
  const room = it.room();
  const { camera, id } = await startCamera(room);
  const chosen = ["--encodings", "q", "h", "q", "--heights", "135", "270", "135", "--seconds", "30"];
  const player = await it.python("choose.py", room, "--who", id, ...chosen);
  for (const encoding of ["q", "h", "q"]) {
    const { status, ...said } = await player.event("chosen", 60_000);
    assert.deepEqual([said.encoding, status], [encoding, 200]);
  }
  await player.event("left");
  await camera.evaluate(() => window.__connections[0].close());
});

/** Bytes of each layer until now. */
const sent = camera =>
  camera.evaluate(async () => {
    const all = [...(await window.__connections[0].getStats()).values()];
    const layers = all.filter(s => s.type === "outbound-rtp" && s.rid);
    return Object.fromEntries(layers.map(s => [s.rid, s.bytesSent]));
  });

/** Bits per second of all layers over about a second. */
async function rate(camera) {
  const sum = layers => Object.values(layers).reduce((a, b) => a + b, 0);
  const [begin, before] = [performance.now(), sum(await sent(camera))];
  await camera.evaluate(() => new Promise(resolve => setTimeout(resolve, 1_000)));
  return ((sum(await sent(camera)) - before) * 8_000) / (performance.now() - begin);
}

test("a publisher sends little while nobody watches, and comes back", { timeout: 240_000 }, async t => {
  const room = it.room();
  const { camera, id } = await startCamera(room);
  const one = await barePage(it, it.chromium, CAMERA);
  const player = await play(it, one, room, { kind: "video", participant: id });
  await shows(one, 540, SETTLED_MS);
  const watched = await until("all that the camera has", async () => {
    const bps = await rate(camera);
    return bps > 600_000 && bps;
  }, SETTLED_MS);

  assert.equal((await ask(player, player.layer, { encodingId: "q" })).status, 200);
  await shows(one, 135, SETTLED_MS);
  await until("the lowest alone is sent", async () => {
    const [before] = [await sent(camera), await rate(camera)];
    return (await sent(camera)).f === before.f;
  }, SETTLED_MS);
  assert.equal((await ask(player, player.layer, {})).status, 200);
  await shows(one, 540, SETTLED_MS);

  assert.equal((await ask(player, player.resource, undefined, "DELETE")).status, 204);
  const idle = await until("little is sent", async () => {
    const bps = await rate(camera);
    return bps < 300_000 && bps;
  }, 30_000);
  assert.ok(idle > 5_000, `${idle}: it goes on`);

  const two = await barePage(it, it.chromium, CAMERA);
  const before = await sent(camera);
  const asked = performance.now();
  await play(it, two, room, { kind: "video", participant: id });
  await until("a picture is there", async () => (await videoStats(two))?.decoded > 0);
  const first = performance.now() - asked;
  await until("the highest layer is sent", async () => (await sent(camera)).f > before.f, SETTLED_MS);
  const back = performance.now() - asked;
  await shows(two, 540, SETTLED_MS);
  const shown = performance.now() - asked;
  const ms = [first, back, shown].map(Math.round);
  t.diagnostic(`${Math.round(watched / 1000)} kbit/s watched, ${Math.round(idle / 1000)} not; picture ${ms[0]} ms, highest sent ${ms[1]} ms, shown ${ms[2]} ms`);
  assert.ok(back <= BACK_MS, `${back} ms`);
});
