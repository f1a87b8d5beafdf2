// Streams under master keys of a key server (moto's KMS), in every state that such a key can be in.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program } from "../src/python.js";
import { BINARY } from "../src/server.js";

test("streams under keys of a key server, and each error of a key told by its id", { timeout: 200_000 }, async t => {
  const program = new Program("kvs_kms.py", [BINARY]);
  try {
    const { waited, slowest, calls } = await program.event("done", 190_000);
    assert.ok(calls > 50, `${calls} calls`);
    t.diagnostic(`${calls} calls; who needed a server that hangs was told after ${waited} s, the slowest others took ${slowest} s`);
  } finally {
    await program.stop();
  }
});
