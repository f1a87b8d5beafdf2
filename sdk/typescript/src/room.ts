// A room as a browser is in it. One connection at a time; a lost one is resumed in the same place for 30 seconds.

import { backoffMs } from "./backoff.js";
import type {
  ContentHint,
  LayerWish,
  LeaveReason,
  LimitReason,
  ParticipantInfo,
  Policy,
  RecordingState,
  Request,
  ServerMessage,
  SlotAssignment,
  Source,
  Speaker,
} from "./control.js";
import { Draft } from "./draft.js";
import { Emitter } from "./emitter.js";
import { AntiphonError, type ErrorCode } from "./error.js";
import { DEFAULT_SLOTS, type Slot, type SlotCounts } from "./lines.js";
import { Link } from "./link.js";
import { PolicyWriter } from "./policy.js";
import { type LocalSource, Publisher, SOURCES } from "./publisher.js";
import { Requests } from "./requests.js";
import { Roster, type RosterChange } from "./roster.js";
import { type RoomStats, readStats } from "./stats.js";
import { type DataMessage, type PublishOptions, Topics } from "./topics.js";

/** From the POST to the first roster: ICE and DTLS take a second on a bad network; more means that UDP is blocked. */
const CONNECT_TIMEOUT_MS = 12_000;
/** As long as the server keeps a lost connection's place. */
export const GIVE_UP_MS = 30_000;

export type ConnectionState = "joining" | "connected" | "reconnecting" | "closed";

export interface JoinOptions {
  /** Origin of the server; default: where the page came from. */
  url?: string;
  room: string;
  /** A JWT for the room, or what gets a fresh one (asked again at each reconnect). */
  token: string | (() => Promise<string>);
  /** Shown to others; default: the token's. */
  name?: string;
  slots?: Partial<SlotCounts>;
  policy?: Policy;
  microphone?: MediaStreamTrack | null;
  camera?: MediaStreamTrack | null;
  /** Muted from the first packet on. */
  muted?: Source[];
  /** From `draft` with the same `slots`; joining takes it over. Without one, or with an old one, a new one is made. */
  draft?: Draft | undefined;
  /** Cancels joining. */
  signal?: AbortSignal;
}

/** Why a room was closed. `reason` is the server's word, or the code of the error that ended it. */
export interface Closed {
  reason: LeaveReason | ErrorCode;
  /** A sentence for a person. */
  message: string;
}

/** How many videos are served at most, and why not more. */
export interface Limits {
  lastN: number;
  reason: LimitReason;
}

/** A recording of the room. */
export interface Recording {
  id: string;
  state: Exclude<RecordingState, "stopped">;
  /** The room asks each for consent. */
  consent: boolean;
  /** What we have said to that. */
  agreed: boolean | undefined;
}

export interface RoomEvents {
  state: ConnectionState;
  /** People came, went or changed. */
  roster: ReadonlyMap<string, ParticipantInfo>;
  participantJoined: ParticipantInfo;
  participantLeft: { participant: ParticipantInfo; reason: LeaveReason };
  /** Others stand in the slots, or the slots are those of a new connection. */
  slots: ReadonlyMap<string, Slot>;
  /** Who is heard now, loudest first. */
  speakers: readonly Speaker[];
  /** Ids of those who lead the conversation; the first is the dominant speaker. */
  dominant: readonly string[];
  screenStarted: { participant: string };
  screenStopped: { participant: string };
  /** Own tracks changed, by us or by a moderator. */
  local: { source: Source };
  /** A moderator muted us. */
  muted: { source: Source; by: string };
  /** The server does not take what we send (a token that only listens, for one). */
  refused: { source: Source; error: AntiphonError };
  /** What of our own track is watched; what is not is not encoded. */
  layersWanted: { source: Source; layers: readonly LayerWish[] };
  /** Fewer videos are served than the policy wants, or (`undefined`) all of them. */
  limits: Limits | undefined;
  trackUnavailable: { participant: string; source: Source; error: AntiphonError };
  /** `count` messages that we sent on topics went to nobody. */
  dataRefused: { topic: string | undefined; count: number; error: AntiphonError };
  /**
   * The room is recorded, or is about to be, or (`undefined`) is not any more. It is to be shown. Listeners run before it is
   * acknowledged; where `consent` is set, nothing is kept of us until `consentToRecording(true)`.
   */
  recording: Recording | undefined;
  /** The server stops in `deadlineS` seconds. */
  draining: { deadlineS: number };
  closed: Closed;
}

