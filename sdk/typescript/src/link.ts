// One peer connection to the server: one offer by HTTP, one answer, one control channel. A link is never renegotiated;
// where its way is interrupted another one is looked for (ICE restart), and a lost one is replaced by another with the
// resume token.

import { type Policy, parseServerMessage, type ServerMessage, type Source } from "./control.js";
import type { Draft } from "./draft.js";
import { AntiphonError, errorOf } from "./error.js";
import { canRelay, iceServersOf } from "./ice-servers.js";
import { fitLayers, type Lines, type Slot, slotsOf } from "./lines.js";
import { restartIce } from "./restart.js";

/** ICE says `disconnected` for passing trouble; past this it is taken as lost. */
export const DISCONNECT_GRACE_MS = 3_000;
/** How long an ICE restart may take: a request, and checks on the new way. */
const RESTART_TIMEOUT_MS = 5_000;
/**
 * How long the direct ways have before one through a TURN server is looked for, too. UDP needs one round trip, TCP two; who
 * gets through directly pays neither a request nor an allocation.
 */
export const RELAY_AFTER_MS = 1_000;
/** An answer by HTTP takes tens of milliseconds; a server that takes this long is not there. */
const POST_TIMEOUT_MS = 10_000;

/** What a link is opened with. */
export interface LinkOptions {
  /** Origin of the server, e.g. `https://meet.example.org`. */
  url: string;
  room: string;
  token: string;
  name: string | undefined;
  policy: Policy;
  muted: Source[];
  tracks: Partial<Record<Source, MediaStreamTrack | null>>;
  resume: string | undefined;
  onMessage(message: ServerMessage): void;
  /** The connection is gone, once, not after `close`. */
  onLost(why: string): void;
}

export class Link {
  readonly pc: RTCPeerConnection;
  readonly lines: Lines;
  slots = new Map<string, Slot>();
  /** The participant's resource, absolute. */
  resource: string | undefined;
  readonly #draft: Draft;
  readonly #channel: RTCDataChannel;
  readonly #options: LinkOptions;
  #grace: ReturnType<typeof setTimeout> | undefined;
  /** Runs where there is a TURN server, until there is a way or it is tried. */
  #relay: ReturnType<typeof setTimeout> | undefined;
  #over = false;
  #restarting: AbortController | undefined;

  /** Takes the draft over. */
  constructor(draft: Draft, options: LinkOptions) {
    this.#options = options;
    this.#draft = draft;
    this.pc = draft.pc;
    this.lines = draft.lines;
    this.#channel = draft.channel;
    this.#channel.onmessage = event => this.#receive(event.data);
    this.#channel.onclose = () => this.#lose("the control channel closed");
    this.pc.onconnectionstatechange = () => this.#watch(this.pc.connectionState);
    this.pc.oniceconnectionstatechange = () => this.#watch(this.pc.iceConnectionState);
    // Another network: do not wait until the silence of the old one is noticed.
    globalThis.addEventListener?.("online", this.#online);
  }

  #online = (): void => {
    if (this.pc.connectionState !== "new") this.#restart();
  };

