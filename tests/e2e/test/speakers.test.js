// Who speaks: two people take turns; what a third one's page is told and shows, and what a bot hears named, is right and
// comes soon.

import assert from "node:assert/strict";
import { test } from "node:test";
import { suite } from "../src/suite.js";
import { delays, takeTurns, watchSpeakers } from "../src/turns.js";

const it = suite({ chromium: true });
/** Nobody speaks before the turns begin. */
const SILENT = { silent: true, width: 320, height: 180, fps: 10 };
const TURN_MS = 3_000;
const TURNS = 8;
/** Time for everybody to know the schedule before it begins. */
const LEAD_MS = 3_000;
/** `speakers` is told five times per second at most; the rest is the network and a machine shared with three browsers. */
const HEARD_MS = 500;
/** Who leads is decided every 300 ms, from some hundreds of milliseconds of speech: a cough does not lead. */
const LEADS_MS = 1_500;

const median = values => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Each turn is noticed; half of them within `limit`. */
function soon(what, values, limit) {
  assert.ok(values.every(v => v !== undefined && v !== null), `${what}: not in each turn: ${values}`);
  assert.ok(median(values) <= limit, `${what}: more than ${limit} ms: ${values}`);
}

test("who speaks and who leads is told, shown and in a bot's frames", { timeout: 120_000 }, async t => {
  const room = it.room();
  const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440, ...SILENT } });
  const bob = await it.join(it.chromium, room, "Bob", { fake: { tone: 700, ...SILENT } });
  const carol = await it.join(it.chromium, room, "Carol", { fake: SILENT });
  const voices = [ada, bob].map(({ id }) => id);
  await carol.until("both have a slot", ids => ids.every(id => window.__antiphon.room.slotOf(id, "microphone")), voices);
  const schedule = { begin: Date.now() + LEAD_MS, turnMs: TURN_MS, turns: TURNS };
  const clock = ["--begin", schedule.begin / 1_000, "--turn", TURN_MS / 1_000, "--turns", TURNS];
  const bot = await it.python("who.py", room, "--who", "Ada", "Bob", ...clock);
  await Promise.all([takeTurns(ada, schedule, 0, 2), takeTurns(bob, schedule, 1, 2), watchSpeakers(carol)]);
  const turns = await bot.event("turns", LEAD_MS + TURNS * TURN_MS + 20_000);

  const seen = what => delays(carol, schedule, what, voices);
  const told = await seen("speakers");
  const alone = await delays(carol, schedule, "speakers", voices, { alone: true });
  const shown = await seen("speaking-mark");
  const leads = await seen("dominant");
  const leadShown = await seen("dominant-mark");
  const botLeads = turns.lead_after.map(s => s === null ? s : Math.round(1_000 * s));
  t.diagnostic(`after the beginning of a turn, ms: told ${told}; alone ${alone}; shown ${shown}`);
  t.diagnostic(`leads ${leads}; shown ${leadShown}; told to the bot ${botLeads}`);
  t.diagnostic(`the bot's frames: ${JSON.stringify(turns)}`);

  soon("told who speaks", told, HEARD_MS);
  soon("told that nobody else does", alone, 2 * HEARD_MS);
  soon("shown who speaks", shown, HEARD_MS);
  soon("told who leads", leads, LEADS_MS);
  soon("shown who leads", leadShown, LEADS_MS);
  soon("the bot is told who leads", botLeads, LEADS_MS);
  assert.ok(turns.frames >= (TURNS * TURN_MS) / 20 - 5, JSON.stringify(turns));
  assert.ok(turns.right / turns.frames >= 0.95, `the active set is right in 95 % of frames: ${JSON.stringify(turns)}`);
});
