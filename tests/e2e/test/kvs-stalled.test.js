// Readers of stored streams that read nothing, beside a producer that sends in real time.

import { test } from "node:test";
import { Program } from "../src/python.js";
import { ACCESS, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const CONFIG = `[demo]
enabled = false

[store]
enabled = true
reader_timeout_s = 5

${ACCESS}`;
const it = suite({ server: { config: CONFIG } });

test("readers that read nothing change nothing for the producer, and are cut off", { timeout: 60_000 }, async t => {
  const program = new Program("kvs_stalled.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  const { alone_ms, beside_ms } = await program.event("done", 50_000);
  t.diagnostic(`PERSISTED after ${alone_ms} ms alone, ${beside_ms} ms beside them`);
  await program.stop();
});