  /**
   * Posts the offer and applies the answer; resolves before media flows. No waiting for candidates: the server is
   * ICE-lite and learns ours from the checks.
   */
  async negotiate(signal?: AbortSignal): Promise<{ participant: string | null; resumeToken: string | null }> {
    await Promise.all([this.#draft.offered, this.#putTracks()]);
    this.slots = slotsOf(this.lines);
    const response = await this.#post(this.pc.localDescription?.sdp ?? "", signal);
    const location = response.headers.get("Location");
    if (location) this.resource = new URL(location, this.#options.url).href;
    const sdp = await response.text();
    if (!this.#over && this.#takeIceServers(response.headers.get("Link"))) {
      // Before the answer is taken: a browser may find during that already that nothing else leads there.
      this.#relay = setTimeout(() => this.#tryRelay(), RELAY_AFTER_MS);
    }
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    return {
      participant: response.headers.get("Antiphon-Participant"),
      resumeToken: response.headers.get("Antiphon-Resume"),
    };
  }

  /**
   * Whether there is a way through them. The offer is made by then, and browsers ask new servers at the next gathering only
   * (RFC 8829, 4.1.18), that is, at an ICE restart.
   */
  #takeIceServers(link: string | null): boolean {
    const iceServers = iceServersOf(link);
    if (iceServers.length === 0) return false;
    try {
      this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    } catch (error) {
      console.warn("antiphon: the browser does not take the ICE servers:", error);
      return false;
    }
    return canRelay(iceServers);
  }

  async #putTracks(): Promise<void> {
    const { tracks } = this.#options;
    if (tracks.camera && tracks.camera !== this.#draft.camera) {
      // A picture in the wrong size is better than none.
      const { sender } = this.lines.senders.camera;
      await fitLayers(sender, "camera", tracks.camera, []).catch(e =>
        console.warn("antiphon: layers stay:", e),
      );
    }
    const put = ([source, track]: [string, MediaStreamTrack | null]) =>
      track && this.lines.senders[source as Source].sender.replaceTrack(track);
    await Promise.all(Object.entries(tracks).map(put));
  }

  async #post(offer: string, signal?: AbortSignal): Promise<Response> {
    const { url, room, token, name, policy, muted, resume } = this.#options;
    const headers: Record<string, string> = {
      Authorization: `Bearer ${token}`,
      "Content-Type": "application/sdp",
      Accept: "application/sdp, application/json",
      "Antiphon-Policy": JSON.stringify(policy),
    };
    if (name) headers["Antiphon-Name"] = encodeURIComponent(name.replace(/\p{Surrogate}/gu, "\ufffd"));
    if (muted.length > 0) headers["Antiphon-Muted"] = muted.join(",");
    if (resume) headers["Antiphon-Resume"] = resume;
    const timeout = AbortSignal.timeout(POST_TIMEOUT_MS);
    let response: Response;
    try {
      response = await fetch(new URL(`/v1/rooms/${encodeURIComponent(room)}/participants`, url), {
        method: "POST",
        headers,
        body: offer,
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
    } catch {
      if (signal?.aborted) throw new AntiphonError("closed", "Joining was cancelled.");
      throw new AntiphonError("unreachable", "The server cannot be reached.");
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  /** Whether the control channel takes messages. */
  get open(): boolean {
    return this.#channel.readyState === "open";
  }

  /** Sends one control message; throws where the channel is not open. */
  send(text: string): void {
    this.#channel.send(text);
  }

  /** Ends the connection. `leave`: also tells the server at once, over HTTP, which works while a page is closed. */
  close(leave: boolean): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#grace);
    clearTimeout(this.#relay);
    this.#restarting?.abort();
    globalThis.removeEventListener?.("online", this.#online);
    if (leave && this.resource) {
      const headers = { Authorization: `Bearer ${this.#options.token}` };
      // Gone already is as good as gone now.
      fetch(this.resource, { method: "DELETE", headers, keepalive: true }).catch(() => undefined);
    }
    this.pc.close();
  }

  #receive(data: unknown): void {
    if (this.#over || typeof data !== "string") return;
    let message: ServerMessage | undefined;
    try {
      message = parseServerMessage(data);
    } catch (error) {
      console.warn("antiphon:", error);
      return;
    }
    if (message) this.#options.onMessage(message);
  }

  #watch(state: RTCPeerConnectionState | RTCIceConnectionState): void {
    if (state === "connected" || state === "completed") {
      clearTimeout(this.#grace);
      clearTimeout(this.#relay);
      this.#grace = undefined;
      this.#relay = undefined;
    } else if (state === "failed") {
      if (this.#relay !== undefined) this.#restart();
      else if (!this.#restarting) this.#lose("the media connection failed");
    } else if (state === "disconnected") {
      this.#wait(DISCONNECT_GRACE_MS);
      this.#restart();
    }
  }

  /** Gives up after a while without connection. */
  #wait(ms: number): void {
    this.#grace ??= setTimeout(() => this.#lose("the media connection was interrupted"), ms);
  }

  #tryRelay(): void {
    this.#relay = undefined;
    if (!["connected", "completed"].includes(this.pc.iceConnectionState)) this.#restart();
  }

  /** Looks for another way; one that comes to nothing is as none. */
  #restart(): void {
    if (this.#restarting || this.#over || !this.resource) return;
    clearTimeout(this.#relay);
    this.#relay = undefined;
    const restarting = new AbortController();
    this.#restarting = restarting;
    const { token } = this.#options;
    restartIce(this.pc, this.resource, token, restarting.signal)
      .then(() => {
        if (this.#grace === undefined || this.#over) return;
        clearTimeout(this.#grace);
        this.#grace = undefined;
        this.#wait(RESTART_TIMEOUT_MS);
      })
      .catch(error => {
        if (this.#over) return;
        console.warn("antiphon: no ICE restart:", error);
        // What was not heard while it was tried.
        if (this.pc.connectionState === "failed") this.#lose("the media connection failed");
      })
      .finally(() => {
        this.#restarting = undefined;
      });
  }

  #lose(why: string): void {
    if (this.#over) return;
    this.close(false);
    this.#options.onLost(why);
  }
}
