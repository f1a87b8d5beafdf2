// From the pre-join page into the room and out again.

import { Room, requestGuestToken } from "@antiphon/client";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Ended } from "./ended.js";
import { Lobby } from "./lobby.js";
import { LocalMedia } from "./media.js";
import { claimsOf, type Place } from "./place.js";
import { loadPreferences, savePreferences } from "./preferences.js";
import { RoomPage } from "./room-page.js";
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
/** A guest token this close to its end is replaced before it is used again. */
const TOKEN_MARGIN_S = 60;

type Phase =
  | { at: "lobby"; joining: boolean; problem?: Words }
  | { at: "room"; room: Room }
  | { at: "ended"; words: Words };

export function App({ place }: { place: Place }) {
  const media = useMemo(() => new LocalMedia(), []);
  const [phase, setPhase] = useState<Phase>({ at: "lobby", joining: place.autojoin });
  const guest = useRef<string | undefined>(undefined);

  const tokenFor = (name: string) => async () => {
    if (place.token) return place.token;
    const expires = guest.current ? (claimsOf(guest.current).exp ?? 0) : 0;
    if (!guest.current || expires < Date.now() / 1000 + TOKEN_MARGIN_S) {
      guest.current = await requestGuestToken(location.origin, place.room, name);
    }
    return guest.current;
  };

  const join = useCallback(async (name: string) => {
    setPhase({ at: "lobby", joining: true });
    savePreferences({ name });
    try {
      const room = await Room.join({
        room: place.room,
        token: tokenFor(name),
        name,
        slots: { video: window.innerWidth < 640 ? VIDEO_SLOTS_NARROW : VIDEO_SLOTS },
        microphone: media.microphone.track,
        camera: media.camera.track,
        muted: media.microphone.on ? [] : ["microphone"],
      });
      window.__antiphon = { room };
      room.on("closed", closed => {
        media.stop();
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
    if (place.autojoin && !window.__antiphon) {
      window.__antiphon = { room: undefined };
      opened.then(() => join(nameFor(place)));
    }
  }, [phase.at]);

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
      return <RoomPage room={phase.room} media={media} place={place} />;
    case "ended":
      return <Ended words={phase.words} onRetry={() => setPhase({ at: "lobby", joining: false })} />;
  }
}

function claimedName(place: Place): string {
  return (place.token && claimsOf(place.token).name) || "";
}

function nameFor(place: Place): string {
  return place.name ?? (loadPreferences().name || claimedName(place) || "Guest");
}
