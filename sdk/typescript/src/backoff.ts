// When to try again: exponential with full jitter below a cap, so that a restarted server is not met by all at once.

const FIRST_MS = 250;
const CAP_MS = 4_000;

/** Milliseconds to wait before attempt `attempt` (0 is the first and comes nearly at once). */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(CAP_MS, FIRST_MS * 2 ** attempt);
  return attempt === 0 ? random() * FIRST_MS : ceiling / 2 + (random() * ceiling) / 2;
}
