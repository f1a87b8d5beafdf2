// A connection whose offer is made: lines, control channel, local description. Making it takes a browser 50 to 100 ms,
// which need not stand between a person's click and the room.

import { addLines, type Lines, type SlotCounts } from "./lines.js";

/** The offer names ports on the networks of its moment; past this it is made anew. */
export const DRAFT_MS = 60_000;

export class Draft {
  readonly pc: RTCPeerConnection;
  readonly lines: Lines;
  readonly channel: RTCDataChannel;
  readonly slots: SlotCounts;
  /** What the camera's layers were made for. */
  readonly camera: MediaStreamTrack | null;
  /** Settles once the local description is set. */
  readonly offered: Promise<void>;
  readonly #madeAt = Date.now();

  constructor(slots: SlotCounts, camera: MediaStreamTrack | null) {
    this.slots = slots;
    this.camera = camera;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.lines = addLines(this.pc, slots, camera);
    this.channel = this.pc.createDataChannel("control", { ordered: true });
    this.offered = this.pc.setLocalDescription();
    this.offered.catch(() => undefined); // Whoever joins with it is told.
  }

  /** Whether one may join with it for so many slots. */
  fits(slots: SlotCounts): boolean {
    const { audio, video } = this.slots;
    const young = Date.now() - this.#madeAt < DRAFT_MS;
    return young && this.pc.signalingState !== "closed" && audio === slots.audio && video === slots.video;
  }

  close(): void {
    this.pc.close();
  }
}
