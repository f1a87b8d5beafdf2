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
  let hash = 0;
  for (const character of text) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return hash;
}

export function Avatar({ name, id, bot = false }: { name: string; id: string; bot?: boolean }) {
  return (
    <span class="avatar" style={{ "--hue": hueOf(id) }} aria-hidden="true">
      {bot ? <Bot size={26} /> : initialsOf(name)}
    </span>
  );
}
