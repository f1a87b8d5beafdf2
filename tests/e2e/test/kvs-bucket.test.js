// Streams in a bucket of an S3-compatible server (moto's), by a good line and by a bad one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program } from "../src/python.js";
import { BINARY } from "../src/server.js";

async function run(what, ms) {
  const program = new Program("kvs_bucket.py", [BINARY, what]);
  try {
    return await program.event("done", ms);
  } finally {
    await program.stop();
  }
}

test("streams live in a bucket, and two servers do not overwrite each other's records", { timeout: 60_000 }, async () => {
  await run("plain", 50_000);
});

test("nothing acknowledged is lost while the bucket is away, refuses, or answers badly", { timeout: 260_000 }, async t => {
  const { persisted, met } = await run("faults", 250_000);
  assert.ok(persisted > 50, `${persisted} fragments were promised`);
  t.diagnostic(`${persisted} fragments; faults ${JSON.stringify(met)}`);
});
