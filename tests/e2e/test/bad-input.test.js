// What is refused, and how: always `{"error":{"code","message"}}` with a sentence that says what to do.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { test } from "node:test";
import WebSocket from "ws";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const CONFIG = `
[guests]
rooms = ["open"]
[demo]
enabled = false
[rooms]
max_participants = 2
[stop]
deadline_s = 1
`;
const it = suite({ server: { config: CONFIG } });

const OFFER = [
  "v=0",
  "o=- 1 2 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  "a=group:BUNDLE 0",
  "a=msid-semantic: WMS",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "c=IN IP4 0.0.0.0",
  "a=ice-ufrag:abcd",
  "a=ice-pwd:abcdefghijklmnopqrstuvwx",
  `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}`,
  "a=setup:actpass",
  "a=mid:0",
  "a=sendonly",
  "a=rtcp-mux",
  "a=rtpmap:111 opus/48000/2",
  "",
].join("\r\n");

/** One refused request: what it is, how it is sent, what must come back. */
const row = (what, send, status, code) =>
  test(what, { timeout: 20_000 }, async () => {
    const response = await send();
    const text = await response.text();
    assert.equal(response.status, status, text);
    const { error } = JSON.parse(text);
    assert.equal(error.code, code, text);
    assert.match(error.message, /^[^\n]{10,}$/, "one line that says what to do");
  });

const post = async (path, { token, body = OFFER, type = "application/sdp" } = {}) => {
  const headers = { "Content-Type": type, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return it.server.fetch(path, { method: "POST", headers, body });
};
const join = (room, options) => post(`/v1/rooms/${room}/participants`, options);

row("no token", () => join("a"), 401, "unauthenticated");
row("a token that is none", () => join("a", { token: "x.y.z" }), 401, "unauthenticated");
row("a token of another server", async () => {
  const [head, body] = (await it.server.token("a")).split(".");
  return join("a", { token: `${head}.${body}.${Buffer.alloc(32, 1).toString("base64url")}` });
}, 401, "unauthenticated");
row("a token without a signature", async () => {
  const [, body] = (await it.server.token("a")).split(".");
  const head = Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url");
  return join("a", { token: `${head}.${body}.` });
}, 401, "unauthenticated");
row("another room's token", async () => join("a", { token: await it.server.token("b") }), 403, "forbidden");
row("a token without the grant, WHIP", async () => {
  const token = await it.server.token("a", { grants: "subscribe" });
  return post("/whip/a", { token });
}, 403, "forbidden");
row("a token without the grant, WHEP", async () => {
  const token = await it.server.token("a", { grants: "publish" });
  return post("/whep/a", { token, body: OFFER.replace("sendonly", "recvonly") });
}, 403, "forbidden");
row("a guest in a closed room", () => post("/v1/rooms/closed/guest-token", { body: "{}", type: "application/json" }), 403, "forbidden");
row("SDP that is none", async () => join("a", { token: await it.server.token("a"), body: "hello" }), 400, "bad_sdp");
row("an empty body", async () => join("a", { token: await it.server.token("a"), body: "" }), 400, "bad_sdp");
row("no usable codec", async () => {
  const body = OFFER.replace("opus/48000/2", "speex/16000");
  return join("a", { token: await it.server.token("a"), body });
}, 400, "no_common_codec");
row("a body over the limit", async () => {
  const body = `${OFFER}${"a=x-padding:1\r\n".repeat(30_000)}`;
  return join("a", { token: await it.server.token("a"), body });
}, 413, "too_large");
row("a room that is full", async () => {
  const token = await it.server.token("full");
  for (let i = 0; i < 2; i++) assert.equal((await join("full", { token })).status, 201);
  return join("full", { token });
}, 429, "room_full");
row("a resource that is not there", async () => {
  const token = await it.server.token("a", { grants: "publish,subscribe,moderate" });
  return it.server.fetch("/v1/rooms/a/participants/nobody", { headers: { Authorization: `Bearer ${token}` } });
}, 404, "not_found");

row("an expired token", async () => {
  const token = await it.server.token("a", { ttl: "1s" });
  const headers = { Authorization: `Bearer ${token}` };
  // Servers give tokens some seconds of grace, as clocks differ.
  return until("the token is refused", async () => {
    const response = await it.server.fetch("/v1/rooms/a/participants/nobody", { headers });
    return response.status === 401 && response;
  });
}, 401, "token_expired");

const bot = async room => {
  const token = await it.server.token(room);
  const url = `${it.server.url.replace("http", "ws")}/v1/rooms/${room}/bot`;
  return new WebSocket(url, ["antiphon.v1", `bearer.${token}`]);
};
/** What a bot is told after it sent something. */
const told = socket =>
  new Promise((resolve, reject) => {
    const messages = [];
    socket.onmessage = event => typeof event.data === "string" && messages.push(JSON.parse(event.data));
    socket.onclose = event => resolve({ messages, code: event.code });
    setTimeout(() => reject(new Error(`still open: ${JSON.stringify(messages)}`)), 15_000).unref();
  });
const opened = socket => new Promise((resolve, reject) => ((socket.onopen = resolve), (socket.onerror = reject)));

for (const [what, message] of [
  ["text that is no JSON", "hello"],
  ["an unknown protocol", '{"type":"start","protocol":99}'],
  ["an unknown field", '{"type":"start","protocol":1,"session":{"audio":{"rate":1}}}'],
  ["a frame before the start", new Uint8Array([1, 2, 3])],
]) {
  test(`a bot that sends ${what} is told, then closed`, { timeout: 20_000 }, async () => {
    const socket = await bot("bots");
    await opened(socket);
    const end = told(socket);
    socket.send(message);
    const { messages, code } = await end;
    const error = messages.find(m => m.type === "error");
    assert.ok(error?.fatal && error.error.code && error.error.message, JSON.stringify(messages));
    assert.ok(code >= 4000 && code < 5000, `close code ${code}`);
  });
}

test("datagrams of any content change nothing", { timeout: 20_000 }, async () => {
  const response = await join("open", { token: await it.server.token("open") });
  assert.equal(response.status, 201);
  const answer = await response.text();
  const port = Number(/a=candidate:\S+ \d+ udp \d+ \S+ (\d+)/i.exec(answer)[1]);
  const socket = createSocket("udp4");
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 16;
  for (let i = 0; i < 2_000; i++) {
    const datagram = Buffer.from(Array.from({ length: 1 + (random() % 200) }, () => random() & 0xff));
    // The first byte decides: STUN, DTLS, RTP and RTCP all get their share (RFC 7983).
    datagram[0] = [0, 1, 20, 22, 63, 64, 128, 144, 200, 255][i % 10];
    await new Promise(resolve => socket.send(datagram, port, "127.0.0.1", resolve));
  }
  socket.close();
  assert.equal((await it.server.fetch("/livez")).status, 200);
  assert.equal((await join("open", { token: await it.server.token("open") })).status, 201);
});
