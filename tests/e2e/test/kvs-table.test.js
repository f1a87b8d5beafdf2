// The errors of the Kinesis Video Streams API that no other test sees over HTTP: each by its status, id and name.

import { test } from "node:test";
import { Program } from "../src/python.js";
import { ACCESS, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const CONFIG = `[demo]
enabled = false

[store]
enabled = true
max_connection_s = 2
max_streams = 6
max_readers = 1

${ACCESS}`;
const it = suite({ server: { config: CONFIG } });

test("each error that is left has its id and name over HTTP", { timeout: 60_000 }, async () => {
  const program = new Program("kvs_table.py", [`${it.server.url}/kvs`, KEY, SECRET, it.server.data]);
  await program.event("done", 50_000);
  await program.stop();
});
