// The <video> of each receive slot. It is there before anybody is seen in the slot, and moves into the tile of
// whoever stands in it: browsers take a tenth of a second to begin with a new element, and it waits for the next
// picture then.

interface SlotVideo {
  element: HTMLVideoElement;
  /** RTP timestamp of the latest picture presented while it was in no tile. */
  seen: number | undefined;
}

export class SlotVideos {
  /** Where elements stand that are in no tile. In the document, as browsers pause those outside it. */
  readonly #parking: HTMLElement;
  readonly #videos = new Map<MediaStreamTrack, SlotVideo>();

  constructor() {
    this.#parking = document.createElement("div");
    this.#parking.className = "parked-videos";
    this.#parking.setAttribute("aria-hidden", "true");
    document.body.append(this.#parking);
  }

  /** Has elements for those of these slots' tracks that are video, and for no others. */
  keep(tracks: Iterable<MediaStreamTrack>): void {
    const kept = new Set([...tracks].filter(track => track.kind === "video"));
    for (const [track, { element }] of this.#videos) {
      if (kept.has(track)) continue;
      element.srcObject = null;
      element.remove();
      this.#videos.delete(track);
    }
    for (const track of kept) this.#of(track);
  }

  /** Moves the element of a slot's track to the end of `place`. */
  take(track: MediaStreamTrack, place: HTMLElement): HTMLVideoElement {
    const { element } = this.#of(track);
    place.append(element);
    return element;
  }

  /** Takes it out of `place`, unless it has gone on to another one. */
  park(track: MediaStreamTrack, place: HTMLElement): void {
    const video = this.#videos.get(track);
    if (video?.element.parentElement === place) this.#put(video);
  }

  /** RTP timestamp of the latest picture that was presented before the element came into a tile. */
  seen(track: MediaStreamTrack): number | undefined {
    return this.#videos.get(track)?.seen;
  }

  #of(track: MediaStreamTrack): SlotVideo {
    let video = this.#videos.get(track);
    if (!video) {
      const element = document.createElement("video");
      Object.assign(element, { autoplay: true, playsInline: true, muted: true });
      element.srcObject = new MediaStream([track]);
      video = { element, seen: undefined };
      this.#videos.set(track, video);
      this.#put(video);
    }
    return video;
  }

  #put(video: SlotVideo): void {
    const { element } = video;
    this.#parking.append(element);
    const look = (_now: number, { rtpTimestamp }: VideoFrameCallbackMetadata) => {
      video.seen = rtpTimestamp;
      if (element.parentElement === this.#parking) element.requestVideoFrameCallback(look);
    };
    if ("requestVideoFrameCallback" in element) element.requestVideoFrameCallback(look);
  }
}
