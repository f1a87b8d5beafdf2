// Messages on topics: between browsers, and with a Python program.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true, firefox: true });
const fake = { width: 320, height: 180, fps: 5 };

/** Listens in the page; what comes is in `window.__messages`. */
const listen = (person, topic) =>
  person.evaluate(t => {
    window.__messages ??= [];
    const { room } = window.__antiphon;
    room.subscribe(t, m => {
      const { topic, sender, lossy, addressed } = m;
      window.__messages.push({ topic, sender, lossy, addressed, text: new TextDecoder().decode(m.payload) });
    });
  }, topic);
const publish = (person, ...message) =>
  person.evaluate(async m => window.__antiphon.room.publish(...m), message);
/** Its channels stand, and the server has heard what it listens to: messages that are sent before may pass it by. */
const hears = async person => {
  for (const lossy of [false, true]) await publish(person, "nobody", "listens", { lossy });
  await person.evaluate(() => window.__antiphon.room.request({ type: "topics", topics: ["*"] }));
};
const heard = person => person.evaluate(() => window.__messages);
const key = person => person.evaluate(() => window.__antiphon.room.participants.get(window.__antiphon.room.id).key);

for (const browser of ["chromium", "firefox"]) {
  test(`${browser} and a program talk on topics`, { timeout: 60_000 }, async () => {
    const room = it.room();
    const [ada, bob] = await Promise.all([
      it.join(it[browser], room, "Ada", { fake }),
      it.join(it.chromium, room, "Bob", { fake }),
    ]);
    const bot = await it.python("topics.py", room);
    await bot.event("ready");
    await Promise.all([listen(ada, "answer"), listen(bob, "*")]);
    await hears(bob);
    for (const lossy of [false, true]) await publish(ada, "question", `why ${lossy}?`, { lossy });
    await ada.until("both answers", () => window.__messages.length === 2);
    await bob.until("both questions", () => window.__messages.length === 2);
    const sort = list => list.sort((a, b) => Number(a.lossy) - Number(b.lossy));
    const answers = sort(await heard(ada));
    assert.deepEqual(
      answers.map(m => [m.topic, m.text, m.lossy, m.addressed]),
      [
        ["answer", "WHY FALSE?", false, true],
        ["answer", "WHY TRUE?", true, true],
      ],
    );
    const questions = sort(await heard(bob));
    assert.deepEqual(
      questions.map(m => [m.topic, m.text, m.sender]),
      ["why false?", "why true?"].map(text => ["question", text, questions[0].sender]),
    );
    assert.equal(questions[0].sender, await key(ada), "the server says who it was");
  });
}
