// The official JavaScript SDK against the real server: only the endpoint is another.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { promisify } from "node:util";
import {
  CreateStreamCommand,
  DeleteStreamCommand,
  DescribeStreamCommand,
  GetDataEndpointCommand,
  KinesisVideoClient,
  ListSignalingChannelsCommand,
  ListTagsForResourceCommand,
  paginateListStreams,
  ResourceNotFoundException,
  TagResourceCommand,
  UpdateDataRetentionCommand,
  VersionMismatchException,
} from "@aws-sdk/client-kinesis-video";
import {
  GetClipCommand,
  GetMediaForFragmentListCommand,
  KinesisVideoArchivedMediaClient,
  paginateListFragments,
  UnsupportedStreamMediaTypeException,
} from "@aws-sdk/client-kinesis-video-archived-media";
import { GetMediaCommand, KinesisVideoMediaClient } from "@aws-sdk/client-kinesis-video-media";
import { count, pcmDocument } from "../src/matroska.js";
import { KEY, CONFIG as KVS, SECRET } from "../src/stored.js";
import { suite } from "../src/suite.js";

const CONFIG = `${KVS}keys = [{ access_key_id = "AKIDLESS", secret_access_key = "less", actions = ["Describe*", "CreateToken"], streams = ["mine-*"] }]
http = "127.0.0.1:0"
`;

const it = suite({ server: { config: CONFIG } });

const settings = (endpoint, credentials = { accessKeyId: KEY, secretAccessKey: SECRET }) => ({
  endpoint,
  region: "us-east-1",
  credentials,
  maxAttempts: 1,
});

async function bytes(stream) {
  return Buffer.from(await stream.transformToByteArray());
}

async function pages(paginator, field) {
  const all = [];
  for await (const page of paginator) all.push(...(page[field] ?? []));
  return all;
}

test("the JavaScript SDK makes, reads and deletes a stream", { timeout: 60_000 }, async () => {
  const endpoint = `${it.server.url}/kvs`;
  const control = new KinesisVideoClient(settings(endpoint));
  const { StreamARN } = await control.send(new CreateStreamCommand({ StreamName: "js", DataRetentionInHours: 2 }));
  await control.send(new CreateStreamCommand({ StreamName: "js-2", DataRetentionInHours: 1 }));
  const names = await pages(paginateListStreams({ client: control, pageSize: 1 }, {}), "StreamInfoList");
  assert.deepEqual(names.map(s => s.StreamName), ["js", "js-2"]);
  await control.send(new TagResourceCommand({ ResourceARN: StreamARN, Tags: [{ Key: "a", Value: "1" }] }));
  const { Tags } = await control.send(new ListTagsForResourceCommand({ ResourceARN: StreamARN }));
  assert.deepEqual(Tags, { a: "1" });
  const retention = { StreamName: "js", CurrentVersion: "0", Operation: "INCREASE_DATA_RETENTION", DataRetentionChangeInHours: 1 };
  await assert.rejects(control.send(new UpdateDataRetentionCommand(retention)), VersionMismatchException);
  await assert.rejects(control.send(new DescribeStreamCommand({ StreamName: "nobody" })), ResourceNotFoundException);
  assert.deepEqual((await control.send(new ListSignalingChannelsCommand({}))).ChannelInfoList, []);
  const wrong = new KinesisVideoClient(settings(endpoint, { accessKeyId: KEY, secretAccessKey: "wrong" }));
  await assert.rejects(wrong.send(new DescribeStreamCommand({ StreamName: "js" })), { name: "InvalidSignatureException" });
  await control.send(new DeleteStreamCommand({ StreamARN: names[1].StreamARN }));
});

