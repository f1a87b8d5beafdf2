// What a restart leaves as it was: settings that were made over the API, and streams whose master keys were changed meanwhile.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import {
  CreateStreamCommand,
  DescribeStreamCommand,
  InvalidArgumentException,
  KinesisVideoClient,
} from "@aws-sdk/client-kinesis-video";
import { GetMediaForFragmentListCommand, KinesisVideoArchivedMediaClient } from "@aws-sdk/client-kinesis-video-archived-media";
import { count, pcmDocument } from "../src/matroska.js";
import { ACCESS, CALLS, KEY, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const streaming = settings => `${CALLS}\n[media_streaming]\n${settings}\n`;
const it = suite({ server: { config: streaming('enabled = true\nprefix = "file"') } });

const run = promisify(execFile);

test("settings that were made over the API stay, and go when they are taken back", { timeout: 120_000 }, async () => {
  const settings = "/v1/media-streaming";
  const admin = await it.server.token("any", { grants: "admin" });
  const ask = async (method, body) => {
    const { status, json } = await it.ask(admin, method, settings, body);
    assert.equal(status, 200, JSON.stringify(json));
    return json;
  };
  const first = await ask("GET");
  assert.deepEqual([first.from, first.prefix, first.retention], ["config", "file", 24]);
  const set = await ask("PUT", { ...first, prefix: "api", retention: 30, retention_unit: "days" });
  assert.deepEqual([set.from, set.prefix], ["api", "api"]);
  // Neither an unknown key nor a member of the room changes them.
  assert.equal((await it.ask(admin, "PUT", settings, { ...first, key: "nobody's" })).json.error.code, "bad_request");
  const record = await it.server.token("any", { grants: "record" });
  assert.equal((await it.ask(record, "DELETE", settings)).status, 403);

  await it.server.restart(streaming('enabled = false\nprefix = "later"'));
  assert.deepEqual(await ask("GET"), set);
  assert.match(it.server.log, /goes by settings that were set over the API/);
  const taken = await ask("DELETE");
  assert.deepEqual([taken.from, taken.prefix, taken.enabled], ["config", "later", false]);
  await ask("PUT", set);

  // What cannot be read is no reason not to start, and nothing is streamed by guess.
  const file = join(it.server.data, "store/v1/000000000000/settings/media-streaming");
  await it.server.restart(streaming("enabled = true"));
  const bytes = readFileSync(file);
  bytes[20] ^= 1;
  writeFileSync(file, bytes);
  await it.server.restart(streaming("enabled = true"));
  const unread = await ask("GET");
  assert.deepEqual([unread.from, unread.enabled], ["unreadable", false]);
  assert.match(await (await it.server.fetch("/metrics")).text(), /^antiphon_media_streaming_settings_unreadable 1$/m);
  const checked = await run(it.server.binary, ["store", "check", "--data", it.server.data]).catch(error => error);
  assert.match(checked.stdout, /settings\/media-streaming/);
  assert.equal((await ask("DELETE")).from, "config");
  assert.match(await (await it.server.fetch("/metrics")).text(), /^antiphon_media_streaming_settings_unreadable 0$/m);
});

/** With these versions of master keys, each of them in the environment or in a file. */
const keyed = keys => CALLS.replace("enabled = true", `enabled = true\nkeys = [${keys.join(", ")}]`) + ACCESS;
const of = (name, version, secret) => `{ name = "${name}", version = ${version}, secret = "${secret}" }`;

test("master keys are changed, and the old ones go", { timeout: 120_000 }, async () => {
  const old = randomBytes(32).toString("hex");
  const file = join(it.server.data, "..", "tenant.2");
  writeFileSync(file, `${randomBytes(32).toString("base64")}\n`);
  const own = join(it.server.data, "..", "default.2");
  writeFileSync(own, randomBytes(32));
  const next = [of("tenant", 2, `file:${file}`), of("default", 2, `file:${own}`)];
  await it.server.restart(keyed([of("tenant", 1, "env:TENANT")]), { TENANT: old });

  const credentials = { accessKeyId: KEY, secretAccessKey: SECRET };
  const client = Kind => new Kind({ endpoint: `${it.server.url}/kvs`, region: "us-east-1", credentials, maxAttempts: 1 });
  const make = (StreamName, KmsKeyId) =>
    client(KinesisVideoClient).send(new CreateStreamCommand({ StreamName, KmsKeyId, DataRetentionInHours: 2 }));
  await assert.rejects(make("nobody", "nobody's"), InvalidArgumentException);
  // A piece of sound for each stream, and the number of the fragment that has it.
  const pieces = {};
  const numbers = {};
  const issue = async () => JSON.parse((await run(it.server.binary, ["store", "token", "--data", it.server.data])).stdout).token;
  for (const [stream, key] of [["tenants", "tenant"], ["ours", undefined]]) {
    await make(stream, key);
    pieces[stream] = randomBytes(16_000);
    const headers = { authorization: `Bearer ${await issue()}`, "x-amzn-stream-name": stream, "x-amzn-fragment-timecode-type": "ABSOLUTE" };
    const body = pcmDocument(Date.now() - 10_000, [pieces[stream]]);
    const put = await it.server.fetch("/kvs/putMedia", { method: "POST", headers, body });
    const acks = await put.text();
    numbers[stream] = /"PERSISTED".*"FragmentNumber":"(\d+)"/.exec(acks)?.[1] ?? assert.fail(acks);
  }
  const described = await client(KinesisVideoClient).send(new DescribeStreamCommand({ StreamName: "tenants" }));
  assert.equal(described.StreamInfo.KmsKeyId, "tenant");
  const read = async StreamName => {
    const list = new GetMediaForFragmentListCommand({ StreamName, Fragments: [numbers[StreamName]] });
    return Buffer.from(await (await client(KinesisVideoArchivedMediaClient).send(list)).Payload.transformToByteArray());
  };
  const readable = async () => {
    for (const [stream, piece] of Object.entries(pieces)) assert.equal(count(await read(stream), piece), 1, stream);
  };
  await readable();

  // Both versions: what there is stays readable, and is wrapped anew beside it. A process of its own may not.
  await it.server.restart(keyed([of("tenant", 1, "env:TENANT"), ...next]), { TENANT: old });
  const store = (what, env = { TENANT: old }) =>
    run(it.server.binary, ["store", what, "--data", it.server.data, "--config", it.server.config], { env: { ...process.env, ...env } })
      .catch(error => error);
  assert.match((await store("check")).stdout, /3 keys are under older versions/);
  assert.match((await store("rewrap")).stderr, /POST \/v1\/keys:rewrap/);
  const headers = { authorization: `Bearer ${await issue()}` };
  const rewrapped = await it.server.fetch("/v1/keys:rewrap", { method: "POST", headers, body: "{}" });
  assert.deepEqual(await rewrapped.json(), { Rewrapped: 3, Newest: 0, Problems: [] });
  assert.doesNotMatch((await store("check")).stdout, /older/);

  // Only the new ones: the old key of the tenant, and that of the data folder, are gone for good.
  rmSync(join(it.server.data, "store.key"));
  await it.server.restart(keyed(next));
  await readable();
  assert.ok(!existsSync(join(it.server.data, "store.key")));

  // After a crash, in a folder that no server has open, the program does it by itself.
  const third = join(it.server.data, "..", "tenant.3");
  writeFileSync(third, randomBytes(32).toString("hex"));
  await it.server.restart(keyed([...next, of("tenant", 3, `file:${third}`)]));
  it.server.signal("SIGKILL");
  await it.server.ended;
  assert.match((await store("rewrap")).stdout, /^1 keys wrapped anew, 2 were already: 0 problems$/m);
  next[0] = of("tenant", 3, `file:${third}`);
  await it.server.restart(keyed(next));
  await readable();

  // The wrong keys: that of one stream spoils that stream, the account's is said at the start.
  const right = readFileSync(third);
  writeFileSync(third, randomBytes(32).toString("hex"));
  await it.server.restart(keyed(next));
  assert.match((await read("tenants")).toString("latin1"), /4502/);
  assert.equal(count(await read("ours"), pieces.ours), 1);
  writeFileSync(third, right);
  const ours = readFileSync(own);
  writeFileSync(own, randomBytes(32));
  await assert.rejects(it.server.restart(keyed(next)), /the key does not fit/);
  writeFileSync(own, ours);
  await it.server.restart(keyed(next));
  await readable();
});
