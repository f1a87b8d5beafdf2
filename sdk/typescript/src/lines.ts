// The m-lines of a join offer (docs/reference/join.md): what is sent by source, what is received by slot.

import type { Source } from "./control.js";

/** How many receive slots to offer. */
export interface SlotCounts {
  /** Voices heard at the same time. */
  audio: number;
  /** Cameras seen at the same time; one more slot for the screen comes on top where this is at least 1. */
  video: number;
}

export const DEFAULT_SLOTS: SlotCounts = { audio: 3, video: 4 };

/** Camera layers, low to high. Bitrates are caps for 180p, 360p and 720p at 30 frames per second. */
const CAMERA_LAYERS: RTCRtpEncodingParameters[] = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
/** One layer for the screen: text wants pixels, not frames. */
const SCREEN_LAYERS: RTCRtpEncodingParameters[] = [{ maxBitrate: 2_500_000 }];

/** A receive position into which the server switches tracks. */
export interface Slot {
  /** The m-line; assignments name it. */
  readonly mid: string;
  readonly kind: "audio" | "video" | "screen";
  /** The same for the connection's life, whoever stands in the slot. */
  readonly track: MediaStreamTrack;
  /** `track` alone, for a media element's `srcObject`. */
  readonly stream: MediaStream;
  readonly receiver: RTCRtpReceiver;
  /** Who stands in it; undefined while it is empty. */
  readonly participant?: string | undefined;
  readonly source?: Source | undefined;
  /** RTP timestamp of the first packet of this assignment: older pictures are the predecessor's. */
  readonly rtpTime?: number | undefined;
}

/** The transceivers of one connection. */
export interface Lines {
  senders: Record<Source, RTCRtpTransceiver>;
  audioSlots: RTCRtpTransceiver[];
  videoSlots: RTCRtpTransceiver[];
  screenSlot: RTCRtpTransceiver | undefined;
}

/** Adds all lines to a fresh connection; the order here is the order in the offer, which is the mapping. */
export function addLines(pc: RTCPeerConnection, slots: SlotCounts): Lines {
  const send = (kind: "audio" | "video", sendEncodings?: RTCRtpEncodingParameters[]) =>
    pc.addTransceiver(
      kind,
      sendEncodings ? { direction: "sendonly", sendEncodings } : { direction: "sendonly" },
    );
  const receive = (kind: "audio" | "video", count: number) =>
    Array.from({ length: count }, () => pc.addTransceiver(kind, { direction: "recvonly" }));
  const senders = {
    microphone: send("audio"),
    screen_audio: send("audio"),
    camera: send("video", CAMERA_LAYERS),
    screen: send("video", SCREEN_LAYERS),
  };
  const audioSlots = receive("audio", slots.audio);
  const videoSlots = receive("video", slots.video);
  const screenSlot = slots.video > 0 ? receive("video", 1)[0] : undefined;
  return { senders, audioSlots, videoSlots, screenSlot };
}

/** The slots of negotiated lines, by mid. All empty. */
export function slotsOf(lines: Lines): Map<string, Slot> {
  const slots = new Map<string, Slot>();
  const add = (kind: Slot["kind"], transceiver: RTCRtpTransceiver) => {
    const { mid, receiver } = transceiver;
    if (mid === null) return;
    slots.set(mid, { mid, kind, receiver, track: receiver.track, stream: new MediaStream([receiver.track]) });
  };
  for (const transceiver of lines.audioSlots) add("audio", transceiver);
  for (const transceiver of lines.videoSlots) add("video", transceiver);
  if (lines.screenSlot) add("screen", lines.screenSlot);
  return slots;
}