test("the JavaScript SDK reads what a bearer of a token wrote", { timeout: 60_000 }, async () => {
  const endpoint = `${it.server.url}/kvs`;
  const issue = async (...more) => {
    const args = ["store", "token", "--data", it.server.data, ...more];
    return JSON.parse((await promisify(execFile)(it.server.binary, args)).stdout);
  };
  const control = new KinesisVideoClient(settings(endpoint));
  await control.send(new CreateStreamCommand({ StreamName: "pcm", DataRetentionInHours: 2 }));
  const pieces = [1, 2, 3].map(() => randomBytes(16_000));
  const { token } = await issue("--streams", "pcm", "--actions", "PutMedia");
  const put = await it.server.fetch("/kvs/putMedia", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "x-amzn-stream-name": "pcm", "x-amzn-fragment-timecode-type": "ABSOLUTE" },
    body: pcmDocument(Date.now() - 10_000, pieces),
  });
  const acks = (await put.text()).trim().split("\n").map(line => JSON.parse(line));
  const numbers = acks.filter(a => a.EventType === "PERSISTED").map(a => a.FragmentNumber);
  assert.equal(numbers.length, 3, JSON.stringify(acks));

  // A session's credentials, as a program that shall only read this one stream gets them.
  const s = await issue("--streams", "pcm", "--actions", "Get*,List*");
  const session = { accessKeyId: s.access_key_id, secretAccessKey: s.secret_access_key, sessionToken: s.session_token };
  const reader = new KinesisVideoClient(settings(endpoint, session));
  const { DataEndpoint } = await reader.send(new GetDataEndpointCommand({ StreamName: "pcm", APIName: "GET_MEDIA" }));
  await assert.rejects(reader.send(new CreateStreamCommand({ StreamName: "pcm-2" })), { name: "NotAuthorizedException" });
  const media = new KinesisVideoMediaClient(settings(DataEndpoint, session));
  const { Payload } = await media.send(new GetMediaCommand({ StreamName: "pcm", StartSelector: { StartSelectorType: "EARLIEST" } }));
  const got = await bytes(Payload);
  for (const piece of pieces) assert.equal(count(got, piece), 1);
  const archived = new KinesisVideoArchivedMediaClient(settings(DataEndpoint, session));
  const fragments = await pages(paginateListFragments({ client: archived, pageSize: 2 }, { StreamName: "pcm" }), "Fragments");
  assert.deepEqual(fragments.map(f => f.FragmentNumber), numbers);
  const list = await archived.send(new GetMediaForFragmentListCommand({ StreamName: "pcm", Fragments: [numbers[1]] }));
  assert.equal(count(await bytes(list.Payload), pieces[1]), 1);
  const times = { StartTimestamp: new Date(Date.now() - 60_000), EndTimestamp: new Date() };
  const clip = { StreamName: "pcm", ClipFragmentSelector: { FragmentSelectorType: "SERVER_TIMESTAMP", TimestampRange: times } };
  await assert.rejects(archived.send(new GetClipCommand(clip)), UnsupportedStreamMediaTypeException);
});

test("a port of its own, a key that may do less, a token made of it", { timeout: 60_000 }, async () => {
  const all = new KinesisVideoClient(settings(it.server.streams));
  await all.send(new CreateStreamCommand({ StreamName: "mine-1" }));
  await all.send(new CreateStreamCommand({ StreamName: "yours" }));
  const { DataEndpoint } = await all.send(new GetDataEndpointCommand({ StreamName: "yours", APIName: "GET_MEDIA" }));
  assert.equal(DataEndpoint, it.server.streams);
  const less = new KinesisVideoClient(settings(it.server.streams, { accessKeyId: "AKIDLESS", secretAccessKey: "less" }));
  assert.equal((await less.send(new DescribeStreamCommand({ StreamName: "mine-1" }))).StreamInfo.Status, "ACTIVE");
  await assert.rejects(less.send(new DescribeStreamCommand({ StreamName: "yours" })), { name: "NotAuthorizedException" });
  await assert.rejects(less.send(new DeleteStreamCommand({ StreamARN: "arn:aws:kinesisvideo:x:0:stream/mine-1/1" })), { name: "NotAuthorizedException" });
  // Signed as AWS clients sign: by curl.
  const make = async body => {
    const args = ["-s", "--aws-sigv4", "aws:amz:us-east-1:kinesisvideo", "-u", "AKIDLESS:less", "-H", "content-type: application/json", "-d", JSON.stringify(body)];
    return JSON.parse((await promisify(execFile)("curl", [...args, `${it.server.url}/v1/tokens`])).stdout);
  };
  const { token } = await make({ actions: ["DescribeStream"], streams: ["mine-1"], ttl_s: 60 });
  const describe = StreamName =>
    fetch(`${it.server.streams}/describeStream`, { method: "POST", headers: { authorization: `Bearer ${token}` }, body: JSON.stringify({ StreamName }) });
  assert.equal((await describe("mine-1")).status, 200);
  assert.equal((await describe("yours")).status, 401);
  assert.match((await make({ actions: ["GetMedia"], streams: ["mine-1"] })).Message, /does not allow/);
});
