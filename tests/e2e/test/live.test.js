// A stream's sound by a WebSocket: where it begins, what it says of fragments that are damaged or gone, and of tracks that there are not.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { listen } from "../src/live.js";
import { cluster, head } from "../src/matroska.js";
import { ABSOLUTE, make, put } from "../src/put-media.js";
import { ACCESS, CALLS, files } from "../src/stored.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const it = suite({ server: { config: `${CALLS}idle_close_ms = 500\nreader_timeout_s = 2\n${ACCESS}[media_streaming]\nenabled = true\n` } });
const STREAM = "line";
/** Sound of a fragment at 8 kHz. */
const FRAGMENT_MS = 5_000;

/** A producer of one caller's sound. */
async function produce(authorization, contact, stream = STREAM) {
  const producer = await put(it.server, authorization, stream, ABSOLUTE);
  producer.write(head({ name: "AUDIO_FROM_CUSTOMER", contact }));
  return { ...producer, write: (at, pcm) => producer.write(cluster(at, pcm)) };
}

/** What one caller said, stored; gives the numbers of its fragments. */
async function said(authorization, contact, at, pieces, stream = STREAM) {
  const producer = await produce(authorization, contact, stream);
  for (const [i, pcm] of pieces.entries()) producer.write(at + i * FRAGMENT_MS, pcm);
  producer.end();
  const numbers = [];
  for (const _ of pieces) numbers.push(await producer.ack("PERSISTED"));
  return numbers;
}

/** Damages a fragment where it lies. */
function damage(number) {
  const [path] = [...files(it.server.data).keys()].filter(name => name.includes(`/${number}.`));
  const bytes = readFileSync(path);
  bytes[200] ^= 1;
  writeFileSync(path, bytes);
}

test("it begins with the latest fragment, or behind one, and says what is missing and what there never was", { timeout: 60_000 }, async () => {
  const admin = await it.server.token("any", { grants: "admin" });
  const authorization = await make(it.server, STREAM);
  const pieces = Array.from({ length: 7 }, () => randomBytes(16 * FRAGMENT_MS));
  const first = Date.now() - 60_000;
  const at = i => first + i * FRAGMENT_MS;
  const gone = await said(authorization, "caller-1", at(0), pieces.slice(0, 2));
  const [damaged, ...kept] = await said(authorization, "caller-2", at(2), pieces.slice(2, 5));
  assert.equal((await it.ask(admin, "DELETE", "/v1/contacts/caller-1")).status, 204);
  damage(damaged);
  const producer = await produce(authorization, "caller-2");
  producer.write(at(5), pieces[5]);
  const open = await producer.ack("BUFFERING");

  await assert.rejects(listen(it.server, "nobody", admin), /response: 404$/);
  // Who may not hear it is told the same: it is the stream of no contact that was in that room.
  await assert.rejects(listen(it.server, STREAM, await it.server.token("any", { grants: "record" })), /response: 404$/);
  const latest = await listen(it.server, STREAM, admin);
  // Behind a number that is there no more, and behind one whose fragment is damaged: that is not read.
  const behind = await listen(it.server, STREAM, admin, { after: gone[0], track: "from" });
  const later = await listen(it.server, STREAM, admin, { after: damaged });
  const other = await listen(it.server, STREAM, admin, { after: damaged, track: "to" });
  assert.equal(await other.closed, 1000);
  assert.deepEqual(other.events, [{ event: "fragment", number: kept[0] }, { event: "error", message: "the stream has no such track" }]);
  assert.equal(other.pcm().length, 0);
  await until("what is open has come", () => latest.pcm().equals(pieces[5]));
  producer.write(at(6), pieces[6]);
  producer.end();
  const last = await producer.ack("PERSISTED").then(() => producer.ack("PERSISTED"));

  const begins = number => ({ event: "fragment", number });
  const start = i => ({ event: "start", sample_rate: 8000, channels: 1, time_ms: at(i) });
  const end = { event: "end" };
  const rest = [begins(kept[0]), start(3), begins(kept[1]), begins(open), begins(last), end];
  for (const [reader, events, sound] of [
    [latest, [begins(open), start(5), begins(last), end], pieces.slice(5)],
    [behind, [{ event: "missing" }, ...rest], pieces.slice(3)],
    [later, rest, pieces.slice(3)],
  ]) {
    assert.equal(await reader.closed, 1000);
    assert.deepEqual(reader.events, events);
    assert.ok(reader.pcm().equals(Buffer.concat(sound)), "the sound as it was sent");
  }
});

test("who takes nothing loses it, and the place of a reader", { timeout: 60_000 }, async () => {
  const admin = await it.server.token("any", { grants: "admin" });
  const stream = "long";
  const authorization = await make(it.server, stream);
  // More than what the kernel holds for who does not read.
  const pieces = Array(200).fill(randomBytes(16 * FRAGMENT_MS));
  const [first] = await said(authorization, "caller", Date.now() - pieces.length * FRAGMENT_MS, pieces, stream);
  const readers = async () => Number(/^antiphon_store_readers (\d+)$/m.exec(await (await it.server.fetch("/metrics")).text())[1]);
  assert.equal(await readers(), 0);
  const stuck = await listen(it.server, stream, admin, { after: first });
  stuck.pause();
  const began = Date.now();
  assert.equal(await readers(), 1);
  await until("the place is free again", async () => (await readers()) === 0);
  assert.ok(Date.now() - began >= 1500, "not before its time");
  stuck.resume();
  assert.equal(await stuck.closed, 1006);
  assert.ok(stuck.pcm().length < 16 * FRAGMENT_MS * (pieces.length - 1));
});
