// Initials on a colour that stays the same for a person.

import { Bot } from "./icons.js";

/** At most two letters. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const first = [...(words[0] ?? "")][0] ?? "?";
  const last = words.length > 1 ? ([...(words[words.length - 1] ?? "")][0] ?? "") : "";
  return (first + last).toLocaleUpperCase();
}

/** A hue in degrees, from any text. */
export function hueOf(text: string): number {
  // FNV-1a and a golden-ratio step, so that ids that differ in one character differ much in colour.
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return Math.round((((hash ^ (hash >>> 15)) >>> 0) * 0.618033988749895 * 360) % 360);
}

export function Avatar({ name, id, bot = false }: { name: string; id: string; bot?: boolean }) {
  return (
    <span class="avatar" style={{ "--hue": hueOf(id) }} aria-hidden="true">
      {bot ? <Bot size={26} /> : initialsOf(name)}
    </span>
  );
}
