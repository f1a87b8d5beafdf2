// Streams under master keys of a Vault (OpenBao), in every state that such a key can be in.

import { test } from "node:test";
import { Program } from "../src/python.js";
import { BINARY } from "../src/server.js";

test("streams under keys of a Vault: errors of keys, sealed, rotated, and moved there from the data folder", { timeout: 200_000 }, async () => {
  const program = new Program("kvs_vault.py", [BINARY]);
  try {
    await program.event("done", 190_000);
  } finally {
    await program.stop();
  }
});
