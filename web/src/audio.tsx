// Plays all audio slots. Browsers may want a click first; then a button asks for it.

import type { Room, Slot } from "@antiphon/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { Sound } from "./icons.js";

export function AudioOutput({ room }: { room: Room }) {
  const [blocked, setBlocked] = useState(false);
  const slots = [...room.slots.values()].filter(slot => slot.kind === "audio");
  const root = useRef<HTMLDivElement>(null);
  const unblock = async () => {
    const elements = [...(root.current?.querySelectorAll("audio") ?? [])];
    await Promise.allSettled(elements.map(element => element.play()));
    setBlocked(false);
  };
  return (
    <div ref={root}>
      {slots.map(slot => (
        <AudioSlot key={slot.track.id} slot={slot} onBlocked={() => setBlocked(true)} />
      ))}
      {blocked && (
        <div class="banner" role="alert">
          <span>The browser keeps the room silent until you say so.</span>
          <button type="button" class="banner-button" onClick={unblock}>
            <Sound size={18} /> Turn on sound
          </button>
        </div>
      )}
    </div>
  );
}

function AudioSlot({ slot, onBlocked }: { slot: Slot; onBlocked: () => void }) {
  const ref = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    element.srcObject = slot.stream;
    element.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "NotAllowedError") onBlocked();
    });
    return () => {
      element.srcObject = null;
    };
  }, [slot.stream]);
  // biome-ignore lint/a11y/useMediaCaption: live voices have no captions.
  return <audio ref={ref} data-mid={slot.mid} data-participant={slot.participant ?? ""} />;
}
