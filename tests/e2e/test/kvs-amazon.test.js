// Programs that know the service by Amazon's host names only, against the server with a certificate for these.

import { test } from "node:test";
import { Program } from "../src/python.js";
import { BINARY } from "../src/server.js";

test("programs that cannot be given another endpoint find the server by Amazon's names", { timeout: 60_000 }, async () => {
  const program = new Program("kvs_amazon.py", [BINARY]);
  try {
    await program.event("done", 50_000);
  } finally {
    await program.stop();
  }
});
