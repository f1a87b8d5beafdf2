// Who comes while the server has no time waits for it: all who come back at once after a restart.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const it = suite({ server: {} });

/** What the kernel lets wait, and a few for those who are there already. */
const MOST = Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8")) - 50;
const CROWD = Math.min(1500, MOST);

/** A connection that asks for the server's health: when it stands, and its answer's first line. */
function ask(port) {
  const socket = connect(port, "127.0.0.1");
  const stands = new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const answer = new Promise((resolve, reject) => {
    let text = "";
    socket.on("data", data => {
      text += data;
    });
    socket.once("end", () => resolve(text.split("\r\n")[0])).once("error", reject);
  });
  answer.catch(() => {});
  socket.write("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
  return { stands, answer };
}

test(`${CROWD} who come while the server has no time are all answered`, { timeout: 30_000 }, async () => {
  const port = Number(new URL(it.server.url).port);
  process.kill(it.server.pid, "SIGSTOP");
  let crowd;
  try {
    crowd = Array.from({ length: CROWD }, () => ask(port));
    await Promise.all(crowd.map(one => one.stands));
  } finally {
    process.kill(it.server.pid, "SIGCONT");
  }
  const answers = await Promise.all(crowd.map(one => one.answer));
  assert.deepEqual([...new Set(answers)], ["HTTP/1.1 200 OK"]);
});
