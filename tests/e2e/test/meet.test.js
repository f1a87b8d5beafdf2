// People meet: browsers see and hear each other, mute, leave, share a screen, come back after a lost connection.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Relay } from "../src/relay.js";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true, firefox: true });
const relays = [];
after(() => relays.forEach(relay => relay.close()));

function goesForward(seen) {
  assert.equal(seen.backwards, 0, `frame numbers go back: ${JSON.stringify(seen)}`);
  assert.ok(seen.advanced > 0, `frame numbers stand still: ${JSON.stringify(seen)}`);
  assert.ok(seen.unreadable <= seen.pictures * 0.1, `torn or unreadable pictures: ${JSON.stringify(seen)}`);
}

async function meet(a, b, toneOfA, toneOfB) {
  const [seenOfB, seenOfA] = await Promise.all([
    a.sees(b.id),
    b.sees(a.id),
    a.hears(b.id, toneOfB),
    b.hears(a.id, toneOfA),
  ]);
  goesForward(seenOfA);
  goesForward(seenOfB);
}

test("two tabs of Chromium see and hear each other", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const bob = await it.join(it.chromium, room, "Bob", { fake: { tone: 700 } });
  await meet(ada, bob, 440, 700);
  await ada.screenshot("two-tabs");
});

test("Chromium and Firefox see and hear each other", { timeout: 90_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const bob = await it.join(it.firefox, room, "Bob", { fake: { tone: 700 } });
  await meet(ada, bob, 440, 700);
  await bob.screenshot("firefox");
});

test("mute and camera off are heard, seen and shown; leaving too", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const bob = await it.join(it.chromium, room, "Bob", { fake: { tone: 700 } });
  await ada.hears(bob.id, 700);

  await bob.click("mic-toggle");
  await ada.hearsNothing(bob.id);
  const tile = `[data-testid=tile][data-participant="${bob.id}"]`;
  await ada.until("the mark for muted", t => !!document.querySelector(`${t} [data-testid=muted]`), tile);
  await bob.click("mic-toggle");
  await ada.hears(bob.id, 700);
  await ada.until("no mark for muted", t => !document.querySelector(`${t} [data-testid=muted]`), tile);

  await ada.sees(bob.id, { pictures: 5 });
  await bob.click("camera-toggle");
  await ada.until("no picture of Bob", t => !document.querySelector(`${t} video`), tile);
  await bob.click("camera-toggle");
  await ada.sees(bob.id, { pictures: 5 });

  await bob.click("leave-button");
  await bob.until("the page after a call", () => !!document.querySelector("[data-testid=ended]"));
  await ada.until("Bob is gone", id => !window.__antiphon.room.participants.has(id), bob.id);
  await ada.until("no tile of Bob", t => !document.querySelector(t), tile);
});

test("a shared screen is seen and heard, and announced", { timeout: 60_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada");
  const bob = await it.join(it.chromium, room, "Bob", { fake: { tone: 700, screenTone: 1200 } });
  await ada.evaluate(() => {
    window.__screens = [];
    const { room } = window.__antiphon;
    room.on("screenStarted", e => window.__screens.push(["started", e.participant]));
    room.on("screenStopped", e => window.__screens.push(["stopped", e.participant]));
  });
  await bob.click("screen-toggle");
  goesForward(await ada.sees(bob.id, { source: "screen", pictures: 15, fps: 15 }));
  const both = async frequency =>
    ada.until(`${frequency} Hz among Bob's sounds`, ([id, f]) => {
      const all = [...document.querySelectorAll(`audio[data-participant="${id}"]`)];
      return all.some(audio => {
        const heard = window.__heard(`audio[data-mid="${audio.dataset.mid}"]`);
        return heard && heard.level > -40 && Math.abs(heard.frequency / f - 1) <= 0.01;
      });
    }, [bob.id, frequency]);
  await both(1200);
  await both(700);
  await ada.screenshot("screen-share");
  await bob.click("screen-toggle");
  const screen = `[data-testid=tile][data-participant="${bob.id}"][data-source=screen]`;
  await ada.until("the screen is gone", s => !document.querySelector(s), screen);
  const told = await ada.evaluate(() => window.__screens);
  assert.deepEqual(told, [["started", bob.id], ["stopped", bob.id]]);
});

