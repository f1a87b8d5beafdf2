// Browsers whose network lets no UDP out: all media by TCP, one port for all shards.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const config = `
[guests]
rooms = ["*"]
[demo]
enabled = false
[stop]
deadline_s = 1
[reach]
udp = false
tcp = "0.0.0.0:0"
`;
const it = suite({ chromium: true, firefox: true, server: { config } });

/** The protocol of the way that a page's media takes. */
function protocol(person) {
  return person.evaluate(async () => {
    const stats = await window.__connections[0].getStats();
    const all = [...stats.values()];
    const transport = all.find(s => s.type === "transport" && s.selectedCandidatePairId);
    const pair = stats.get(transport?.selectedCandidatePairId) ?? all.find(s => s.type === "candidate-pair" && s.nominated);
    return stats.get(pair?.remoteCandidateId)?.protocol;
  });
}

for (const [one, other] of [
  ["chromium", "chromium"],
  ["chromium", "firefox"],
]) {
  test(`${one} and ${other} meet by TCP`, { timeout: 90_000 }, async () => {
    const room = it.room();
    const ada = await it.join(it[one], room, "Ada", { fake: { tone: 440 } });
    const ben = await it.join(it[other], room, "Ben", { fake: { tone: 660 } });
    await Promise.all([ada.sees(ben.id), ben.sees(ada.id), ada.hears(ben.id, 660), ben.hears(ada.id, 440)]);
    for (const person of [ada, ben]) assert.equal(await protocol(person), "tcp", person.name);
  });
}
