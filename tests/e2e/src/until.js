// Waiting on conditions, with an end.

const STEP_MS = 50;

/** Asks `look` again and again until it gives something true, and gives that; says `what` did not happen after `ms`. */
export async function until(what, look, ms = 15_000) {
  const end = performance.now() + ms;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= end) throw new Error(`not within ${ms} ms: ${what} (last: ${last})`);
    await new Promise(resolve => setTimeout(resolve, STEP_MS));
  }
}
