// What the room looks like, as a list of tiles: who is shown, in which order, and with which marks.

import { type ParticipantInfo, type Room, type Slot, type Source, trackOf } from "@antiphon/client";

export interface Tile {
  /** `participant/source`. */
  key: string;
  participant: string;
  source: "camera" | "screen";
  name: string;
  self: boolean;
  bot: boolean;
  /** Undefined: nothing to be seen now. */
  stream: MediaStream | undefined;
  rtpTime: number | undefined;
  /** No voice comes from here, by choice. */
  silent: boolean;
  speaking: boolean;
  dominant: boolean;
  pinned: boolean;
  reconnecting: boolean;
}

/** A participant's voice is heard now. */
export function isSpeaking(room: Room, id: string): boolean {
  return room.speakers.some(speaker => speaker.participant === id);
}

/** Nothing is to be heard of this participant: muted, or no microphone. */
export function isSilent(participant: ParticipantInfo): boolean {
  return trackOf(participant, "microphone")?.muted ?? true;
}

/** The key of what stands on the stage, if anything does: a pin, else a shared screen. */
export function stageKey(tiles: readonly Tile[]): string | undefined {
  return (tiles.find(tile => tile.pinned) ?? tiles.find(tile => tile.source === "screen" && !tile.self))?.key;
}

/** All tiles of a room: stage first, then others, those with a picture before those without, oneself last. */
export function tilesOf(room: Room, pinned: string | undefined, ownCamera: MediaStream | undefined): Tile[] {
  const tiles: Tile[] = [];
  for (const participant of room.participants.values()) {
    const self = participant.id === room.id;
    if (!self && room.screens.has(participant.id) && room.state === "connected") {
      const slot = room.slotOf(participant.id, "screen");
      // One screen is shown at a time; the server chooses which.
      if (slot) tiles.push(tileOf(room, participant, "screen", pinned, slot, undefined));
    }
    tiles.push(
      self
        ? tileOf(room, participant, "camera", pinned, undefined, ownCamera)
        : tileOf(room, participant, "camera", pinned, cameraSlot(room, participant), undefined),
    );
  }
  const onStage = stageKey(tiles);
  const rank = (tile: Tile) => (tile.key === onStage ? 0 : tile.self ? 3 : tile.stream ? 1 : 2);
  return tiles.sort((a, b) => rank(a) - rank(b));
}

function cameraSlot(room: Room, participant: ParticipantInfo): Slot | undefined {
  if (room.state !== "connected") return undefined; // The tracks of a lost connection are black.
  const track = trackOf(participant, "camera");
  return track && !track.muted ? room.slotOf(participant.id, "camera") : undefined;
}

function tileOf(
  room: Room,
  participant: ParticipantInfo,
  source: Extract<Source, "camera" | "screen">,
  pinned: string | undefined,
  slot: Slot | undefined,
  own: MediaStream | undefined,
): Tile {
  const key = `${participant.id}/${source}`;
  const self = participant.id === room.id;
  const camera = source === "camera";
  return {
    key,
    participant: participant.id,
    source,
    name: participant.name || "Guest",
    self,
    bot: participant.kind === "bot",
    stream: slot?.stream ?? own,
    rtpTime: slot?.rtpTime,
    silent: self ? room.local("microphone").muted || !room.local("microphone").track : isSilent(participant),
    speaking: camera && isSpeaking(room, participant.id),
    dominant: camera && room.dominant[0] === participant.id,
    pinned: pinned === key,
    reconnecting: participant.presence === "reconnecting",
  };
}
