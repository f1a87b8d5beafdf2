// Stored streams with boto3 and raw HTTP, against the real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program } from "../src/python.js";
import { CONFIG, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const it = suite({ server: { config: CONFIG } });

test("boto3 makes, writes, reads, lists and deletes streams", { timeout: 60_000 }, async () => {
  const program = new Program("kvs.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  await program.event("done", 50_000);
  await program.stop();
});

test("documents of each shape are kept or refused, and nobody else notices", { timeout: 60_000 }, async () => {
  const token = await it.server.token(it.room(), { grants: "admin" });
  const program = new Program("kvs_shapes.py", [`${it.server.url}/kvs`, KEY, SECRET, token]);
  await program.event("done", 50_000);
  await program.stop();
});

/** About a second each. `make kvs-crash` sets it to 200. */
const KILLS = Number(process.env.ANTIPHON_KILLS ?? 50);

test("what was acknowledged is there after kill -9", { timeout: KILLS * 12_000 }, async t => {
  const program = new Program("kvs_kill.py", [it.server.binary, KILLS]);
  const { kills, persisted, salvaged, due, blocks, lost_ms } = await program.event("done", KILLS * 11_000);
  assert.equal(kills, KILLS);
  assert.ok(persisted > 50, `${persisted} fragments were promised`);
  // Not half of the kills: an open fragment that was killed before the first sync behind its beginning is rightly gone.
  assert.ok(due > 0 && salvaged >= due && blocks > KILLS, `${salvaged} fragments salvaged of ${due} that had to be, ${blocks} blocks`);
  t.diagnostic(`lost of a journaled call, by kill: ${lost_ms} ms`);
  await program.stop();
});

test("what was made durable with others is there after kill -9", { timeout: KILLS * 2_400 }, async t => {
  const program = new Program("kvs_group.py", [it.server.binary, Math.ceil(KILLS / 6)]);
  const { cannot, kills, persisted, grouped, syncs } = await program.event("done", KILLS * 2_200);
  await program.stop();
  if (cannot) return t.skip(cannot);
  assert.ok(kills > 0 && persisted > 0 && grouped > 0, `${persisted} persisted, ${grouped} of them with others`);
  t.diagnostic(`${persisted} fragments, ${grouped} with others (counted before the kills) in ${syncs} syncs`);
});

test("a full disk is said, and over when there is room again", { timeout: 120_000 }, async t => {
  const program = new Program("kvs_full.py", [it.server.binary]);
  const { cannot, persisted, refused } = await program.event("done", 110_000);
  await program.stop();
  if (cannot) return t.skip(`no mount namespace here: ${cannot}`);
  assert.ok(persisted >= 20 && refused === 5, `${persisted} persisted, ${refused} refused`);
});

/** Of the documents of ten minutes, as many as MKVToolNix looks at; `make kvs-tools` sets it to 0, which is all. */
const DOCUMENTS = process.env.ANTIPHON_DOCUMENTS ?? "24";

test("FFmpeg and curl produce ten minutes, FFprobe and MKVToolNix have nothing to say", { timeout: 200_000 }, async t => {
  const program = new Program("kvs_tools.py", [`${it.server.url}/kvs`, KEY, SECRET, DOCUMENTS]);
  const { fragments, took_s } = await program.event("done", 190_000);
  t.diagnostic(`${fragments} fragments in ${took_s} s`);
  await program.stop();
});

test("curl sends a fragment of the largest size, which comes back the same, and one of a byte more, which is refused", { timeout: 120_000 }, async t => {
  const program = new Program("kvs_large.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  const { took_s } = await program.event("done", 110_000);
  t.diagnostic(`${took_s} s`);
  await program.stop();
});
