// The m-lines of a join offer (docs/reference/join.md): what is sent by source, what is received by slot.

import type { LayerWish, Source } from "./control.js";

/** How many receive slots to offer. */
export interface SlotCounts {
  /** Voices heard at the same time. */
  audio: number;
  /** Cameras seen at the same time; one more slot for the screen comes on top where this is at least 1. */
  video: number;
}

export const DEFAULT_SLOTS: SlotCounts = { audio: 3, video: 4 };

/** Camera layers, low to high. */
const RIDS = ["q", "h", "f"] as const;
/** What a camera is taken for until it says otherwise. */
const USUAL_CAMERA = { width: 1280, height: 720 };
/**
 * libwebrtc sends as many layers as a picture has pixels for, and leaves out the *last* ones, full size first
 * (`kSimulcastFormats` in video/config/encoder_stream_factory and simulcast.cc). A small camera gets fewer here, so
 * that its full size is always among them. A tenth less than the table is let through there, too.
 */
const MIN_PIXELS = { three: 960 * 540 * 0.9, two: 480 * 270 * 0.9 };
/** Encoders do not take less. */
const MIN_BITRATE = 30_000;
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

/** Layers for a camera's picture: each half the size of the next, the last in use is full size. */
export function cameraLayers(camera: MediaStreamTrack | null | undefined): RTCRtpEncodingParameters[] {
  const settings = camera?.getSettings?.();
  const width = settings?.width || USUAL_CAMERA.width;
  const height = settings?.height || USUAL_CAMERA.height;
  const count = width * height >= MIN_PIXELS.three ? 3 : width * height >= MIN_PIXELS.two ? 2 : 1;
  return RIDS.map((rid, i) => {
    const scaleResolutionDownBy = 2 ** Math.max(0, count - 1 - i);
    const maxBitrate = bitrateFor((width * height) / scaleResolutionDownBy ** 2);
    return { rid, scaleResolutionDownBy, maxBitrate, active: i < count };
  });
}

/** Bits per second for a picture at 30 frames per second: 150 k for 180p, 0.5 M for 360p, 1.7 M for 720p. */
function bitrateFor(pixels: number): number {
  return Math.round(150 * (pixels / (320 * 180)) ** 0.875) * 1000;
}

/**
 * Fits the layers of a line that is there already to another camera, and to what the server says is watched. An answer
 * without simulcast has left one layer, which is the lowest.
 */
export async function fitLayers(
  sender: RTCRtpSender,
  source: Source,
  track: MediaStreamTrack | null,
  wishes: readonly LayerWish[],
): Promise<void> {
  const parameters = sender.getParameters();
  const encodings = parameters.encodings ?? [];
  const layers = source === "camera" ? cameraLayers(track) : SCREEN_LAYERS;
  const simulcast = encodings.length === layers.length;
  for (const [i, encoding] of encodings.entries()) {
    const { active = true, ...layer } = layers[i] ?? {};
    if (simulcast) Object.assign(encoding, layer);
    const wish = wishes.find(w => w.layer === i);
    const wanted = wish?.active ?? true;
    encoding.active = simulcast ? active && wanted : wanted;
    const limits = [simulcast ? layer.maxBitrate : undefined, wish?.max_bitrate].filter(l => l !== undefined);
    if (limits.length > 0) encoding.maxBitrate = Math.max(MIN_BITRATE, Math.min(...limits));
    else delete encoding.maxBitrate;
  }
  if (encodings.length > 0) await sender.setParameters(parameters);
}

/** Adds all lines to a fresh connection; the order here is the order in the offer, which is the mapping. */
export function addLines(pc: RTCPeerConnection, slots: SlotCounts, camera?: MediaStreamTrack | null): Lines {
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
    camera: send("video", cameraLayers(camera)),
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
