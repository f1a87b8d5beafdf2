// A producer by plain HTTP: streams are made, and PutMedia is written while its acknowledgements come.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

export const ABSOLUTE = { "x-amzn-fragment-timecode-type": "ABSOLUTE" };

/** Makes a stream; gives what opens it to producers. */
export async function make(server, StreamName) {
  const args = ["store", "token", "--data", server.data, "--streams", StreamName, "--actions", "*"];
  const { token } = JSON.parse((await promisify(execFile)(server.binary, args)).stdout);
  const authorization = `Bearer ${token}`;
  const body = JSON.stringify({ StreamName, DataRetentionInHours: 2 });
  const made = await server.fetch("/kvs/createStream", { method: "POST", headers: { authorization }, body });
  assert.equal(made.status, 200);
  return authorization;
}

/** A PutMedia request that is open: what is written goes out at once, `acks` come as they come. */
export async function put(server, authorization, stream, timecodes) {
  const headers = { authorization, "x-amzn-stream-name": stream, ...timecodes };
  const producer = request(`${server.url}/kvs/putMedia`, { method: "POST", headers });
  producer.flushHeaders();
  const [response] = await once(producer, "response");
  assert.equal(response.statusCode, 200);
  const acks = createInterface(response)[Symbol.asyncIterator]();
  /** The number of the next fragment of which this is said. */
  const ack = async type => {
    for (;;) {
      const { value, done } = await acks.next();
      assert.ok(!done, `no ${type}`);
      const said = JSON.parse(value);
      assert.notEqual(said.EventType, "ERROR", value);
      if (said.EventType === type) return said.FragmentNumber;
    }
  };
  return { write: data => producer.write(data), end: data => producer.end(data), ack };
}
