// Messages on topics (docs/reference/data.md): their bytes, who listens here, and the data channels that carry them.

import type { Request } from "./control.js";
import { AntiphonError } from "./error.js";

const VERSION = 1;
const KIND = 5;
const HEADER_BYTES = 16;
const FLAG_LOSSY = 1;
const FLAG_ADDRESSED = 2;
/** The longest topic, in bytes of UTF-8. */
export const MAX_TOPIC_BYTES = 64;
/** The most recipients of one message. */
export const MAX_RECIPIENTS = 16;
/** The largest payload of a reliable message, in bytes. */
export const MAX_PAYLOAD_BYTES = 15 * 1024;
/** The largest payload of a lossy message, in bytes. */
export const MAX_LOSSY_PAYLOAD_BYTES = 1024;
/** Bytes that may wait in the browser's reliable channel; a `publish` beyond is refused. */
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** While so many wait in the lossy channel, newer messages are of more use than these: `publish` drops. */
const MAX_LOSSY_BUFFERED_BYTES = 16 * 1024;

/** A message on a topic, as it came. */
export interface DataMessage {
  topic: string;
  /** Number of the sender in this room (`ParticipantInfo.key`), by the server's word. */
  sender: number;
  payload: Uint8Array;
  lossy: boolean;
  /** It names its recipients. */
  addressed: boolean;
  /** Messages of its kind (lossy or not) that were lost on the way to us since the one before. */
  lostBefore: number;
}

export interface PublishOptions {
  /** Lost rather than late: for what is soon out of date, such as a pointer. At most 1,024 bytes. */
  lossy?: boolean;
  /** Numbers (`ParticipantInfo.key`) of those who get it; default: all who listen to the topic. */
  to?: readonly number[];
}

/** The bytes of a message to the server. Throws an `AntiphonError` where a limit is broken. */
export function encodeData(
  topic: string,
  payload: Uint8Array,
  options: PublishOptions = {},
): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(topic);
  const { lossy = false, to = [] } = options;
  if (name.length < 1 || name.length > MAX_TOPIC_BYTES) {
    throw new AntiphonError("bad_request", `A topic has 1 to ${MAX_TOPIC_BYTES} bytes.`);
  }
  if (to.length > MAX_RECIPIENTS) {
    throw new AntiphonError("bad_request", `A message has at most ${MAX_RECIPIENTS} recipients.`);
  }
  const limit = lossy ? MAX_LOSSY_PAYLOAD_BYTES : MAX_PAYLOAD_BYTES;
  if (payload.length > limit) {
    throw new AntiphonError("too_large", `The message has ${payload.length} bytes, more than ${limit}.`);
  }
  const topicAt = HEADER_BYTES + 4 * to.length;
  const bytes = new Uint8Array(topicAt + name.length + payload.length);
  bytes.set([VERSION, KIND, lossy ? FLAG_LOSSY : 0, name.length, to.length]);
  const view = new DataView(bytes.buffer);
  to.forEach((key, i) => {
    view.setUint32(HEADER_BYTES + 4 * i, key, true);
  });
  bytes.set(name, topicAt);
  bytes.set(payload, topicAt + name.length);
  return bytes;
}

/** Reads a message of the server; `undefined`: it is none. */
export function decodeData(bytes: Uint8Array): DataMessage | undefined {
  const [version, kind, flags = 0, topicBytes = 0] = bytes;
  const payloadAt = HEADER_BYTES + topicBytes;
  if (version !== VERSION || kind !== KIND || bytes.length < payloadAt) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    topic: new TextDecoder().decode(bytes.subarray(HEADER_BYTES, payloadAt)),
    sender: view.getUint32(8, true),
    payload: bytes.subarray(payloadAt),
    lossy: (flags & FLAG_LOSSY) !== 0,
    addressed: (flags & FLAG_ADDRESSED) !== 0,
    lostBefore: view.getUint32(12, true),
  };
}

/** What listens to which topic, and the channels of the connection at hand. */
export class Topics {
  readonly #listeners = new Map<string, Set<(message: DataMessage) => void>>();
  readonly #request: (request: Request) => void;
  #pc: RTCPeerConnection | undefined;
  #channels: { reliable?: RTCDataChannel; lossy?: RTCDataChannel } = {};

  /** `request` tells the server of a change; between connections it is not called. */
  constructor(request: (request: Request) => void) {
    this.#request = request;
  }

  /** Calls `listener` for each message of the topic (`*`: of all) until the returned function is called. */
  subscribe(topic: string, listener: (message: DataMessage) => void): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners);
    listeners.add(listener);
    if (listeners.size === 1) this.#tell();
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      this.#listeners.delete(topic);
      this.#tell();
    };
  }

  /** A connection stands: channels are opened where something listens, and the server is told. */
  enter(pc: RTCPeerConnection): void {
    this.#pc = pc;
    this.#channels = {};
    if (this.#listeners.size > 0) this.#tell();
  }

  /** The connection is gone. */
  leave(): void {
    this.#pc = undefined;
    this.#channels = {};
  }

  /** Sends a message. Resolves when it is handed to the connection; `false`: a lossy one was dropped here already. */
  async publish(topic: string, payload: Uint8Array, options: PublishOptions = {}): Promise<boolean> {
    const bytes = encodeData(topic, payload, options);
    const channel = await this.#open(options.lossy ?? false);
    const limit = options.lossy ? MAX_LOSSY_BUFFERED_BYTES : MAX_BUFFERED_BYTES;
    if (channel.bufferedAmount > limit) {
      if (options.lossy) return false;
      throw new AntiphonError("rate_limited", "Too many messages wait to be sent.");
    }
    channel.send(bytes);
    return true;
  }

  #tell(): void {
    if (!this.#pc) return;
    if (this.#listeners.size > 0) {
      this.#channel(false);
      this.#channel(true);
    }
    this.#request({ type: "topics", topics: [...this.#listeners.keys()] });
  }

  /** Made when first needed: a channel in an SCTP association that stands needs no negotiation. */
  #channel(lossy: boolean): RTCDataChannel {
    if (!this.#pc) throw new AntiphonError("closed", "There is no connection to the room at the moment.");
    const name = lossy ? "lossy" : "reliable";
    const known = this.#channels[name];
    if (known && known.readyState !== "closed") return known;
    const channel = lossy
      ? this.#pc.createDataChannel("data-lossy", { ordered: false, maxRetransmits: 0 })
      : this.#pc.createDataChannel("data", { ordered: true });
    channel.binaryType = "arraybuffer";
    channel.onmessage = event => this.#take(event.data);
    this.#channels[name] = channel;
    return channel;
  }

  async #open(lossy: boolean): Promise<RTCDataChannel> {
    const channel = this.#channel(lossy);
    if (channel.readyState === "connecting") {
      await new Promise<void>((resolve, reject) => {
        channel.addEventListener("open", () => resolve(), { once: true });
        const lost = () => reject(new AntiphonError("closed", "The connection was lost."));
        channel.addEventListener("close", lost, { once: true });
      });
    }
    if (channel.readyState !== "open") throw new AntiphonError("closed", "The connection was lost.");
    return channel;
  }

  #take(data: unknown): void {
    const message = data instanceof ArrayBuffer ? decodeData(new Uint8Array(data)) : undefined;
    if (!message) return;
    for (const topic of [message.topic, "*"]) {
      for (const listener of [...(this.#listeners.get(topic) ?? [])]) listener(message);
    }
  }
}
