// The control channel's messages: a mirror of crates/wire/src/control.rs, documented in docs/reference/control.md.

import { AntiphonError, type ErrorCode, isRecord } from "./error.js";

/** The largest control message in either direction, in bytes. */
export const MAX_MESSAGE_BYTES = 65_536;
/** The longest display name, in characters. */
export const MAX_DISPLAY_NAME = 64;

/** What a track comes from. A participant publishes at most one track of each. */
export type Source = "microphone" | "camera" | "screen" | "screen_audio";
export type Codec = "opus" | "pcmu" | "pcma" | "g722" | "vp8" | "h264" | "vp9" | "av1";
/** By what a participant is connected. */
export type ParticipantKind = "web_rtc" | "whip" | "whep" | "bot";
/** Whether a participant's connection is there; a lost one keeps its place for the resume time. */
export type Presence = "connected" | "reconnecting";
export type LeaveReason =
  | "left"
  | "connection_lost"
  | "removed"
  | "replaced"
  | "draining"
  | "protocol_error"
  | "room_closed";

export interface TrackInfo {
  source: Source;
  codec: Codec;
  /** The publisher has muted it: no packets are expected. */
  muted: boolean;
  /** Simulcast layers seen, 1 without simulcast. */
  layers: number;
}

export interface ParticipantInfo {
  /** Stable over a resume. */
  id: string;
  /** Number in this room, and CSRC of its media. */
  key: number;
  name: string;
  kind: ParticipantKind;
  presence: Presence;
  /** On hold: it gets nothing of the others, and they get nothing of it. Absent: no. */
  held?: boolean;
  tracks: TrackInfo[];
}

export interface SlotAssignment {
  mid: string;
  /** Absent: the slot is empty. */
  participant?: string;
  source?: Source;
  csrc?: number;
  /** RTP timestamp in this slot of the first packet; earlier ones are the predecessor's. */
  rtp_time?: number;
}

export interface Speaker {
  participant: string;
  /** -dBov as in RFC 6464: 0 is the loudest, 127 silence. */
  level: number;
}

export interface Pin {
  participant: string;
  /** Default: `camera`. */
  source?: Source;
  max_height?: number;
}

/** What a subscriber wants in its slots; the server evaluates it. */
export interface Policy {
  /** Shown first, in this order. */
  pins?: Pin[];
  /** Who gets the rest. Default: `dominant`. */
  follow?: "dominant" | "joined" | "none";
  /** Highest layer wanted in any video slot, in pixels. */
  max_height?: number;
  /** Frames per second; temporal layers above it are not sent. */
  max_frame_rate?: number;
  /** How many camera slots to fill. */
  max_videos?: number;
  /** By mid: the height of the tile on the screen, in pixels. */
  slot_heights?: Record<string, number>;
}

/** What a picture is like, and so what may suffer where bandwidth is short: the frame rate, or (`motion`) the resolution. */
export type ContentHint = "detail" | "motion" | "text";

/** What a publisher is to send of one layer; limits that are absent are none. */
export interface LayerWish {
  /** 0 is the lowest. */
  layer: number;
  active: boolean;
  max_bitrate?: number;
  max_height?: number;
  max_frame_rate?: number;
}

/** Why fewer videos are served than were wanted. */
export type LimitReason = "server_busy" | "bandwidth";

export interface ErrorBody {
  code: ErrorCode;
  message: string;
}

export interface Welcome {
  type: "welcome";
  participant: string;
  key: number;
  room: string;
  resume_token: string;
  resume_ttl_s: number;
  server_time_us: number;
}

/** What a recording of the room is doing; nothing is kept but while it is `recording`. */
export type RecordingState = "announcing" | "recording" | "paused" | "stopped";

/** Messages that change the roster; `seq` grows by one. */
export type RosterDelta =
  | { type: "participant_joined"; seq: number; participant: ParticipantInfo }
  | { type: "participant_updated"; seq: number; participant: ParticipantInfo }
  | { type: "participant_left"; seq: number; participant: string; reason: LeaveReason }
  | { type: "screen_started"; seq: number; participant: string }
  | { type: "screen_stopped"; seq: number; participant: string };

export type ServerMessage =
  | Welcome
  | { type: "roster"; seq: number; participants: ParticipantInfo[] }
  | RosterDelta
  | { type: "slots"; slots: SlotAssignment[] }
  | { type: "speakers"; speakers: Speaker[] }
  | { type: "dominant"; participants: string[] }
  | { type: "track_unavailable"; participant: string; source: Source; error: ErrorBody }
  | { type: "layers"; source: Source; layers: LayerWish[] }
  | { type: "limits"; last_n?: number; reason?: LimitReason }
  | { type: "muted"; source: Source; by: string }
  | { type: "data_refused"; topic?: string; count: number; error: ErrorBody }
  | { type: "recording"; recording: string; state: RecordingState; consent: boolean }
  | { type: "draining"; deadline_s: number }
  | { type: "closed"; reason: LeaveReason }
  | { type: "reply"; id: number; error?: ErrorBody };

export type Request =
  | { type: "mute"; source: Source; muted: boolean }
  | { type: "publish"; source: Source; active: boolean; hint?: ContentHint }
  | { type: "policy"; policy: Policy }
  | { type: "rename"; name: string }
  | { type: "mute_other"; participant: string; source: Source }
  | { type: "remove"; participant: string }
  | { type: "acknowledge_recording"; recording: string; consent?: boolean }
  | { type: "topics"; topics: string[] }
  | { type: "sync" }
  | { type: "leave" };

/** A field that must be there for a message to be acted on, by message type. */
const REQUIRED: Record<ServerMessage["type"], readonly string[]> = {
  welcome: ["participant", "resume_token"],
  roster: ["seq", "participants"],
  participant_joined: ["seq", "participant"],
  participant_updated: ["seq", "participant"],
  participant_left: ["seq", "participant"],
  screen_started: ["seq", "participant"],
  screen_stopped: ["seq", "participant"],
  slots: ["slots"],
  speakers: ["speakers"],
  dominant: ["participants"],
  track_unavailable: ["participant", "source", "error"],
  layers: ["source", "layers"],
  limits: [],
  muted: ["source"],
  data_refused: ["error"],
  recording: ["recording", "state"],
  draining: [],
  closed: ["reason"],
  reply: ["id"],
};

/**
 * Reads one message. `undefined` for a type that this client does not know (a newer server may say more);
 * an `AntiphonError` with code `protocol` for what is no message at all.
 */
export function parseServerMessage(text: string): ServerMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new AntiphonError("protocol", "The server sent a control message that is not JSON.");
  }
  if (!isRecord(value) || typeof value.type !== "string") {
    throw new AntiphonError("protocol", "The server sent a control message without a type.");
  }
  if (!Object.hasOwn(REQUIRED, value.type)) return undefined;
  const type = value.type as ServerMessage["type"];
  const missing = REQUIRED[type].find(field => value[field] === undefined);
  if (missing !== undefined) {
    throw new AntiphonError("protocol", `The server sent a ${type} message without ${missing}.`);
  }
  return value as unknown as ServerMessage;
}
