// Who knows nothing of us: aiortc by WHIP and WHEP, and a page of another origin, with a browser in the room.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { barePage, decodes, play, playOffered, publish, restartIce, sees } from "../src/standard.js";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true });

/** RFC 9725 says 200; without a body 204 is the same. */
function left({ status }) {
  assert.ok(status === 200 || status === 204, `DELETE: ${status}`);
}

test("aiortc publishes by WHIP and is heard and seen in a browser", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const camera = await it.python("whip.py", room, "--tone", 660, "--seconds", 40);
  const { id } = await camera.event("ready");
  const [seen] = await Promise.all([ada.sees(id, { pictures: 20, fps: 15 }), ada.hears(id, 660)]);
  assert.equal(seen.backwards, 0, JSON.stringify(seen));
  await camera.stop();
  left(await camera.event("left"));
  await ada.until("it is gone", who => !window.__antiphon.room.participants.has(who), id);
});

/** The room, or one of it, is played; `offered` says how the server is brought to offer. */
async function plays(one, offered) {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  // Louder, so that it is who a player of the room would hear.
  if (one) await it.join(it.chromium, room, "Bob", { fake: { tone: 880, amplitude: 0.6 } });
  const wanted = [...(one ? ["--who", ada.id] : []), ...(offered ? ["--offered", offered] : [])];
  const player = await it.python("whep.py", room, "--seconds", 30, ...wanted);
  const [heard, seen] = await Promise.all([player.event("heard"), player.event("seen")]);
  assert.ok(Math.abs(heard.frequency / 440 - 1) <= 0.01, JSON.stringify(heard));
  assert.equal(seen.backwards, 0, JSON.stringify(seen));
  const names = await ada.evaluate(() => [...window.__antiphon.room.participants.values()].map(p => p.name));
  assert.deepEqual(names.toSorted(), one ? ["Ada", "Bob"] : ["Ada"], "players are not in the roster");
  left(await player.event("left"));
}

for (const one of [false, true]) {
  const what = one ? "one participant" : "the room";
  test(`aiortc plays ${what} by WHEP`, { timeout: 60_000 }, () => plays(one));
  test(`aiortc plays ${what} by an offer of the server's, as it has none`, { timeout: 60_000 }, () => plays(one, "empty"));
  test(`aiortc plays ${what} by the counter-offer to one that is of no use`, { timeout: 60_000 }, () => plays(one, "counter"));
}

/** An empty page of another origin than the server's, and what ends that origin. */
async function strangePage(fake) {
  const origin = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html>"));
  await once(origin.listen(0, "127.0.0.1"), "listening");
  const page = await it.chromium.open(`http://127.0.0.1:${origin.address().port}/`, { fake });
  return { page, close: () => origin.closeAllConnections() ?? origin.close() };
}

/** In the page: publishes, its candidates by PATCH. Gives what it could read of the answers. */
async function publishByFetch([endpoint, token]) {
  const own = { Authorization: `Bearer ${token}` };
  const pc = new RTCPeerConnection();
  const candidates = [];
  const gathered = new Promise(resolve => {
    pc.onicecandidate = ({ candidate }) => (candidate ? candidates.push(candidate) : resolve());
  });
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  for (const track of media.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [media] });
  const offer = await pc.createOffer();
  const body = { method: "POST", body: offer.sdp };
  const strange = fetch(endpoint, { ...body, headers: { ...own, "Content-Type": "application/sdp", "X-Strange": "1" } });
  const kept = await strange.then(() => false, () => true);
  const posted = await fetch(endpoint, { ...body, headers: { ...own, "Content-Type": "application/sdp" } });
  const resource = new URL(posted.headers.get("Location"), endpoint).href;
  await pc.setLocalDescription(offer);
  await gathered;
  const tag = posted.headers.get("ETag");
  const patch = async (match, { candidate, sdpMid, usernameFragment }) => {
    const password = offer.sdp.match(/a=ice-pwd:(\S+)/)[1];
    const lines = [`a=ice-ufrag:${usernameFragment}`, `a=ice-pwd:${password}`, "m=audio 9 UDP/TLS/RTP/SAVPF 0", `a=mid:${sdpMid}`, `a=${candidate}`];
    const headers = { ...own, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": match };
    return (await fetch(resource, { method: "PATCH", headers, body: `${lines.join("\r\n")}\r\n` })).status;
  };
  const patched = [];
  for (const candidate of candidates) patched.push(await patch(tag, candidate));
  const other = await patch('"other"', candidates[0]);
  await pc.setRemoteDescription({ type: "answer", sdp: await posted.text() });
  return { resource, kept, posted: posted.status, patched, other };
}

