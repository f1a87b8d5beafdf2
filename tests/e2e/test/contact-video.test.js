// A caller's camera goes into its stream as it was sent, beside its voice: read live with boto3, decoded fragment by fragment with PyAV.

import assert from "node:assert/strict";
import { test } from "node:test";
import { barePage, canSend, publish } from "../src/standard.js";
import { ACCESS, CALLS, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const CONFIG = `${CALLS}
${ACCESS}
[media_streaming]
enabled = true
`;
const FPS = 30;
/** Frame numbers have 16 bits. */
const ROUND = 65536;

const it = suite({ chromium: true, server: { config: CONFIG } });
const { ask } = it;

/** Starts streaming with pictures; gives the reader of it. */
async function started(token, path) {
  const { status, json } = await ask(token, "POST", `${path}/media-streaming:start`, { video: true });
  assert.equal(status, 200, JSON.stringify(json));
  const { StreamARN, StartFragmentNumber } = json.MediaStreams.Customer.Audio;
  return it.start("contact_video.py", [`${it.server.url}/kvs`, KEY, SECRET, StreamARN, StartFragmentNumber]);
}

/** Until so many fragments with pictures have come, of which `good` holds. */
async function fragments(reader, count, good = () => true) {
  for (let seen = 0; seen < count; ) {
    const fragment = await reader.event("fragment");
    if (fragment.pictures > 0 && good(fragment)) seen++;
  }
}

/** What holds of whatever was read. Gives of each picture its time, and how many milliseconds it stands behind its capture. */
function checked({ pictures, keyed, sound }, fps) {
  assert.ok(keyed.every(Boolean), `each fragment with pictures begins with a key picture: ${keyed}`);
  const gaps = sound.slice(1).map(([at], i) => at - sound[i][0] - sound[i][1] / 16);
  assert.ok(gaps.every(gap => gap === 0), `the sound has a hole: ${gaps.filter(Boolean)}`);
  const times = pictures.map(([at]) => at);
  assert.ok(times.every((at, i) => i === 0 || at > times[i - 1]), `time goes one way: ${times}`);
  const numbers = pictures.map(([, number]) => number);
  const readable = pictures.filter(([, number]) => number !== null);
  assert.ok(readable.length >= pictures.length * 0.9, `${readable.length} of ${pictures.length} can be read`);
  const steps = readable.slice(1).map(([, n], i) => (n - readable[i][1] + ROUND) % ROUND);
  assert.ok(steps.every(step => step < ROUND / 2), `the pictures go forward: ${numbers}`);
  return readable.map(([at, number]) => {
    // Clocks of pages and server may be a little apart, to either side.
    const round = (ROUND * 1000) / fps;
    const late = (at - (number * 1000) / fps) % round;
    return [at, late > round / 2 ? late - round : late];
  });
}

/** The usual one of [time, milliseconds]. */
const usual = behind => behind.map(([, ms]) => ms).sort((a, b) => a - b)[behind.length >> 1];

test("a caller's camera is in the stream with its voice, through hold and another room, and nobody else's", { timeout: 150_000 }, async () => {
  const [desk, queue] = [it.room(), it.room()];
  const caller = { identity: "caller", contact: "call-1" };
  const record = await it.server.token(desk, { grants: "record" });
  const moderate = await it.server.token(desk, { grants: "moderate" });
  // Of another shape than the caller's pictures.
  const agent = await it.join(it.chromium, desk, "Agent", { fake: { tone: 900, width: 640, height: 480 } });
  const ada = await it.join(it.chromium, desk, "Ada", { token: await it.server.token(desk, caller), fake: { silent: true } });
  const reader = await started(record, `/v1/rooms/${desk}/participants/${ada.id}`);
  // With the largest picture that she sends.
  await fragments(reader, 2, ({ size }) => size[1] === 360);
  const said = await ada.evaluate(() => {
    window.__voice.gain.gain.value = 0.3;
    return performance.timeOrigin + performance.now();
  });
  await fragments(reader, 1);
  assert.equal((await ask(moderate, "POST", "/v1/contacts/call-1/hold:start")).status, 204);
  await agent.hearsNothing(ada.id);
  await fragments(reader, 2);
  assert.equal((await ask(moderate, "POST", "/v1/contacts/call-1/hold:stop")).status, 204);
  await ada.close();
  const moved = { identity: "line-7", contact: "call-1" };
  await it.join(it.chromium, queue, "Ada", { token: await it.server.token(queue, moved) });
  await fragments(reader, 3);
  const stopped = await ask(record, "POST", "/v1/contacts/call-1/media-streaming:stop");
  assert.equal(stopped.status, 200, JSON.stringify(stopped.json));
  const { StreamARN, StartTimestamp, StopTimestamp } = stopped.json.MediaStreams.Customer.Audio;

  const read = await reader.event("read");
  const behind = checked(read, FPS);
  const sizes = [...new Set(read.pictures.map(([, , w, h]) => `${w}x${h}`))];
  assert.ok(read.pictures.every(([, , w, h]) => Math.abs(w / h - 16 / 9) < 0.02), `only the caller's pictures: ${sizes}`);
  assert.ok(sizes.includes("640x360"), `${sizes}`);
  assert.equal(read.sound[0][0], Number(StartTimestamp), "the sound begins at the start");
  const [last, bytes] = read.sound.at(-1);
  assert.ok(last + bytes / 16 >= Number(StopTimestamp), "and goes on to the stop");
  assert.ok(read.pictures[0][0] - StartTimestamp < 1_500, `the first picture is ${read.pictures[0][0] - StartTimestamp} ms late`);
  // Voice and picture are one clock's: a word stands as far behind its being said as the pictures around it behind theirs.
  const late = read.onset - said;
  const around = behind.filter(([at]) => Math.abs(at - read.onset) < 2_000);
  // A page without time for its sound has a clock that is a little behind.
  assert.ok(late > -150 && late < 1_000 && Math.abs(usual(behind)) < 1_000, `sound ${late} ms, pictures ${usual(behind)} ms`);
  assert.ok(Math.abs(late - usual(around)) < 250, `sound ${late} ms, pictures ${usual(around)} ms`);

  // What the head of each fragment says of its tracks is what MKVToolNix finds, which warns of nothing.
  const { documents } = await it.start("contact_mkv.py", [`${it.server.url}/kvs`, KEY, SECRET, StreamARN]).event("looked");
  const shown = new Set();
  for (const [sound, picture, ...more] of documents) {
    assert.deepEqual([sound, more], [["AUDIO_FROM_CUSTOMER", "A_PCM/INT/LIT", 8000, 1], []]);
    if (!picture) continue;
    const [name, codec, size] = picture;
    assert.ok(name === "VIDEO_FROM_CUSTOMER" && codec === "V_VP8" && sizes.includes(size), `${picture} of ${sizes}`);
    shown.add(size);
  }
  assert.ok(documents.length >= 8 && shown.has("640x360"), JSON.stringify(documents));

  const { images, clip } = await reader.event("archive");
  assert.ok(images.length >= 4 && images.every(([shown, image]) => shown === null || shown === image), JSON.stringify(images));
  assert.equal(clip, "UnsupportedStreamMediaTypeException", "VP8 is in no MP4 file");
  const contact = await ask(record, "GET", "/v1/contacts/call-1");
  assert.deepEqual(contact.json.Recordings.map(r => r.MediaStreamType), ["AUDIO", "VIDEO"]);
  const metrics = await (await it.server.fetch("/metrics")).text();
  assert.ok(Number(/^antiphon_media_stream_frames_total (\d+)$/m.exec(metrics)?.[1]) >= read.pictures.length);
  assert.match(metrics, /^antiphon_media_stream_blocks_dropped_total 0$/m);
});

const CODECS = { VP9: "vp9", H264: "h264", AV1: ["av1", "libdav1d"] };

for (const [name, decoder] of Object.entries(CODECS)) {
  test(`a contact that shows itself in ${name} is kept in ${name}`, { timeout: 90_000 }, async t => {
    const camera = { width: 640, height: 360, fps: 15 };
    const room = it.room();
    const page = await barePage(it, it.chromium, camera);
    if (!(await canSend(page, "video")).includes(`video/${name}`)) return t.skip(`this Chromium sends no ${name}`);
    const participant = await publish(it, page, room, { kind: "video", codec: name.toLowerCase(), name: "Camera" });
    const path = `/v1/rooms/${room}/participants/${participant}`;
    const record = await it.server.token(room, { grants: "record" });
    const reader = await started(record, path);
    await fragments(reader, 3, ({ codec, size, tracks }) => {
      assert.ok([decoder].flat().includes(codec), codec);
      assert.deepEqual(tracks, ["AUDIO_FROM_CUSTOMER", "VIDEO_FROM_CUSTOMER"]);
      return size[1] === camera.height;
    });
    assert.equal((await ask(record, "POST", `${path}/media-streaming:stop`)).status, 200);
    const read = await reader.event("read");
    const behind = checked(read, camera.fps);
    assert.ok(Math.abs(usual(behind)) < 1_000, `${usual(behind)} ms behind`);
    const { images, clip } = await reader.event("archive");
    assert.ok(images.length >= 3 && images.every(([shown, image]) => shown === null || shown === image), JSON.stringify(images));
    // Its sound is PCM, which MP4 players do not know.
    assert.equal(clip, "UnsupportedStreamMediaTypeException");
  });
}
