// A stream's sound by a WebSocket, as a program reads it.

import { once } from "node:events";
import WebSocket from "ws";

/** Begins to read. Gives the `events` as they come, the sound that has come (`pcm()`), and in `closed` the code with which it was closed. */
export async function listen(server, stream, token, query = {}) {
  const url = new URL(`/v1/streams/${stream}/live?${new URLSearchParams(query)}`, server.url.replace("http", "ws"));
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
  const events = [];
  const pieces = [];
  socket.on("message", (data, binary) => (binary ? pieces.push(data) : events.push(JSON.parse(data))));
  const closed = new Promise(resolve => socket.on("close", resolve));
  await once(socket, "open");
  return { events, pcm: () => Buffer.concat(pieces), closed, pause: () => socket.pause(), resume: () => socket.resume() };
}
