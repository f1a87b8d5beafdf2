// What happens to contacts and streams comes to a receiver of the operator's, signed: verified by the library of Standard Webhooks.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { Webhook } from "standardwebhooks";
import { CALLS } from "../src/stored.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

/** Requests as they came, the first of which is refused. */
const requests = [];
const receiver = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  requests.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
  response.writeHead(requests.length === 1 ? 503 : 204).end();
});
await new Promise(resolve => receiver.listen(0, "127.0.0.1", resolve));
after(() => receiver.close());
/** Nobody is there. */
const dead = "http://127.0.0.1:9/";
const url = `http://127.0.0.1:${receiver.address().port}/hook?of=tests`;

const CONFIG = `${CALLS}
[media_streaming]
enabled = true

[webhooks]
targets = [{ url = "${dead}" }, { url = "${url}" }]
interval_s = 1
`;

const it = suite({ chromium: true, server: { config: CONFIG } });

test("starts, stops and stored ranges are told, signed, each once for who looks at ids", { timeout: 60_000 }, async () => {
  const args = ["webhook-secret", "--data", it.server.data, "--url", url];
  const { stdout } = await promisify(execFile)(it.server.binary, args);
  const webhook = new Webhook(stdout.trim());
  /** What was told, by id; each request is verified. */
  const events = () => [...new Map(requests.map(r => [r.headers["webhook-id"], webhook.verify(r.body, r.headers)])).values()];
  const of = type => events().filter(event => event.type === type);
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const ask = async (id, what) => {
    const path = `/v1/rooms/${room}/participants/${id}/media-streaming:${what}`;
    const { status, json } = await it.ask(record, "POST", path);
    assert.equal(status, 200);
    return json;
  };

  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const started = await ask(ada.id, "start");
  const { StreamARN } = started.MediaStreams.Customer.Audio;
  await until("two ranges are told", () => of("stream.persisted").length >= 2, 20_000);
  assert.deepEqual(of("media_streaming.started").map(e => e.data), [{ ...started, Room: room }]);
  const stopped = await ask(ada.id, "stop");
  await until("the stop is told", () => of("media_streaming.stopped").length === 1);
  assert.deepEqual(of("media_streaming.stopped")[0].data, { ...stopped, Room: room, Reason: "stopped" });

  // What was stored before the stop was told before it, all of it and nothing twice.
  const { StartFragmentNumber, StopFragmentNumber } = stopped.MediaStreams.Customer.Audio;
  const ranges = of("stream.persisted").map(e => e.data);
  const numbers = ranges.flatMap(r => [r.FirstFragmentNumber, r.LastFragmentNumber]);
  assert.deepEqual(numbers, numbers.toSorted());
  assert.deepEqual([numbers[0], numbers.at(-1)], [StartFragmentNumber, StopFragmentNumber]);
  for (const range of ranges) {
    assert.deepEqual([range.StreamARN, range.ContactId], [StreamARN, started.ContactId]);
    assert.ok(range.Fragments >= 1 && range.Bytes > 0 && Number(range.EndProducerTimestamp) > Number(range.StartProducerTimestamp));
  }
  assert.equal(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"], "what was refused came again");

  // A contact of its own ends with its participant.
  await ask(ada.id, "start");
  await ada.close();
  await until("the end is told", () => of("media_streaming.stopped").length === 2);
  assert.equal(of("media_streaming.stopped")[1].data.Reason, "contact_ended");

  const metrics = await (await it.server.fetch("/metrics")).text();
  const value = (name, target) => Number(metrics.split("\n").find(l => l.startsWith(`antiphon_${name}{target="${target}"} `))?.split(" ")[1]);
  assert.ok(value("webhook_delivered_total", 1) >= 5 && value("webhook_attempts_failed_total", 0) >= 1, metrics);
  assert.ok(!it.server.log.includes("whsec_") && !it.server.log.includes("of=tests"));
});
