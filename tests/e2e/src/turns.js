// People who take turns to speak, by the wall clock: whoever knows the schedule knows who ought to be heard.

/** @typedef {{begin: number, turnMs: number, turns: number}} Schedule `begin` in ms since the Unix epoch. */

/** Makes a page's fake voice sound in its turns only: those whose number is `which` modulo `of`. */
export function takeTurns(person, schedule, which, of) {
  return person.evaluate(
    ([{ begin, turnMs, turns }, mine, all]) => {
      const { gain } = window.__voice;
      const { context } = gain;
      const now = performance.timeOrigin + performance.now();
      const at = wall => context.currentTime + (wall - now) / 1000;
      gain.gain.value = 0;
      for (let n = mine; n < turns; n += all) {
        gain.gain.setValueAtTime(window.__fake.amplitude, at(begin + n * turnMs));
        gain.gain.setValueAtTime(0, at(begin + (n + 1) * turnMs));
      }
    },
    [schedule, which, of],
  );
}

/** Makes a page write down, with the wall clock, what it is told of speakers and what it shows of them. */
export function watchSpeakers(person) {
  return person.evaluate(() => {
    const log = [];
    window.__spoken = log;
    const note = (what, ids) => log.push({ at: performance.timeOrigin + performance.now(), what, ids });
    const { room } = window.__antiphon;
    room.on("speakers", speakers => note("speakers", speakers.map(s => s.participant)));
    room.on("dominant", ids => note("dominant", ids.slice(0, 1)));
    const marked = attribute =>
      [...document.querySelectorAll(`[data-testid=tile][${attribute}=true]`)].map(t => t.dataset.participant);
    const marks = new MutationObserver(() => {
      note("speaking-mark", marked("data-speaking"));
      note("dominant-mark", marked("data-dominant"));
    });
    const attributeFilter = ["data-speaking", "data-dominant"];
    marks.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter });
  });
}

/**
 * How long after the beginning of each turn (ms) `what` names its speaker, `alone` or not; undefined where it does not
 * within the turn. `speakers` are ids in the order of their turns.
 */
export async function delays(person, schedule, what, speakers, { alone = false } = {}) {
  const log = (await person.evaluate(() => window.__spoken)).filter(entry => entry.what === what);
  return Array.from({ length: schedule.turns }, (_, n) => {
    const begin = schedule.begin + n * schedule.turnMs;
    const wanted = speakers[n % speakers.length];
    const right = ids => ids.includes(wanted) && (!alone || ids.length === 1);
    const first = log.find(({ at, ids }) => at >= begin && at < begin + schedule.turnMs && right(ids));
    return first && Math.round(first.at - begin);
  });
}
