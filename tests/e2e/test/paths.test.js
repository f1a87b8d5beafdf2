// Names in paths that would lead elsewhere, written by hand: no client's own tidying is between them and the server.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { CALLS, files } from "../src/stored.js";
import { suite } from "../src/suite.js";

const it = suite({ server: { config: `${CALLS}\n[media_streaming]\nenabled = true\n` } });

/** A name, and what it is: one that could be, one that cannot, one that is no single segment, or too much for a request. */
const NAMES = [
  ["..", "could"],
  [".", "could"],
  ["%2e%2e", "could"],
  ["..%2f..%2fstore.key", "cannot"],
  ["%2e%2e%2f%2e%2e%2fstore.key", "cannot"],
  ["a%2fb", "cannot"],
  ["..%5c..%5cstore.key", "cannot"],
  ["%00", "cannot"],
  ["a%00b", "cannot"],
  ["a%0d%0ab", "cannot"],
  ["%252e%252e%252f", "cannot"],
  ["%ff%fe", "cannot"],
  ["a%", "cannot"],
  ["x".repeat(5_000), "cannot"],
  ["../../store.key", "segments"],
  ["a/b", "segments"],
  ["/", "segments"],
  ["x".repeat(1_000_000), "much"],
  ["a\0b", "no request"],
];
/** What each may be answered with. */
const ANSWERS = {
  could: [404],
  cannot: [400, 404],
  segments: [404, 405],
  much: [400, 414, 431, undefined],
  "no request": [400, undefined],
};

/** Sends a request as it is; its status and its body. No status: the connection was closed. */
function raw(method, path, headers) {
  const { hostname, port } = new URL(it.server.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let text = "";
    const done = () => {
      const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1];
      resolve({ status: status && Number(status), body: text.slice(text.indexOf("\r\n\r\n") + 4) });
      socket.destroy();
    };
    /** A refused upgrade leaves the connection open. */
    const whole = () => {
      const [head, body] = text.split("\r\n\r\n", 2);
      return body !== undefined && body.length >= Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? Number.POSITIVE_INFINITY);
    };
    socket.setTimeout(10_000, () => reject(new Error(`no end: ${method} ${path.slice(0, 100)}`)));
    socket.on("data", part => {
      text += part.toString("latin1");
      if (whole()) done();
    });
    socket.on("close", done);
    // It may close before it has read all of a request that is too much.
    socket.on("error", error => ["ECONNRESET", "EPIPE"].includes(error.code) || reject(error));
    const lines = Object.entries({ Host: `${hostname}:${port}`, Connection: "close", ...headers }).map(([k, v]) => `${k}: ${v}\r\n`);
    socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`, "latin1");
  });
}

for (const [what, places, more] of [
  [
    "a contact's id",
    [
      ["GET", n => `/v1/contacts/${n}`],
      ["DELETE", n => `/v1/contacts/${n}`],
      ["GET", n => `/v1/contacts/${n}/audio.wav`],
      ["POST", n => `/v1/contacts/${n}/media-streaming:start`],
    ],
  ],
  [
    "a recording's id",
    [
      ["GET", n => `/v1/rooms/desk/recordings/${n}`],
      ["DELETE", n => `/v1/rooms/desk/recordings/${n}`],
      ["GET", n => `/v1/rooms/desk/recordings/${n}/tracks`],
      ["GET", n => `/v1/rooms/desk/recordings/${n}/timeline`],
    ],
  ],
  [
    "a recording's track",
    [
      ["GET", n => `/v1/rooms/desk/recordings/5f0c2a9be1d34c77/tracks/${n}`],
      ["GET", n => `/v1/rooms/desk/recordings/5f0c2a9be1d34c77/tracks/${n}.webm`],
    ],
  ],
  [
    "a stream's name",
    [["GET", n => `/v1/streams/${n}/live`]],
    { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" },
  ],
]) {
  test(`${what} that would lead elsewhere leads nowhere`, { timeout: 60_000 }, async () => {
    const token = await it.server.token("desk", { grants: "admin,record" });
    const headers = { Authorization: `Bearer ${token}`, ...more };
    const before = [...files(it.server.data)];
    for (const [method, place] of places) {
      for (const [name, kind] of NAMES) {
        const path = place(name);
        const { status, body } = await raw(method, path, headers);
        const text = `${method} ${JSON.stringify(path.slice(0, 100))}: ${status} ${body.slice(0, 300)}`;
        assert.ok(ANSWERS[kind].includes(status), text);
        if (kind === "could" || kind === "cannot") assert.match(JSON.parse(body).error.message, /^[^\n]{10,}$/, text);
      }
    }
    assert.deepEqual([...files(it.server.data)], before, "nothing was made or removed");
    assert.equal((await it.server.fetch("/livez")).status, 200);
  });
}
