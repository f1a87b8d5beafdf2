// Small hooks: things outside Preact that change, seen from components.

import type { Room } from "@antiphon/client";
import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import type { LocalMedia } from "./media.js";

const useRender = () => useReducer((n: number) => n + 1, 0)[1] as (action?: unknown) => void;

/** Renders again whenever own devices change. */
export function useMedia(media: LocalMedia): LocalMedia {
  const render = useRender();
  useEffect(() => {
    media.addEventListener("change", render);
    return () => media.removeEventListener("change", render);
  }, [media]);
  return media;
}

/** Renders again whenever anything that is shown of the room changes. */
export function useRoom(room: Room): Room {
  const render = useRender();
  useEffect(() => {
    const events = ["state", "roster", "slots", "speakers", "dominant", "local", "limits"] as const;
    const offs = events.map(event => room.on(event, () => render()));
    render();
    return () => {
      for (const off of offs) off();
    };
  }, [room]);
  return room;
}

/** Size of an element's content box, 0 x 0 until it is known. */
export function useSize<E extends HTMLElement>(): [RefObject<E | null>, { width: number; height: number }] {
  const ref = useRef<E>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const read = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    read();
    const observer = new ResizeObserver(read);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

/** Calls `handler` with single keys pressed outside of fields, while `enabled`. */
export function useShortcuts(enabled: boolean, handler: (key: string) => boolean): void {
  const latest = useRef(handler);
  latest.current = handler;
  useEffect(() => {
    if (!enabled) return;
    const listen = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      const typing = target?.closest(
        "input:not([type=checkbox]), select, textarea, [contenteditable], dialog",
      );
      if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (latest.current(event.key.toLowerCase())) event.preventDefault();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [enabled]);
}
