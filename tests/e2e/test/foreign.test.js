// An unrelated stack: aiortc by WHIP and WHEP, with a browser in the room.

import assert from "node:assert/strict";
import { test } from "node:test";
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