const LEAVE_WORDS: Record<LeaveReason, string> = {
  left: "You left the room.",
  connection_lost: "The connection was lost and did not come back.",
  removed: "Someone removed you from the room.",
  replaced: "You joined this room from somewhere else.",
  draining: "The server is restarting.",
  protocol_error: "The server ended the connection because of an error.",
  room_closed: "The room has ended.",
};

/** Errors that another try does not mend. */
const FATAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "unauthenticated",
  "token_expired",
  "forbidden",
  "bad_request",
  "bad_sdp",
  "no_common_codec",
  "too_large",
]);
/** What a server may say of a resume token that it does not take; a fresh join is tried then. */
const RESUME_REFUSED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "not_found",
  "conflict",
  "bad_request",
  "forbidden",
]);

export class Room extends Emitter<RoomEvents> {
  readonly room: string;
  readonly url: string;
  #id = "";
  #name: string | undefined;
  #state: ConnectionState = "joining";
  #closed: Closed | undefined;
  #speakers: readonly Speaker[] = [];
  #dominant: readonly string[] = [];
  #limits: Limits | undefined;
  #recording: Recording | undefined;
  /** A new connection has not said yet whether it goes on. */
  #recordingUnconfirmed = false;
  #slots: Map<string, Slot> = new Map();
  #link: Link | undefined;
  #resumeToken: string | undefined;
  #wake: (() => void) | undefined;
  /** For the first connection. */
  #draft: Draft | undefined;
  readonly #token: () => Promise<string>;
  readonly #slotCounts: SlotCounts;
  readonly #roster = new Roster();
  readonly #requests = new Requests();
  readonly #publisher = new Publisher();
  readonly #policy: PolicyWriter;
  readonly #topics = new Topics(request => this.#fireAndForget(request));

  /** Joins; resolves once the people are known, rejects with an `AntiphonError`. */
  static async join(options: JoinOptions): Promise<Room> {
    const room = new Room(options);
    try {
      for (const source of options.muted ?? []) room.#publisher.setMuted(source, true);
      await room.#publisher.setTrack("microphone", options.microphone ?? null, undefined);
      await room.#publisher.setTrack("camera", options.camera ?? null, undefined);
      await room.#connect(options.signal);
    } catch (error) {
      room.#close({ reason: codeOf(error), message: messageOf(error) });
      throw error;
    }
    return room;
  }

  /**
   * Makes the offer ahead, for `JoinOptions.draft`: joining is faster by what that takes. With the slots and the camera
   * that are going to be used; good for a minute. `close` what is not used.
   */
  static draft(options: { slots?: Partial<SlotCounts>; camera?: MediaStreamTrack | null } = {}): Draft {
    return new Draft({ ...DEFAULT_SLOTS, ...options.slots }, options.camera ?? null);
  }

