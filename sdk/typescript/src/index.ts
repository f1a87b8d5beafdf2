// @antiphon/client: join a room of an Antiphon server from a browser.
//
//   const room = await Room.join({ room: "demo", token, name: "Ada", microphone, camera });
//   room.on("slots", slots => ...);      // who stands in which receive slot
//   room.on("roster", people => ...);    // who is here
//   await room.setMuted("microphone", true);

export type {
  Codec,
  ContentHint,
  LayerWish,
  LeaveReason,
  LimitReason,
  ParticipantInfo,
  ParticipantKind,
  Pin,
  Policy,
  Presence,
  RecordingState,
  Request,
  ServerMessage,
  SlotAssignment,
  Source,
  Speaker,
  TrackInfo,
} from "./control.js";
export { MAX_DISPLAY_NAME } from "./control.js";
export type { Draft } from "./draft.js";
export { AntiphonError, type ErrorCode } from "./error.js";
export { requestGuestToken } from "./guest.js";
export type { Slot, SlotCounts } from "./lines.js";
export type { LocalSource } from "./publisher.js";
export {
  type Closed,
  type ConnectionState,
  type JoinOptions,
  type Limits,
  type Recording,
  Room,
  type RoomEvents,
} from "./room.js";
export { trackOf } from "./roster.js";
export type { RoomStats, SentStats, SlotStats } from "./stats.js";
export type { DataMessage, PublishOptions } from "./topics.js";
