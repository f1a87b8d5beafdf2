// What ends producers over HTTP: each error of PutMedia that needs a setting or a deed, and silence.

import { test } from "node:test";
import { Program } from "../src/python.js";
import { ACCESS, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const CONFIG = `[demo]
enabled = false

[store]
enabled = true
max_fragment_ms = 5000
max_stream_bytes = 60000
max_total_bytes = 150000
every_track = true

${ACCESS}`;
const it = suite({ server: { config: CONFIG } });

test("a producer is told why it is ended, and one that is silent after half a minute", { timeout: 90_000 }, async t => {
  const program = new Program("kvs_faults.py", [`${it.server.url}/kvs`, KEY, SECRET]);
  const { idle, ended } = await program.event("done", 80_000);
  t.diagnostic(`IDLE after ${idle} s, ended after ${ended.toFixed(1)} s`);
  await program.stop();
});
