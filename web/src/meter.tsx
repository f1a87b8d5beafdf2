// How loud the microphone is now, so that one sees that it works.

import { useEffect, useRef } from "preact/hooks";

/** Below this a room is silent, above zero it clips (dBFS of the peak). */
const FLOOR_DB = -55;
/** Screen readers read the value when asked; no need for each frame. */
const ARIA_EVERY_MS = 500;

/** Draws the level of `track`; empty without one. */
export function Meter({ track }: { track: MediaStreamTrack | null }) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = ref.current;
    if (!element || !track || track.kind !== "audio") return;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    // A page without a click yet may not run audio; the first one will do.
    const resume = () => context.resume().catch(() => undefined);
    window.addEventListener("pointerdown", resume);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    let told = 0;
    let frame = requestAnimationFrame(function draw(now) {
      analyser.getFloatTimeDomainData(samples);
      const level = levelOf(samples);
      shown = level > shown ? level : shown * 0.92 + level * 0.08;
      element.style.setProperty("--level", shown.toFixed(3));
      if (now - told > ARIA_EVERY_MS) {
        told = now;
        element.setAttribute("aria-valuenow", String(Math.round(shown * 100)));
      }
      frame = requestAnimationFrame(draw);
    });
    return () => {
      cancelAnimationFrame(frame);
      window.removeEventListener("pointerdown", resume);
      context.close().catch(() => undefined);
      element.style.setProperty("--level", "0");
    };
  }, [track]);
  return (
    <div
      ref={ref}
      class="meter"
      role="meter"
      aria-label="Microphone level"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={0}
    />
  );
}

/** Level of samples from 0 (silent) to 1 (full scale). */
export function levelOf(samples: Float32Array): number {
  let peak = 0;
  for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  const db = 20 * Math.log10(peak || 1e-6);
  return Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
}
