// The metrics that warn before a limit is met are seen to warn, and to stop.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CALLS } from "../src/stored.js";
import { suite } from "../src/suite.js";

// A contact has a stream of its own, so one contact is at both limits.
const it = suite({ chromium: true, server: { config: `${CALLS}max_streams = 1\n\n[media_streaming]\nenabled = true\nmax_streams = 1\n` } });
const { ask } = it;
/** Of the bots' tone. */
const BOT_DBFS = 20 * Math.log10(9000 / 32768) - 3;

/** `[contacts that are streamed, streams of the store]`: whether each is near its limit. */
async function near() {
  const metrics = await (await it.server.fetch("/metrics")).text();
  return ["media_streams", "store_streams"].map(what => Number(new RegExp(`^antiphon_${what}_near_limit (\\d)$`, "m").exec(metrics)?.[1]));
}

test("who is near a limit of streams is warned by the metrics, and the call of who is beyond it goes on", { timeout: 60_000 }, async () => {
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const bots = await Promise.all([440, 700].map(hertz => it.python("recorded.py", room, "--hertz", hertz)));
  const ids = await Promise.all(bots.map(async bot => (await bot.event("joined")).id));
  const person = await it.join(it.chromium, room, "Ada");
  const [first, second] = ids.map(id => `/v1/rooms/${room}/participants/${id}/media-streaming`);
  assert.deepEqual(await near(), [0, 0]);
  assert.match(await (await it.server.fetch("/metrics")).text(), /^antiphon_store_sweeps_total [1-9]/m);
  const started = await ask(record, "POST", `${first}:start`);
  assert.equal(started.status, 200, JSON.stringify(started.json));
  assert.deepEqual(await near(), [1, 1]);
  const over = await ask(record, "POST", `${second}:start`);
  assert.deepEqual([over.status, over.json.error.code], [429, "at_limit"]);
  await person.hears(ids[1], 700, BOT_DBFS);
  assert.equal((await ask(record, "POST", `${first}:stop`)).status, 200);
  assert.deepEqual(await near(), [0, 1], "what was said is kept");
  assert.equal((await ask(record, "DELETE", `/v1/contacts/${started.json.ContactId}`)).status, 204);
  assert.deepEqual(await near(), [0, 0]);
});
