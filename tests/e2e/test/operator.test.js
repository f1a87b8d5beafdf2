// What an operator sets up and sees: HTTPS by certificate files, logs as JSON without secrets, a stop in two signals;
// with a browser and a bot in the room.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PYTHON, SCRIPTS } from "../src/python.js";
import { suite } from "../src/suite.js";

const folder = mkdtempSync(join(tmpdir(), "antiphon-e2e-"));
execFileSync(PYTHON, [join(SCRIPTS, "certificate.py"), folder]);
after(() => rmSync(folder, { recursive: true, force: true }));
// For Python's TLS; Chromium is told by a flag.
process.env.SSL_CERT_FILE = join(folder, "ca.pem");

const CONFIG = `
[tls]
cert = "${join(folder, "cert.pem")}"
key = "${join(folder, "key.pem")}"
[log]
format = "json"
filter = "debug"
[demo]
enabled = false
[stop]
deadline_s = 600
`;
const it = suite({ chromium: true, chromiumArgs: ["--ignore-certificate-errors"], server: { config: CONFIG } });

/** Values of SDP lines that begin so, in what both sides said. */
function lines(person, begin) {
  return person.evaluate(b => {
    const { localDescription, remoteDescription } = window.__antiphon.room.peerConnection;
    const all = `${localDescription.sdp}\n${remoteDescription.sdp}`.split(/\r?\n/);
    return [...new Set(all.filter(l => l.startsWith(b)).map(l => l.slice(b.length)))];
  }, begin);
}

test("over HTTPS people and bots meet, logs keep secrets, a second signal ends a stop", { timeout: 90_000 }, async () => {
  const room = it.room();
  assert.match(it.server.url, /^https:/);
  const token = await it.server.token(room, { identity: "ada" });
  const resumes = [];
  const ada = await it.chromium.open(`${it.server.url}/r/${room}#token=${token}`, { fake: { tone: 440 } });
  ada.page.on("response", response => resumes.push(response.headers()["antiphon-resume"]));
  await ada.page.locator("[data-testid=name-input]").fill("Ada");
  await ada.click("join-button");
  await ada.joined();
  const ear = await it.python("hear.py", room, "--who", "Ada", "--seconds", 3);
  await ear.event("ready");
  const heard = await ear.event("heard");
  assert.ok(Math.abs(heard.frequency / 440 - 1) <= 0.01, JSON.stringify(heard));

  const witness = await it.python("stop.py", room);
  await witness.event("ready");
  await ada.evaluate(() => window.__antiphon.room.on("draining", e => (window.__draining = e)));
  it.server.signal("SIGTERM");
  const { deadline_s } = await witness.event("draining");
  assert.equal(deadline_s, 600);
  assert.deepEqual(await ada.until("the page is told", () => window.__draining), { deadlineS: 600 });
  await ada.until("people are told", () => document.body.textContent.includes("The server restarts"));
  assert.equal(await ada.evaluate(() => window.__antiphon.room.state), "connected");
  const passwords = await lines(ada, "a=ice-pwd:");
  const resume = resumes.filter(Boolean);
  assert.ok(passwords.length >= 2 && resume.length >= 1, "there are secrets to look for");

  const begin = performance.now();
  it.server.signal("SIGINT");
  assert.equal(await it.server.ended, 0);
  assert.ok(performance.now() - begin < 10_000, "at once, not at the deadline");

  const log = it.server.log.split("\n");
  const parsed = log.map(line => JSON.parse(line));
  assert.ok(parsed.some(o => o.level === "DEBUG" && o.message === "joined"), "debug level was on");
  const secrets = [token.split(".")[2], ...passwords, ...resume, "Bearer", "Authorization"];
  for (const secret of secrets) {
    const found = log.find(line => line.toLowerCase().includes(secret.toLowerCase()));
    assert.equal(found, undefined, `${secret} is in the log`);
  }
});
