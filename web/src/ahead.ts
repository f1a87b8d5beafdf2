// What is made ready while somebody stands on the pre-join page, so that the click finds it there: the offer, the videos
// of its slots and, for guests, the token.

import { type Draft, Room, requestGuestToken, type SlotCounts } from "@antiphon/client";
import { useEffect, useRef } from "preact/hooks";
import { useMedia } from "./hooks.js";
import type { LocalMedia } from "./media.js";
import { claimsOf } from "./place.js";
import type { SlotVideos } from "./slot-videos.js";

/** The SDK takes a draft of up to a minute. */
const RENEW_MS = 45_000;
/** A guest token this close to its end is replaced before it is used again. */
const TOKEN_MARGIN_S = 60;

/** Keeps a draft while `active`, once the devices are open; gives what takes it out. */
export function useDraft(
  active: boolean,
  media: LocalMedia,
  videos: SlotVideos,
  slots: () => Partial<SlotCounts>,
) {
  const draft = useRef<Draft | undefined>(undefined);
  useMedia(media);
  const { microphone, camera } = media;
  const opening = microphone.opening || camera.opening;
  useEffect(() => {
    // Not the values of the render: the devices may have begun to open since.
    if (!active || media.microphone.opening || media.camera.opening) return;
    const make = () => {
      draft.current?.close();
      draft.current = Room.draft({ slots: slots(), camera: media.camera.track });
      videos.keep(draft.current.pc.getReceivers().map(receiver => receiver.track));
    };
    make();
    const timer = setInterval(() => document.visibilityState === "visible" && make(), RENEW_MS);
    return () => {
      clearInterval(timer);
      draft.current?.close();
      draft.current = undefined;
    };
  }, [active, opening, camera.track]);
  return () => {
    const taken = draft.current;
    draft.current = undefined;
    return taken;
  };
}

/** Guest tokens of one room, asked for when they are needed or ahead of it. */
export class GuestTokens {
  #token: Promise<string> | undefined;
  readonly #room: string;

  constructor(room: string) {
    this.#room = room;
  }

  /** One that is good for a while. */
  async get(): Promise<string> {
    this.#token ??= requestGuestToken(location.origin, this.#room);
    try {
      const token = await this.#token;
      if ((claimsOf(token).exp ?? 0) > Date.now() / 1000 + TOKEN_MARGIN_S) return token;
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
    this.#token = requestGuestToken(location.origin, this.#room);
    return this.#token;
  }
}