test("a lost connection comes back in the same place", { timeout: 90_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const relay = await Relay.open();
  relays.push(relay);
  const bob = await it.chromium.open(`${it.server.url}/r/${room}`, { fake: { tone: 700 } });
  await bob.evaluate(udp => {
    window.__via = { udp };
  }, relay.port);
  await bob.page.locator("[data-testid=name-input]").fill("Bob");
  await bob.click("join-button");
  relay.to(await bob.until("the answer", () => window.__relayTo?.udp));
  bob.id = await bob.joined();
  await ada.hears(bob.id, 700);

  relay.cut = true;
  await bob.until("the loss is noticed", () => window.__antiphon.room.state === "reconnecting", undefined, 25_000);
  await bob.until("it is back", () => window.__antiphon.room.state === "connected", undefined, 25_000);
  assert.equal(await bob.evaluate(() => window.__antiphon.room.id), bob.id);
  await meet(ada, bob, 440, 700);
  const people = await ada.evaluate(() => [...window.__antiphon.room.participants.values()].map(p => p.name));
  assert.deepEqual(people.sort(), ["Ada", "Bob"]);
});

test("a call goes on by another way where its network changes", { timeout: 90_000 }, async () => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
  const [first, second] = [await Relay.open(), await Relay.open()];
  relays.push(first, second);
  const bob = await it.chromium.open(`${it.server.url}/r/${room}`, { fake: { tone: 700 } });
  await bob.evaluate(udp => {
    window.__via = { udp };
  }, first.port);
  await bob.page.locator("[data-testid=name-input]").fill("Bob");
  await bob.click("join-button");
  const port = await bob.until("the answer", () => window.__relayTo?.udp);
  first.to(port);
  second.to(port);
  bob.id = await bob.joined();
  await ada.hears(bob.id, 700);
  await bob.evaluate(udp => {
    window.__via = { udp };
    window.__states = [];
    window.__antiphon.room.on("state", state => window.__states.push(state));
  }, second.port);
  first.cut = true;
  await bob.until("ICE was restarted", () => window.__via === undefined, undefined, 25_000);
  await meet(ada, bob, 440, 700);
  const seen = await bob.evaluate(() => ({ connections: window.__connections.length, states: window.__states }));
  assert.deepEqual(seen, { connections: 1, states: [] });
});

test("six at once: two browsers, three bots and aiortc", { timeout: 120_000 }, async () => {
  const room = it.room();
  // Ten videos are decoded and seven encoded here, all in software: small ones, or two cores are too busy for congestion
  // control to believe in the line.
  const small = { width: 320, height: 180, fps: 15 };
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440, ...small } });
  const bob = await it.join(it.firefox, room, "Bob", { fake: { tone: 700, ...small } });
  const bots = [];
  for (const [i, tone] of [1000, 1300, 1600].entries()) {
    const args = ["--name", `Bot ${i}`, "--tone", tone, "--steady", "--fps", 15, "--width", 320, "--height", 180];
    bots.push(await it.python("show.py", room, ...args));
  }
  bots.push(await it.python("whip.py", room, "--tone", 1900, "--seconds", 90));
  const ids = await Promise.all(bots.map(async bot => (await bot.event("ready")).id));
  await ada.until("all six are there", () => window.__antiphon.room.participants.size === 6);
  // What a busy machine takes for a narrow line (300 kbit/s) is looked at again every five seconds: the fifth picture may wait for some of these.
  const within = 45_000;
  await Promise.all([...ids, bob.id].map(async id => goesForward(await ada.sees(id, { pictures: 10, fps: 15, within }))));
  await bob.sees(ada.id, { pictures: 10, within });
  // Three audio slots, all filled.
  await ada.until("three voices are heard", () => {
    const audible = [...document.querySelectorAll("audio")].filter(a => {
      const heard = a.dataset.participant && window.__heard(`audio[data-mid="${a.dataset.mid}"]`);
      return heard && heard.level > -40;
    });
    return audible.length === 3;
  });
  await ada.screenshot("six");
});
