// The <video> of each receive slot. It is there before anybody is seen in the slot and moves into the tile of whoever
// stands in it: an element made for the tile would wait for the picture after the first one.

import type { Slot } from "@antiphon/client";

interface SlotVideo {
  element: HTMLVideoElement;
  /** RTP timestamp of the latest picture presented while it was in no tile. */
  seen: number | undefined;
}

export class SlotVideos {
  /** Where elements stand that are in no tile. In the document, as browsers pause those outside it. */
  readonly parking: HTMLElement;
  readonly #videos = new Map<MediaStream, SlotVideo>();

  constructor() {
    this.parking = document.createElement("div");
    this.parking.className = "parked-videos";
    this.parking.setAttribute("aria-hidden", "true");
  }

  /** Has elements for these slots, and for no others. */
  keep(slots: Iterable<Slot>): void {
    const streams = new Set([...slots].filter(slot => slot.kind !== "audio").map(slot => slot.stream));
    for (const [stream, { element }] of this.#videos) {
      if (streams.has(stream)) continue;
      element.srcObject = null;
      element.remove();
      this.#videos.delete(stream);
    }
    for (const stream of streams) this.#of(stream);
  }

  /** Moves the element of a slot's stream to the end of `place`. */
  take(stream: MediaStream, place: HTMLElement): HTMLVideoElement {
    const { element } = this.#of(stream);
    place.append(element);
    return element;
  }

  /** Takes it out of `place`, unless it has gone on to another one. */
  park(stream: MediaStream, place: HTMLElement): void {
    const video = this.#videos.get(stream);
    if (video?.element.parentElement === place) this.#put(video);
  }

  /** RTP timestamp of the latest picture that was presented before the element came into a tile. */
  seen(stream: MediaStream): number | undefined {
    return this.#videos.get(stream)?.seen;
  }

  #of(stream: MediaStream): SlotVideo {
    let video = this.#videos.get(stream);
    if (!video) {
      const element = document.createElement("video");
      Object.assign(element, { autoplay: true, playsInline: true, muted: true, srcObject: stream });
      video = { element, seen: undefined };
      this.#videos.set(stream, video);
      this.#put(video);
    }
    return video;
  }

  #put(video: SlotVideo): void {
    const { element } = video;
    this.parking.append(element);
    const look = (_now: number, { rtpTimestamp }: VideoFrameCallbackMetadata) => {
      video.seen = rtpTimestamp;
      if (element.parentElement === this.parking) element.requestVideoFrameCallback(look);
    };
    if ("requestVideoFrameCallback" in element) element.requestVideoFrameCallback(look);
  }
}
