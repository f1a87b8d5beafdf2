// Who is here: a snapshot, then deltas whose `seq` grows by one. A hole makes the roster stale until a new snapshot.

import type { LeaveReason, ParticipantInfo, RosterDelta, TrackInfo } from "./control.js";

/** What a delta did. `hole`: a delta is missing, ask for a snapshot. `old`: it was in the snapshot already. */
export type RosterChange =
  | { kind: "joined"; participant: ParticipantInfo }
  | { kind: "updated"; participant: ParticipantInfo }
  | { kind: "left"; participant: ParticipantInfo; reason: LeaveReason }
  | { kind: "screen_started"; participant: string }
  | { kind: "screen_stopped"; participant: string }
  | { kind: "hole" }
  | { kind: "old" };

export class Roster {
  #seq: number | undefined;
  #participants = new Map<string, ParticipantInfo>();
  #screens = new Set<string>();

  /** Everybody including oneself, in the order of joining as far as it is known. */
  get participants(): ReadonlyMap<string, ParticipantInfo> {
    return this.#participants;
  }

  /** Ids of those who share a screen, the earliest first. */
  get screens(): ReadonlySet<string> {
    return this.#screens;
  }

  /** Whether a snapshot is there and no delta is missing since. */
  get current(): boolean {
    return this.#seq !== undefined;
  }

  /** Forgets the place in the sequence, as on a new connection; people stay until the snapshot comes. */
  expectSnapshot(): void {
    this.#seq = undefined;
  }

  /** Takes a snapshot; returns what differs from before, as changes. */
  replace(seq: number, participants: readonly ParticipantInfo[]): RosterChange[] {
    const before = this.#participants;
    const screensBefore = this.#screens;
    this.#seq = seq;
    this.#participants = new Map(participants.map(p => [p.id, p]));
    this.#screens = new Set(participants.filter(p => trackOf(p, "screen")).map(p => p.id));
    const changes: RosterChange[] = [];
    for (const participant of participants) {
      changes.push({ kind: before.has(participant.id) ? "updated" : "joined", participant });
    }
    for (const [id, participant] of before) {
      if (!this.#participants.has(id)) changes.push({ kind: "left", participant, reason: "left" });
    }
    for (const id of this.#screens) {
      if (!screensBefore.has(id)) changes.push({ kind: "screen_started", participant: id });
    }
    for (const id of screensBefore) {
      if (!this.#screens.has(id)) changes.push({ kind: "screen_stopped", participant: id });
    }
    return changes;
  }

  /** Takes one delta. After a hole, deltas do nothing until `replace`. */
  apply(delta: RosterDelta): RosterChange {
    if (this.#seq === undefined) return { kind: "old" };
    if (delta.seq <= this.#seq) return { kind: "old" };
    if (delta.seq !== this.#seq + 1) {
      this.#seq = undefined;
      return { kind: "hole" };
    }
    this.#seq = delta.seq;
    switch (delta.type) {
      case "participant_joined":
      case "participant_updated": {
        const known = this.#participants.has(delta.participant.id);
        this.#participants.set(delta.participant.id, delta.participant);
        return { kind: known ? "updated" : "joined", participant: delta.participant };
      }
      case "participant_left": {
        const participant = this.#participants.get(delta.participant);
        this.#screens.delete(delta.participant);
        if (participant === undefined) return { kind: "old" };
        this.#participants.delete(delta.participant);
        return { kind: "left", participant, reason: delta.reason };
      }
      case "screen_started":
        this.#screens.add(delta.participant);
        return { kind: "screen_started", participant: delta.participant };
      case "screen_stopped":
        this.#screens.delete(delta.participant);
        return { kind: "screen_stopped", participant: delta.participant };
    }
  }
}

/** The participant's track of `source`, if it publishes one. */
export function trackOf(participant: ParticipantInfo, source: TrackInfo["source"]): TrackInfo | undefined {
  return participant.tracks.find(track => track.source === source);
}
