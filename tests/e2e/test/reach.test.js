// Ways to the server where the plain one is not there: TCP beside swallowed UDP, TCP alone at one port for all shards, another
// TCP connection where the first falls silent, and IPv6.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, test } from "node:test";
import { setTimeout as pass } from "node:timers/promises";
import { ends, meet, settings } from "../src/reach.js";
import { Relay, TcpRelay } from "../src/relay.js";
import { startPublishing } from "../src/interop.js";
import { suite } from "../src/suite.js";

const plain = suite({ chromium: true });
const only = suite({
  chromium: true,
  firefox: true,
  server: { config: settings('[reach]\nudp = false\ntcp = "0.0.0.0:0"') },
});
const six = suite({
  chromium: true,
  server: { media: "[::]:0", config: `announce = ["::1"]\n${settings("")}` },
});
const relays = [];
after(() => relays.forEach(relay => relay.close()));

/** The server's end of the way that a page's media takes. */
async function way(person) {
  const { protocol, address, port } = (await ends(person)).remote;
  return { protocol, address, port };
}

/** Ben joins through relays. Gives the ports that the server named. */
async function joinVia(it, room, ports) {
  const ben = await it.chromium.open(`${it.server.url}/r/${room}`, { fake: { tone: 660 } });
  await ben.evaluate(via => {
    window.__via = via;
  }, ports);
  await ben.page.locator("[data-testid=name-input]").fill("Ben");
  await ben.click("join-button");
  return [ben, await ben.until("the answer", () => window.__relayTo?.tcp && window.__relayTo)];
}

test("where UDP is swallowed, a call goes by TCP, and by another connection once the first is silent", { timeout: 120_000 }, async () => {
  const room = plain.room();
  const ada = await plain.join(plain.chromium, room, "Ada", { fake: { tone: 440 } });
  const [deaf, first, second] = [await Relay.open(), await TcpRelay.open(), await TcpRelay.open()];
  relays.push(deaf, first, second);
  deaf.cut = true;
  const [ben, named] = await joinVia(plain, room, { udp: deaf.port, tcp: first.port });
  assert.equal(named.tcp, named.udp, "the same port number by default");
  first.to(named.tcp);
  second.to(named.tcp);
  ben.id = await ben.joined();
  await meet(ada, ben);
  assert.deepEqual(await way(ben), { protocol: "tcp", address: "127.0.0.1", port: first.port });
  assert.equal((await way(ada)).protocol, "udp");
  await ben.evaluate(
    via => {
      window.__via = via;
      window.__states = [];
      window.__antiphon.room.on("state", state => window.__states.push(state));
    },
    { udp: deaf.port, tcp: second.port },
  );
  first.cut = true;
  await ben.until("ICE was restarted", () => window.__via === undefined, undefined, 25_000);
  await meet(ada, ben);
  assert.equal((await way(ben)).port, second.port);
  const seen = await ben.evaluate(() => ({ connections: window.__connections.length, states: window.__states }));
  assert.deepEqual(seen, { connections: 1, states: [] });
});

test("what is said while a network is gone is heard as soon as it is back", { timeout: 60_000 }, async () => {
  const room = plain.room();
  const ada = await plain.join(plain.chromium, room, "Ada", { fake: { tone: 440 } });
  const relay = await Relay.open();
  relays.push(relay);
  const [ben, named] = await joinVia(plain, room, { udp: relay.port });
  relay.to(named.udp);
  ben.id = await ben.joined();
  await meet(ada, ben);
  relay.cut = true;
  // By SCTP alone it is said again after 1, 3 and 7 s.
  await pass(500);
  await ada.click("mic-toggle");
  await pass(4_000);
  relay.cut = false;
  const back = performance.now();
  const tile = `[data-testid=tile][data-participant="${ada.id}"]`;
  await ben.until("the mark for muted", t => !!document.querySelector(`${t} [data-testid=muted]`), tile);
  const took = performance.now() - back;
  assert.ok(took < 1_500, `heard after ${took} ms`);
  assert.equal(await ben.evaluate(() => window.__connections.length), 1, "on the same connection");
});

for (const [one, other] of [
  ["chromium", "chromium"],
  ["chromium", "firefox"],
]) {
  test(`${one} and ${other} meet by TCP at one port`, { timeout: 90_000 }, async () => {
    const room = only.room();
    const ada = await only.join(only[one], room, "Ada", { fake: { tone: 440 } });
    const ben = await only.join(only[other], room, "Ben", { fake: { tone: 660 } });
    await meet(ada, ben);
    for (const person of [ada, ben]) assert.equal((await way(person)).protocol, "tcp", person.name);
  });
}

test("GStreamer publishes by TCP", { timeout: 60_000 }, async () => {
  const room = only.room();
  const bot = await only.python("hear.py", room, "--who", "Gst", "--seconds", 3);
  const publisher = await startPublishing(only, "GStreamer", room, "G722", "Gst");
  const { frequency } = await bot.event("heard", 30_000);
  assert.ok(Math.abs(frequency / 660 - 1) <= 0.01, `${frequency} Hz`);
  await Promise.all(publisher.programs.map(program => program.stop()));
});

const loopbackSix = Object.values(networkInterfaces()).flat().some(i => i.address === "::1");
test("two meet by IPv6", { timeout: 60_000, skip: !loopbackSix && "this machine has no IPv6" }, async () => {
  const room = six.room();
  const ada = await six.join(six.chromium, room, "Ada", { fake: { tone: 440 } });
  const ben = await six.join(six.chromium, room, "Ben", { fake: { tone: 660 } });
  await meet(ada, ben);
  for (const person of [ada, ben]) assert.equal((await way(person)).address.replace(/[[\]]/g, ""), "::1", person.name);
});