/** In the page: ends it. */
async function deleteByFetch([resource, token]) {
  const headers = { Authorization: `Bearer ${token}` };
  const { status } = await fetch(resource, { method: "DELETE", headers });
  return { status, after: (await fetch(resource, { headers })).status };
}

test("a page of another origin publishes, and plays what the server offers, with nothing but fetch", { timeout: 90_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const token = await it.server.token(room);
  const { page, close } = await strangePage({ tone: 660, fps: 15 });
  try {
    assert.notEqual(await page.evaluate(() => location.origin), new URL(it.server.url).origin);
    const camera = await page.evaluate(publishByFetch, [`${it.server.url}/whip/${room}`, token]);
    assert.ok(camera.kept, "the browser keeps back what the server does not allow");
    assert.equal(camera.posted, 201);
    assert.ok(camera.patched.length > 0 && camera.patched.every(status => status === 204), JSON.stringify(camera));
    assert.equal(camera.other, 412, "it was the tag that let them in");
    const id = camera.resource.slice(camera.resource.lastIndexOf("/") + 1);
    const [seen] = await Promise.all([ada.sees(id, { pictures: 20, fps: 15 }), ada.hears(id, 660)]);
    assert.equal(seen.backwards, 0, JSON.stringify(seen));

    const player = await playOffered(it, page, room, { participant: ada.id, token });
    assert.deepEqual([player.posted, player.answered], [201, 204]);
    assert.match(player.link, /<[^>]+\/layer>; rel=/);
    const shown = await sees(page, 15, 30);
    assert.equal(shown.backwards, 0, JSON.stringify(shown));
    await page.until("Ada's voice", () => Math.abs((window.__heard("#player")?.frequency ?? 0) / 440 - 1) <= 0.01);

    for (const resource of [player.resource, camera.resource]) {
      const { status, after } = await page.evaluate(deleteByFetch, [resource, token]);
      left({ status });
      assert.equal(after, 410);
    }
    await ada.until("it is gone", who => !window.__antiphon.room.participants.has(who), id);
  } finally {
    close();
  }
});

test("a publisher and a player restart ICE by PATCH, and their media goes on", { timeout: 90_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const camera = await barePage(it, it.chromium, { fps: 15 });
  const own = await it.server.token(room);
  const id = await publish(it, camera, room, { kind: "video", codec: "VP8", name: "Camera", token: own });
  const watcher = await barePage(it, it.chromium);
  const { resource, token } = await play(it, watcher, room, { kind: "video", participant: id });
  await Promise.all([ada.sees(id, { pictures: 20, fps: 15 }), sees(watcher, 20, 15)]);

  const whip = { resource: `${it.server.url}/whip/${room}/${id}`, token: own };
  for (const [person, session] of [[camera, whip], [watcher, { resource, token }]]) {
    // The second one by the tag of the first, which says that it is meant.
    let match = "*";
    for (let time = 0; time < 2; time++) {
      const said = await restartIce(person, { ...session, match });
      assert.equal(said.status, 200, JSON.stringify(said));
      assert.equal(said.tag, `"${said.ufrag}"`);
      assert.notEqual(said.tag, match);
      await decodes(watcher, 30);
      match = said.tag;
    }
  }
  const [seen] = await Promise.all([ada.sees(id, { pictures: 20, fps: 15 }), sees(watcher, 20, 15)]);
  assert.equal(seen.backwards, 0, JSON.stringify(seen));
});
