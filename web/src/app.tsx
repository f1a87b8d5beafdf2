// From the pre-join page into the room and out again.

import { Room, type SlotCounts } from "@antiphon/client";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { GuestTokens, useDraft } from "./ahead.js";
import { Ended } from "./ended.js";
import { Lobby } from "./lobby.js";
import { LocalMedia } from "./media.js";
import { claimsOf, type Place } from "./place.js";
import { loadPreferences, savePreferences } from "./preferences.js";
import { RoomPage } from "./room-page.js";
import { SlotVideos } from "./slot-videos.js";
import { type Words, wordsForClosed, wordsForError } from "./words.js";

declare global {
  interface Window {
    /** For tests and debugging: the room that is joined. No stable API. */
    __antiphon?: { room: Room | undefined };
  }
}

/** A grid shows more cameras than the SDK's default. */
const VIDEO_SLOTS = 8;
/** Phones decode fewer. */
const VIDEO_SLOTS_NARROW = 4;

type Phase =
  | { at: "lobby"; joining: boolean; problem?: Words }
  | { at: "room"; room: Room }
  | { at: "ended"; words: Words };

export function App({ place }: { place: Place }) {
  const media = useMemo(() => new LocalMedia(), []);
  const videos = useMemo(() => new SlotVideos(), []);
  const [phase, setPhase] = useState<Phase>({ at: "lobby", joining: place.autojoin });
  const guests = useMemo(() => new GuestTokens(place.room), []);
  const token = async () => place.token ?? (await guests.get());

  const join = useCallback(async (name: string) => {
    setPhase({ at: "lobby", joining: true });
    savePreferences({ name });
    try {
      const room = await Room.join({
        room: place.room,
        token,
        name,
        slots: slotCounts(),
        draft: takeDraft(),
        microphone: media.microphone.track,
        camera: media.camera.track,
        muted: media.microphone.on ? [] : ["microphone"],
      });
      window.__antiphon = { room };
      room.on("closed", closed => {
        media.stop();
        videos.keep([]);
        setPhase({ at: "ended", words: wordsForClosed(closed) });
      });
      setPhase({ at: "room", room });
    } catch (error) {
      const words = wordsForError(error);
      if (words.retry) setPhase({ at: "lobby", joining: false, problem: words });
      else {
        media.stop();
        setPhase({ at: "ended", words });
      }
    }
  }, []);

  const preparing = phase.at === "lobby" && !phase.problem;
  useEffect(() => {
    if (!preparing) return;
    const opened = media.open();
    // A room that takes no guests says so when one joins.
    token().catch(() => undefined);
    if (place.autojoin && !window.__antiphon) {
      window.__antiphon = { room: undefined };
      opened.then(() => join(nameFor(place)));
    }
  }, [phase.at]);
  // After the effect above, which opens the devices.
  const takeDraft = useDraft(phase.at === "lobby" && !phase.joining, media, videos, slotCounts);

  useEffect(() => {
    const leave = () => window.__antiphon?.room?.leave();
    window.addEventListener("pagehide", leave);
    return () => window.removeEventListener("pagehide", leave);
  }, []);

  useEffect(() => {
    document.title = phase.at === "room" ? `${place.room} · in call · Antiphon` : `${place.room} · Antiphon`;
  }, [phase.at]);

  switch (phase.at) {
    case "lobby":
      return (
        <Lobby
          room={place.room}
          media={media}
          initialName={place.name ?? (loadPreferences().name || claimedName(place))}
          joining={phase.joining}
          problem={phase.problem}
          onJoin={join}
        />
      );
    case "room":
      return <RoomPage room={phase.room} media={media} videos={videos} place={place} />;
    case "ended":
      return <Ended words={phase.words} onRetry={() => setPhase({ at: "lobby", joining: false })} />;
  }
}

function slotCounts(): Partial<SlotCounts> {
  return { video: window.innerWidth < 640 ? VIDEO_SLOTS_NARROW : VIDEO_SLOTS };
}

function claimedName(place: Place): string {
  return (place.token && claimsOf(place.token).name) || "";
}

function nameFor(place: Place): string {
  return place.name ?? (loadPreferences().name || claimedName(place) || "Guest");
}