  private constructor(options: JoinOptions) {
    super();
    const { token } = options;
    this.url = options.url ?? globalThis.location?.origin ?? "";
    this.room = options.room;
    this.#name = options.name;
    this.#token = typeof token === "string" ? async () => token : token;
    this.#slotCounts = { ...DEFAULT_SLOTS, ...options.slots };
    this.#draft = options.draft;
    this.#policy = new PolicyWriter(options.policy ?? {}, policy => {
      if (this.#state === "connected") this.#fireAndForget({ type: "policy", policy });
    });
  }

  /** Own id; the same after a resume. */
  get id(): string {
    return this.#id;
  }
  get state(): ConnectionState {
    return this.#state;
  }
  /** Why the room was closed, once it is. */
  get closed(): Closed | undefined {
    return this.#closed;
  }
  /** Everybody including oneself, by id. */
  get participants(): ReadonlyMap<string, ParticipantInfo> {
    return this.#roster.participants;
  }
  /** Ids of those who share a screen. */
  get screens(): ReadonlySet<string> {
    return this.#roster.screens;
  }
  get speakers(): readonly Speaker[] {
    return this.#speakers;
  }
  get dominant(): readonly string[] {
    return this.#dominant;
  }
  /** By mid. A slot object is replaced when its assignment changes; its track is the same. */
  get slots(): ReadonlyMap<string, Slot> {
    return this.#slots;
  }
  /** How many videos are served, where that is fewer than the policy wants. */
  /** What is recorded of this room now; to be shown. */
  get recording(): Recording | undefined {
    return this.#recording;
  }

  get limits(): Limits | undefined {
    return this.#limits;
  }
  /** The peer connection, for debugging and measurements. Replaced on reconnect. */
  get peerConnection(): RTCPeerConnection | undefined {
    return this.#link?.pc;
  }

  /** The slot in which `source` of `participant` stands, if it stands in one. */
  slotOf(participant: string, source: Source): Slot | undefined {
    for (const slot of this.#slots.values()) {
      if (slot.participant === participant && slot.source === source) return slot;
    }
    return undefined;
  }

  /** One of our own sources. */
  local(source: Source): LocalSource {
    return this.#publisher.get(source);
  }

  /** Sends this track as the voice; `null` sends nothing (and says that we are muted). The track stays the caller's. */
  setMicrophone(track: MediaStreamTrack | null): Promise<void> {
    return this.#setTrack("microphone", track);
  }

  /** Sends this track as the face; `null` sends nothing. The caller stops the track to free the device. */
  setCamera(track: MediaStreamTrack | null): Promise<void> {
    return this.#setTrack("camera", track);
  }

  /**
   * Shares what `getDisplayMedia` gave, sound included; `null` ends the share. `hint`: what may not suffer where bandwidth
   * is short (`motion` for a film); default: what the track says, or `detail`.
   */
  async setScreen(stream: MediaStream | null, hint?: ContentHint): Promise<void> {
    const video = stream?.getVideoTracks()[0] ?? null;
    if (video && "contentHint" in video) video.contentHint = hint ?? (video.contentHint || "detail");
    await Promise.all([
      this.#setTrack("screen", video),
      this.#setTrack("screen_audio", stream?.getAudioTracks()[0] ?? null),
    ]);
  }

  /** Mutes or unmutes one of our sources: silence at once here, and an icon at everybody's. */
  async setMuted(source: Source, muted: boolean): Promise<void> {
    this.#publisher.setMuted(source, muted);
    this.emit("local", { source });
    await this.#announce(source);
  }

  async #setTrack(source: Source, track: MediaStreamTrack | null): Promise<void> {
    // Between connections the next one takes it along.
    await this.#publisher.setTrack(
      source,
      track,
      this.#state === "connected" ? this.#link?.lines : undefined,
    );
    this.emit("local", { source });
    await this.#announce(source);
  }

  async #announce(source: Source): Promise<void> {
    if (this.#state !== "connected") return;
    await Promise.all(this.#publisher.announce(source).map(request => this.request(request)));
  }

  /** Changes fields of the policy (pins, follow, max_height, ...); `undefined` takes one out. */
  updatePolicy(change: { [K in keyof Policy]?: Policy[K] | undefined }): void {
    this.#policy.update(change);
  }

  /** Says how high a tile is, in device pixels, so that no larger layer is sent; `undefined`: the tile is gone. */
  setTileHeight(participant: string, source: Source, height: number | undefined): void {
    this.#policy.setTileHeight(participant, source, height);
  }

  /**
   * Calls `listener` for each message that others send on a topic (`*`: on any), until the returned function is called.
   * It goes on over reconnects.
   */
  subscribe(topic: string, listener: (message: DataMessage) => void): () => void {
    return this.#topics.subscribe(topic, listener);
  }

  /**
   * Sends a message to those who listen to a topic; text goes as UTF-8. `false`: it was lossy, and too many wait already.
   * Rejects with an `AntiphonError` without a connection or over a limit; what the server refuses is told by `dataRefused`.
   */
  publish(topic: string, payload: Uint8Array | string, options: PublishOptions = {}): Promise<boolean> {
    const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
    return this.#topics.publish(topic, bytes, options);
  }

  async rename(name: string): Promise<void> {
    await this.request({ type: "rename", name });
    this.#name = name;
  }

  /** Any request of the control channel. Rejects with an `AntiphonError`. */
  request(request: Request): Promise<void> {
    const link = this.#link;
    if (!link?.open) {
      return Promise.reject(new AntiphonError("closed", "There is no connection to the room at the moment."));
    }
    return this.#requests.call(request, text => link.send(text));
  }

  /** For requests whose failure nobody waits for: a lost connection says it all again when it is back. */
  #fireAndForget(request: Request): void {
    this.request(request).catch((error: unknown) => {
      if (codeOf(error) !== "closed") console.warn(`antiphon: ${request.type} failed:`, error);
    });
  }

  /** Leaves. Works while a page is being closed. */
  leave(): void {
    if (this.#state === "closed") return;
    this.#close({ reason: "left", message: LEAVE_WORDS.left }, true);
  }

  /** Numbers of the connection now; `undefined` without one. */
  async getStats(): Promise<RoomStats | undefined> {
    const link = this.#link;
    return link && readStats(await link.pc.getStats(), this.#slots);
  }

  /** The draft that was given, if it still will do, or a new one. */
  #takeDraft(): Draft {
    const given = this.#draft;
    this.#draft = undefined;
    if (given?.fits(this.#slotCounts)) return given;
    given?.close();
    return new Draft(this.#slotCounts, this.#publisher.get("camera").track);
  }

  async #connect(signal?: AbortSignal): Promise<void> {
    // The offer is made while the token comes.
    const draft = this.#takeDraft();
    let token: string;
    try {
      token = await this.#token();
      if (this.#state === "closed") throw new AntiphonError("closed", LEAVE_WORDS.left);
    } catch (error) {
      draft.close();
      throw asAntiphonError(error);
    }
    const policy = this.#policy.current;
    const ready = deferred();
    this.#roster.expectSnapshot();
    this.#publisher.forget(this.#resumeToken !== undefined);
    const link = new Link(draft, {
      url: this.url,
      room: this.room,
      token,
      name: this.#name,
      policy,
      muted: this.#publisher.muted,
      tracks: this.#publisher.tracks,
      resume: this.#resumeToken,
      onMessage: message => {
        this.#take(message);
        if (message.type === "roster") ready.resolve();
        if (message.type === "closed") ready.reject(new AntiphonError("closed", LEAVE_WORDS[message.reason]));
      },
      onLost: why => {
        ready.reject(new AntiphonError("connection_failed", `No connection: ${why}.`));
        if (this.#link === link && this.#state === "connected") this.#reconnect();
      },
    });
    ready.promise.catch(() => undefined); // It may fail before anybody waits for it.
    this.#link = link;
    const timer = setTimeout(() => {
      const blocked = "The server answered, but no media came through. A firewall may block UDP.";
      ready.reject(new AntiphonError("connection_failed", blocked));
    }, CONNECT_TIMEOUT_MS);
    const abort = () => ready.reject(new AntiphonError("closed", "Joining was cancelled."));
    signal?.addEventListener("abort", abort);
    try {
      const answer = await link.negotiate(signal);
      this.#id = answer.participant ?? this.#id;
      this.#resumeToken = answer.resumeToken ?? this.#resumeToken;
      this.#slots = link.slots;
      this.#policy.setTold(policy);
      await ready.promise;
    } catch (error) {
      link.close(link.resource !== undefined && this.#state === "joining");
      throw asAntiphonError(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
    this.#enter();
  }

  #enter(): void {
    this.#setState("connected");
    this.emit("slots", this.#slots);
    for (const source of SOURCES) {
      this.#bring(source).catch((error: unknown) => {
        this.emit("refused", { source, error: asAntiphonError(error) });
      });
    }
    this.#policy.setSlots(this.#slots);
    this.#policy.flush();
    if (this.#link) this.#topics.enter(this.#link.pc);
  }

  /** Sends what was set while the connection was being made, and says what is sent. */
  async #bring(source: Source): Promise<void> {
    const { track } = this.#publisher.get(source);
    const lines = this.#link?.lines;
    if (lines && lines.senders[source].sender.track !== track) {
      await this.#publisher.setTrack(source, track, lines);
    }
    await this.#announce(source);
  }

  async #reconnect(): Promise<void> {
    this.#requests.abandon("The connection was lost.");
    this.#topics.leave();
    this.#setSpeakers([]);
    this.#setLimits(undefined, undefined);
    this.#setState("reconnecting");
    const giveUpAt = Date.now() + GIVE_UP_MS;
    for (let attempt = 0; ; attempt++) {
      const delay = backoffMs(attempt);
      if (Date.now() + delay > giveUpAt) break;
      await this.#pause(delay);
      if (this.#state !== "reconnecting") return;
      try {
        await this.#connect();
        return;
      } catch (error) {
        if (this.#state !== "reconnecting") return;
        const code = codeOf(error);
        if (this.#resumeToken && RESUME_REFUSED.has(code)) {
          this.#resumeToken = undefined;
        } else if (FATAL.has(code)) {
          this.#close({ reason: code, message: messageOf(error) });
          return;
        }
      }
    }
    this.#close({ reason: "connection_lost", message: LEAVE_WORDS.connection_lost });
  }

  /** Waits, or less when the machine says that its network is back. */
  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      globalThis.addEventListener?.("online", done);
      this.#wake = done;
    });
  }

  #take(message: ServerMessage): void {
    switch (message.type) {
      case "welcome":
        this.#id = message.participant;
        this.#resumeToken = message.resume_token;
        this.#recordingUnconfirmed = true;
        return;
      case "roster":
        for (const change of this.#roster.replace(message.seq, message.participants)) this.#tell(change);
        this.emit("roster", this.participants);
        return;
      case "participant_joined":
      case "participant_updated":
      case "participant_left":
      case "screen_started":
      case "screen_stopped": {
        const change = this.#roster.apply(message);
        if (change.kind === "hole") this.#fireAndForget({ type: "sync" });
        this.#tell(change);
        if (change.kind !== "old") this.emit("roster", this.participants);
        return;
      }
      case "slots":
        // In a snapshot they stand behind the recording.
        this.#confirmRecording();
        this.#assign(message.slots);
        return;
      case "speakers":
        this.#setSpeakers(message.speakers);
        return;
      case "dominant":
        this.#dominant = message.participants;
        this.emit("dominant", this.#dominant);
        return;
      case "track_unavailable": {
        const { participant, source, error } = message;
        this.emit("trackUnavailable", {
          participant,
          source,
          error: new AntiphonError(error.code, error.message),
        });
        return;
      }
      case "layers":
        // It has spoken for itself where it failed.
        this.#publisher.setWishes(message.source, message.layers, this.#link?.lines).catch(() => undefined);
        this.emit("layersWanted", { source: message.source, layers: message.layers });
        return;
      case "limits":
        this.#setLimits(message.last_n, message.reason);
        return;
      case "muted":
        this.#publisher.setMuted(message.source, true);
        this.#publisher.announce(message.source); // The server knows it already.
        this.emit("local", { source: message.source });
        this.emit("muted", { source: message.source, by: message.by });
        return;
      case "data_refused": {
        const { topic, count, error } = message;
        this.emit("dataRefused", { topic, count, error: new AntiphonError(error.code, error.message) });
        return;
      }
      case "recording":
        this.#setRecording(message.recording, message.state, message.consent);
        return;
      case "draining":
        this.emit("draining", { deadlineS: message.deadline_s });
        return;
      case "closed":
        this.#end(message.reason);
        return;
      case "reply":
        this.#requests.reply(message.id, message.error);
        return;
    }
  }

  #setRecording(id: string, state: RecordingState, consent: boolean): void {
    const before = this.#recording?.id === id ? this.#recording : undefined;
    const anew = this.#recordingUnconfirmed || !before;
    this.#recordingUnconfirmed = false;
    if (state === "stopped") {
      // Another one may have been announced meanwhile.
      if (this.#recording && !before) return;
      this.#recording = undefined;
    } else {
      this.#recording = { id, state, consent: consent === true, agreed: before?.agreed };
    }
    this.emit("recording", this.#recording);
    const now = this.#recording;
    if (!now || !anew) return;
    // Shown by now, to whoever shows it. Consent is for a person to give; what was said stands over a new connection.
    if (!now.consent) this.#fireAndForget({ type: "acknowledge_recording", recording: id });
    else if (now.agreed !== undefined)
      this.#fireAndForget({ type: "acknowledge_recording", recording: id, consent: now.agreed });
  }

  /** The snapshot of a new connection says nothing of a recording: there is none any more. */
  #confirmRecording(): void {
    if (!this.#recordingUnconfirmed) return;
    this.#recordingUnconfirmed = false;
    if (!this.#recording) return;
    this.#recording = undefined;
    this.emit("recording", undefined);
  }

  /**
   * Says whether we agree to being recorded, where the room asks (`recording.consent`). It can be changed at any time.
   * Rejects where nothing is being recorded.
   */
  async consentToRecording(agreed: boolean): Promise<void> {
    const recording = this.#recording;
    if (!recording) throw new AntiphonError("not_found", "Nothing is being recorded now.");
    await this.request({ type: "acknowledge_recording", recording: recording.id, consent: agreed });
    if (this.#recording?.id !== recording.id) return;
    this.#recording = { ...this.#recording, agreed };
    this.emit("recording", this.#recording);
  }

  #end(reason: LeaveReason): void {
    if (this.#state !== "connected") return;
    if (reason !== "draining") {
      this.#close({ reason, message: LEAVE_WORDS[reason] });
      return;
    }
    // Another node, or this one once it is back, takes us; our place here is gone.
    this.#resumeToken = undefined;
    this.#link?.close(false);
    this.#reconnect();
  }

  #tell(change: RosterChange): void {
    switch (change.kind) {
      case "joined":
        this.emit("participantJoined", change.participant);
        return;
      case "left":
        this.emit("participantLeft", { participant: change.participant, reason: change.reason });
        return;
      case "screen_started":
        this.emit("screenStarted", { participant: change.participant });
        return;
      case "screen_stopped":
        this.emit("screenStopped", { participant: change.participant });
        return;
      default:
        return;
    }
  }

  #assign(assignments: readonly SlotAssignment[]): void {
    const link = this.#link;
    if (!link) return;
    const slots = new Map(link.slots);
    for (const { mid, participant, source, rtp_time } of assignments) {
      const slot = slots.get(mid);
      if (slot) slots.set(mid, { ...slot, participant, source, rtpTime: rtp_time });
    }
    link.slots = slots;
    this.#slots = slots;
    this.#policy.setSlots(slots);
    this.emit("slots", slots);
  }

  #setSpeakers(speakers: readonly Speaker[]): void {
    this.#speakers = speakers;
    this.emit("speakers", speakers);
  }

  #setLimits(lastN: number | undefined, reason: LimitReason | undefined): void {
    const limits = lastN !== undefined && reason !== undefined ? { lastN, reason } : undefined;
    if (limits === undefined && this.#limits === undefined) return;
    this.#limits = limits;
    this.emit("limits", limits);
  }

  #setState(state: ConnectionState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit("state", state);
  }

  #close(closed: Closed, leave = false): void {
    if (this.#state === "closed") return;
    this.#closed = closed;
    this.#setState("closed");
    this.#wake?.();
    this.#policy.stop();
    this.#requests.abandon("The room was left.");
    this.#topics.leave();
    this.#link?.close(leave);
    this.#link = undefined;
    this.emit("closed", closed);
  }
}

/** A promise settled from outside. (`Promise.withResolvers` is younger than Node 20.) */
function deferred(): { promise: Promise<void>; resolve: () => void; reject: (error: AntiphonError) => void } {
  let resolve: () => void = () => undefined;
  let reject: (error: AntiphonError) => void = () => undefined;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

function asAntiphonError(error: unknown): AntiphonError {
  if (error instanceof AntiphonError) return error;
  return new AntiphonError("connection_failed", error instanceof Error ? error.message : String(error));
}

function codeOf(error: unknown): ErrorCode {
  return asAntiphonError(error).code;
}

function messageOf(error: unknown): string {
  return asAntiphonError(error).message;
}
