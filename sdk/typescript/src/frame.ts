// Frame protocol v1 (docs/reference/frame-protocol.md): one binary message is one frame: a header, the speakers, the
// payload. Little endian. For bots in Node or a browser; `docs/reference/frame-vectors.json` holds the test vectors.

import type { Source } from "./control.js";

export const VERSION = 1;
/** Bytes before the speakers. */
export const HEADER_BYTES = 56;
export const SPEAKER_BYTES = 8;
/** The most speakers a frame lists. */
export const MAX_SPEAKERS = 16;

export type PixelFormat = "i420" | "nv12" | "rgb24" | "bgr24" | "rgba";
export type AudioCodec = "opus" | "pcmu" | "pcma" | "g722";
export type VideoCodec = "vp8" | "h264" | "vp9" | "av1";

/** What the payload is. */
export type Format =
  /** s16le, interleaved; `samples` per channel. */
  | { kind: "pcm"; sampleRate: number; channels: number; samples: number }
  | {
      kind: "picture";
      pixelFormat: PixelFormat;
      width: number;
      height: number;
      /** Before scaling. */
      sourceWidth: number;
      sourceHeight: number;
    }
  | { kind: "encoded_audio"; codec: AudioCodec; sampleRate: number; channels: number }
  /** Width and height are 0 before the first keyframe. */
  | { kind: "encoded_video"; codec: VideoCodec; width: number; height: number };

/** Everything of a frame but its payload. */
export interface Header {
  format: Format;
  source: Source;
  /** Number told by `stream_started`; from a bot 0. */
  stream: number;
  /** 0 for a mix, and from a bot. */
  participant: number;
  /** +1 per frame of the stream, dropped ones included. */
  sequence: number;
  /** Microseconds since the Unix epoch, on the server's clock. */
  captureUs: bigint;
  arrivalUs: bigint;
  /** Microseconds since the session's epoch. */
  mediaUs: bigint;
  captureEstimated: boolean;
  /** Frames of the stream dropped since the previous delivered one. */
  droppedBefore: number;
  silence: boolean;
  gap: boolean;
  key: boolean;
  mixed: boolean;
  /** Loudest first; level in -dBov. */
  speakers: { participant: number; level: number }[];
}

export interface Frame {
  header: Header;
  /** A view of the message's bytes, not a copy. */
  payload: Uint8Array;
}

export type FrameErrorReason =
  /** Ends at byte `at`, before its header does. */
  | { kind: "truncated"; at: number }
  | { kind: "version"; version: number }
  /** `value` at `offset` has no meaning. */
  | { kind: "value"; offset: number; value: number }
  | { kind: "payload_size"; expected: number; found: number };

/** A message that is no frame. */
export class FrameError extends Error {
  override readonly name = "FrameError";
  constructor(readonly reason: FrameErrorReason) {
    super(wordsOf(reason));
  }
}

const SOURCES: readonly Source[] = ["microphone", "camera", "screen", "screen_audio"];
const PIXELS: readonly PixelFormat[] = ["i420", "nv12", "rgb24", "bgr24", "rgba"];
const AUDIO: readonly AudioCodec[] = ["opus", "pcmu", "pcma", "g722"];
const VIDEO: readonly VideoCodec[] = ["vp8", "h264", "vp9", "av1"];
const KINDS: readonly Format["kind"][] = ["pcm", "picture", "encoded_audio", "encoded_video"];
const FLAGS = { silence: 1, gap: 2, key: 4, captureEstimated: 8, mixed: 16 } as const;

/** Splits a message into header and payload; throws a `FrameError`. */
export function parseFrame(message: Uint8Array): Frame {
  if (message.length < HEADER_BYTES) throw new FrameError({ kind: "truncated", at: message.length });
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const version = view.getUint8(0);
  if (version !== VERSION) throw new FrameError({ kind: "version", version });
  const source = pick(view, 2, SOURCES, 0);
  const format = readFormat(view);
  const count = view.getUint8(46);
  if (count > MAX_SPEAKERS) throw new FrameError({ kind: "value", offset: 46, value: count });
  const start = HEADER_BYTES + SPEAKER_BYTES * count;
  if (message.length < start) throw new FrameError({ kind: "truncated", at: message.length });
  const payload = message.subarray(start);
  const expected = payloadBytes(format);
  if (expected !== undefined && expected !== payload.length) {
    throw new FrameError({ kind: "payload_size", expected, found: payload.length });
  }
  const flags = view.getUint8(3);
  const header: Header = {
    format,
    source,
    stream: view.getUint32(4, true),
    participant: view.getUint32(8, true),
    sequence: view.getUint32(12, true),
    captureUs: view.getBigUint64(16, true),
    arrivalUs: view.getBigUint64(24, true),
    mediaUs: view.getBigUint64(32, true),
    captureEstimated: (flags & FLAGS.captureEstimated) !== 0,
    droppedBefore: view.getUint32(40, true),
    silence: (flags & FLAGS.silence) !== 0,
    gap: (flags & FLAGS.gap) !== 0,
    key: (flags & FLAGS.key) !== 0,
    mixed: (flags & FLAGS.mixed) !== 0,
    speakers: Array.from({ length: count }, (_, i) => ({
      participant: view.getUint32(HEADER_BYTES + SPEAKER_BYTES * i, true),
      level: view.getUint8(HEADER_BYTES + SPEAKER_BYTES * i + 4),
    })),
  };
  return { header, payload };
}

