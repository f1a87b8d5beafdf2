// Stored streams with boto3 and raw HTTP, against the real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program } from "../src/python.js";
import { suite } from "../src/suite.js";

const KEY = "AKIDTEST";
const SECRET = "a secret of this test only";
const CONFIG = `[demo]
enabled = false

[store]
enabled = true

[kvs]
access_key_id = "${KEY}"
secret_access_key = "${SECRET}"
`;

const it = suite({ server: { config: CONFIG } });

test("boto3 makes, writes, reads, lists and deletes streams", { timeout: 60_000 }, async () => {
  const program = new Program("kvs.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  await program.event("done", 50_000);
  await program.stop();
});

test("what was acknowledged is there after kill -9", { timeout: 120_000 }, async () => {
  const program = new Program("kvs_kill.py", [it.server.binary, 10]);
  const { kills, persisted } = await program.event("done", 110_000);
  assert.equal(kills, 10);
  assert.ok(persisted > 50, `${persisted} fragments were promised`);
  await program.stop();
});
