// The official Rust SDK against the real server: only the endpoint is another. What it reads was sent by other producers,
// because it has no PutMedia.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { cluster, count, head, pcmDocument } from "../src/matroska.js";
import { ABSOLUTE, make, put } from "../src/put-media.js";
import { build, RUST } from "../src/rust.js";
import { CONFIG, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

/** From nothing, on a machine that has two cores and other work too. */
const BUILD_MS = 15 * 60_000;

/** Bytes of a picture in grey. */
const PICTURE = 256 * 144;
const RAW = { encoding: "buffer", maxBuffer: 101 * PICTURE };

const it = suite({ server: { config: CONFIG } });
const folder = mkdtempSync(join(tmpdir(), "antiphon-rust-"));
before(build, { timeout: BUILD_MS });
after(() => rmSync(folder, { recursive: true, force: true }));

const run = promisify(execFile);
const read = name => readFileSync(join(folder, name));

/** Starts it with a command. It says `done`, or what it was that was not as it must be. */
function rust(...args) {
  const environment = [`ENDPOINT=${it.server.url}/kvs`, `ACCESS_KEY_ID=${KEY}`];
  return it.start("rust", [...environment, RUST, ...args], ["env", `SECRET_ACCESS_KEY=${SECRET}`]);
}

test("the Rust SDK makes, describes, tags and deletes streams", { timeout: 60_000 }, async () => {
  const { arn } = await rust("control").event("done");
  assert.match(arn, /^arn:aws:kinesisvideo:us-east-1:000000000000:stream\/rust\/\d+$/);
});

test("the Rust SDK lists and reads what was stored", { timeout: 60_000 }, async () => {
  const pieces = [1, 2, 3, 4, 5].map(() => randomBytes(16_000));
  const producer = await put(it.server, await make(it.server, "pcm"), "pcm", ABSOLUTE);
  producer.end(pcmDocument(Date.now() - 10_000, pieces));
  const numbers = [];
  for (const _ of pieces) numbers.push(await producer.ack("PERSISTED"));
  const said = await rust("read", "pcm", folder).event("done");
  assert.deepEqual(said.numbers, numbers);
  assert.deepEqual(said.lengths, [1000, 1000, 1000, 1000, 1000]);
  const found = name => pieces.map(piece => count(read(name), piece));
  assert.deepEqual(found("earliest"), [1, 1, 1, 1, 1]);
  assert.deepEqual(found("after"), [0, 1, 1, 1, 1]);
  assert.deepEqual(found("second"), [0, 1, 0, 0, 0]);
  // And to FFmpeg the whole is the sound that was sent, one piece after another.
  const pcm = ["-v", "error", "-i", join(folder, "earliest"), "-f", "s16le", join(folder, "pcm")];
  await run("ffmpeg", pcm);
  assert.ok(read("pcm").equals(Buffer.concat(pieces)));
});

test("the Rust SDK reads each piece while the producer goes on", { timeout: 60_000 }, async () => {
  const producer = await put(it.server, await make(it.server, "live"), "live", ABSOLUTE);
  const [first, ...pieces] = [1, 2, 3, 4].map(() => randomBytes(16_000));
  const start = Date.now();
  producer.write(head());
  producer.write(cluster(start, first));
  const reader = rust("follow", "live", await producer.ack("BUFFERING"));
  await reader.event("following");
  let got = Buffer.alloc(0);
  for (const [i, piece] of pieces.entries()) {
    producer.write(cluster(start + 1000 * (i + 1), piece));
    while (!count(got, piece)) got = Buffer.concat([got, Buffer.from((await reader.event("piece")).hex, "hex")]);
  }
  producer.end();
  await reader.event("end");
  assert.equal(count(got, first), 0);
});

test("the Rust SDK gets a clip and images", { timeout: 60_000 }, async () => {
  const source = join(folder, "source.mkv");
  const pictures = ["-f", "lavfi", "-i", "testsrc=size=256x144:rate=25:duration=4", "-pix_fmt", "yuv420p"];
  const h264 = ["-c:v", "libx264", "-bf", "0", "-g", "25", "-f", "matroska", "-cluster_time_limit", "1000", source];
  await run("ffmpeg", ["-v", "error", ...pictures, ...h264]);
  const start = String(Date.now() / 1000 - 60);
  const timecodes = { "x-amzn-fragment-timecode-type": "RELATIVE", "x-amzn-producer-start-timestamp": start };
  const producer = await put(it.server, await make(it.server, "pictures"), "pictures", timecodes);
  producer.end(readFileSync(source));
  for (let i = 0; i < 4; i++) await producer.ack("PERSISTED");
  const { kind, images } = await rust("pictures", "pictures", folder).event("done");
  assert.equal(kind, "video/mp4");
  const decoded = async (file, ...more) => (await run("ffmpeg", ["-v", "error", "-i", file, ...more, "-f", "framemd5", "-"])).stdout;
  const sums = text => text.split("\n").filter(line => /^0,/.test(line)).map(line => line.split(",").at(-1).trim());
  const wanted = sums(await decoded(source));
  assert.equal(wanted.length, 100);
  assert.deepEqual(sums(await decoded(join(folder, "clip"))), wanted);
  assert.deepEqual(images.map(([error]) => error), [null, null, null]);
  // Each is of its very second: nearer to that picture than to those of half a second before and after.
  const grey = async file => (await run("ffmpeg", ["-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "gray", "-"], RAW)).stdout;
  const shown = await grey(source);
  for (const [second, [, content]] of images.entries()) {
    const file = join(folder, `${second}.jpg`);
    writeFileSync(file, content, "base64");
    const image = await grey(file);
    assert.equal(image.length, PICTURE);
    const away = n => image.reduce((sum, grey, i) => sum + Math.abs(grey - shown[n * PICTURE + i]), 0) / PICTURE;
    const [before, there, later] = [-12, 0, 12].map(n => away(Math.max(0, second * 25 + n)));
    assert.ok(there < 4 && (second === 0 || there < before) && there < later, `${second}: ${before}, ${there}, ${later}`);
  }
});