/** Header and payload as one message. Speakers past the limit are left out. */
export function writeFrame(header: Header, payload: Uint8Array): Uint8Array {
  const speakers = header.speakers.slice(0, MAX_SPEAKERS);
  const start = HEADER_BYTES + SPEAKER_BYTES * speakers.length;
  const message = new Uint8Array(start + payload.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, KINDS.indexOf(header.format.kind) + 1);
  view.setUint8(2, SOURCES.indexOf(header.source));
  let flags = 0;
  for (const [name, bit] of Object.entries(FLAGS)) if (header[name as keyof typeof FLAGS]) flags |= bit;
  view.setUint8(3, flags);
  view.setUint32(4, header.stream, true);
  view.setUint32(8, header.participant, true);
  view.setUint32(12, header.sequence, true);
  view.setBigUint64(16, header.captureUs, true);
  view.setBigUint64(24, header.arrivalUs, true);
  view.setBigUint64(32, header.mediaUs, true);
  view.setUint32(40, header.droppedBefore, true);
  view.setUint8(46, speakers.length);
  writeFormat(view, header.format);
  for (const [i, speaker] of speakers.entries()) {
    view.setUint32(HEADER_BYTES + SPEAKER_BYTES * i, speaker.participant, true);
    view.setUint8(HEADER_BYTES + SPEAKER_BYTES * i + 4, speaker.level);
  }
  message.set(payload, start);
  return message;
}

/** Size of the payload where the format decides it. */
export function payloadBytes(format: Format): number | undefined {
  if (format.kind === "pcm") return format.samples * format.channels * 2;
  if (format.kind !== "picture") return undefined;
  const { width, height, pixelFormat } = format;
  if (pixelFormat === "rgba") return 4 * width * height;
  if (pixelFormat === "rgb24" || pixelFormat === "bgr24") return 3 * width * height;
  return width * height + 2 * Math.ceil(width / 2) * Math.ceil(height / 2);
}

function pick<T>(view: DataView, offset: number, table: readonly T[], from: number): T {
  const value = view.getUint8(offset);
  const found = table[value - from];
  if (found === undefined) throw new FrameError({ kind: "value", offset, value });
  return found;
}

function readFormat(view: DataView): Format {
  const kind = pick(view, 1, KINDS, 1);
  const u16 = (at: number) => view.getUint16(at, true);
  switch (kind) {
    case "pcm":
      pick(view, 44, ["s16le"], 0);
      return {
        kind,
        sampleRate: view.getUint32(48, true),
        channels: pick(view, 45, [1, 2], 1),
        samples: view.getUint32(52, true),
      };
    case "picture":
      return {
        kind,
        pixelFormat: pick(view, 44, PIXELS, 0),
        width: u16(48),
        height: u16(50),
        sourceWidth: u16(52),
        sourceHeight: u16(54),
      };
    case "encoded_audio":
      return {
        kind,
        codec: pick(view, 44, AUDIO, 1),
        sampleRate: view.getUint32(48, true),
        channels: pick(view, 45, [1, 2], 1),
      };
    case "encoded_video":
      return { kind, codec: pick(view, 44, VIDEO, 1), width: u16(48), height: u16(50) };
  }
}

function writeFormat(view: DataView, format: Format): void {
  const size = (at: number, width: number, height: number) => {
    view.setUint16(at, width, true);
    view.setUint16(at + 2, height, true);
  };
  switch (format.kind) {
    case "pcm":
      view.setUint8(45, format.channels);
      view.setUint32(48, format.sampleRate, true);
      view.setUint32(52, format.samples, true);
      return;
    case "picture":
      view.setUint8(44, PIXELS.indexOf(format.pixelFormat));
      size(48, format.width, format.height);
      size(52, format.sourceWidth, format.sourceHeight);
      return;
    case "encoded_audio":
      view.setUint8(44, AUDIO.indexOf(format.codec) + 1);
      view.setUint8(45, format.channels);
      view.setUint32(48, format.sampleRate, true);
      return;
    case "encoded_video":
      view.setUint8(44, VIDEO.indexOf(format.codec) + 1);
      size(48, format.width, format.height);
      size(52, format.width, format.height);
      return;
  }
}

function wordsOf(reason: FrameErrorReason): string {
  switch (reason.kind) {
    case "truncated":
      return `frame ends at ${reason.at}, before its header does`;
    case "version":
      return `version ${reason.version} is not spoken here`;
    case "value":
      return `byte ${reason.value} at offset ${reason.offset} has no meaning`;
    case "payload_size":
      return `payload has ${reason.found} bytes, the format says ${reason.expected}`;
  }
}
