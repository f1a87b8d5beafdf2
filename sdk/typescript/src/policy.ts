// The policy as the interface sees it (tiles of people) turned into the policy as the server takes it (heights of slots).

import type { Policy, Source } from "./control.js";
import type { Slot } from "./lines.js";

/** Resizing a window changes tiles at every frame; this much quiet is waited for. */
const DEBOUNCE_MS = 150;
/** Heights that are asked for: those of usual layers. */
const STEPS = [180, 360, 720, 1080, 2160];
/** A picture may be drawn this much larger than it is before the next layer is asked for. */
const STRETCH = 1.2;

/** The cap for a tile of `height` device pixels. */
export function capForHeight(height: number): number {
  return STEPS.find(step => height <= step * STRETCH) ?? STEPS[STEPS.length - 1] ?? 2160;
}

/** Keeps the wanted policy, and says when the server must hear of it. */
export class PolicyWriter {
  #wanted: Policy;
  readonly #heights = new Map<string, number>();
  #slots: ReadonlyMap<string, Slot> = new Map();
  #told = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    policy: Policy,
    readonly send: (policy: Policy) => void,
  ) {
    this.#wanted = policy;
  }

  /** The policy for the server now. */
  get current(): Policy {
    const heights: Record<string, number> = {};
    for (const slot of this.#slots.values()) {
      const height = slot.participant && this.#heights.get(`${slot.participant}/${slot.source}`);
      if (height) heights[slot.mid] = capForHeight(height);
    }
    return Object.keys(heights).length > 0
      ? { ...this.#wanted, slot_heights: { ...this.#wanted.slot_heights, ...heights } }
      : this.#wanted;
  }

  /** Changes fields of the policy; `undefined` takes one out. Sent at once. */
  update(change: { [K in keyof Policy]?: Policy[K] | undefined }): void {
    const next: Record<string, unknown> = { ...this.#wanted, ...change };
    for (const key of Object.keys(next)) if (next[key] === undefined) delete next[key];
    this.#wanted = next as Policy;
    this.flush();
  }

  /** Height of a tile in device pixels; `undefined` when the tile is gone. */
  setTileHeight(participant: string, source: Source, height: number | undefined): void {
    const key = `${participant}/${source}`;
    if (height === undefined) this.#heights.delete(key);
    else this.#heights.set(key, height);
    this.#schedule();
  }

  /** Other people stand in the slots. */
  setSlots(slots: ReadonlyMap<string, Slot>): void {
    this.#slots = slots;
    this.#schedule();
  }

  /** The server has heard `policy` by other means (the join request). */
  setTold(policy: Policy): void {
    this.#told = JSON.stringify(policy);
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.flush(), DEBOUNCE_MS);
  }

  /** Sends now what is waiting. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const policy = this.current;
    const text = JSON.stringify(policy);
    if (text === this.#told) return;
    this.#told = text;
    this.send(policy);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
