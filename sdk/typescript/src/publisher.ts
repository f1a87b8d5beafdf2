// What this client sends: a track for each source, and what the server has been told about it.

import type { ContentHint, LayerWish, Request, Source } from "./control.js";
import { fitLayers, type Lines } from "./lines.js";

export const SOURCES: readonly Source[] = ["microphone", "camera", "screen", "screen_audio"];

/** One of the client's own sources, as an interface shows it. */
export interface LocalSource {
  readonly track: MediaStreamTrack | null;
  /** Muted by the user or a moderator; a source without a track is silent anyway. */
  readonly muted: boolean;
}

interface State {
  track: MediaStreamTrack | null;
  muted: boolean;
  /** What the server says is watched of it; of other layers all is. */
  wishes: readonly LayerWish[];
  /** Changes of the layers are made one after the other. */
  fitting: Promise<void>;
  /** `muted` is undefined where the server may remember what we do not know. */
  told: { published: boolean; muted: boolean | undefined; hint?: ContentHint | undefined };
}

/** The four sources. Survives reconnects: `forget`, then `announce` each on the new connection. */
export class Publisher {
  readonly #states: Record<Source, State> = {
    microphone: emptyState(),
    camera: emptyState(),
    screen: emptyState(),
    screen_audio: emptyState(),
  };

  get(source: Source): LocalSource {
    return this.#states[source];
  }

  /** Tracks to put on the lines of a new connection. */
  get tracks(): Partial<Record<Source, MediaStreamTrack | null>> {
    return Object.fromEntries(SOURCES.map(source => [source, this.#states[source].track]));
  }

  /** Sources to be declared muted when joining. */
  get muted(): Source[] {
    return SOURCES.filter(source => this.#states[source].track && this.#states[source].muted);
  }

  setMuted(source: Source, muted: boolean): void {
    const state = this.#states[source];
    state.muted = muted;
    if (state.track) state.track.enabled = !muted;
  }

  /** Puts `track` on the source's line; `null` stops sending. Without lines it waits for the next connection. */
  async setTrack(source: Source, track: MediaStreamTrack | null, lines: Lines | undefined): Promise<void> {
    const state = this.#states[source];
    state.track = track;
    if (track) track.enabled = !state.muted;
    const sender = lines?.senders[source].sender;
    if (sender && track && source === "camera") await this.#fit(source, sender);
    await sender?.replaceTrack(track);
  }

  /** What the server says is watched of a source: nothing else is encoded. */
  async setWishes(source: Source, wishes: readonly LayerWish[], lines: Lines | undefined): Promise<void> {
    this.#states[source].wishes = wishes;
    if (lines) await this.#fit(source, lines.senders[source].sender);
  }

  #fit(source: Source, sender: RTCRtpSender): Promise<void> {
    const state = this.#states[source];
    const fit = () => fitLayers(sender, source, state.track, state.wishes);
    // A picture in the wrong size is better than none.
    state.fitting = state.fitting.then(fit).catch(error => console.warn("antiphon: layers stay:", error));
    return state.fitting;
  }

  /**
   * For a new connection: the server knows what stands in the join request, or, where it `resumes` a place, what was
   * muted there when the connection was lost.
   */
  forget(resumes: boolean): void {
    for (const source of SOURCES) {
      const state = this.#states[source];
      state.wishes = []; // A new connection begins with all of them.
      state.told = { published: false, muted: resumes ? undefined : state.track !== null && state.muted };
    }
  }

  /**
   * Requests by which the server learns the present state of `source`. Microphone and camera stay published while
   * they have no track, as muted; a screen is published exactly while it has one.
   */
  announce(source: Source): Request[] {
    const { track, muted, told } = this.#states[source];
    const isScreen = source === "screen" || source === "screen_audio";
    const requests: Request[] = [];
    const published = track !== null || (told.published && !isScreen);
    const hint = track ? hintOf(track) : published ? told.hint : undefined;
    if (published !== told.published || hint !== told.hint) {
      requests.push({ type: "publish", source, active: published, ...(hint && { hint }) });
      told.published = published;
      told.hint = hint;
    }
    const silent = muted || (track === null && !isScreen);
    if (published && silent !== told.muted) {
      requests.push({ type: "mute", source, muted: silent });
      told.muted = silent;
    }
    return requests;
  }
}

/** What the track says of itself, where it is a picture. */
function hintOf(track: MediaStreamTrack | null): ContentHint | undefined {
  const hint = track?.contentHint;
  return hint === "detail" || hint === "motion" || hint === "text" ? hint : undefined;
}

function emptyState(): State {
  return {
    track: null,
    muted: false,
    wishes: [],
    fitting: Promise.resolve(),
    told: { published: false, muted: false },
  };
}
