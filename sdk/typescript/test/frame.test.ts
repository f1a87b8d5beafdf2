import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FrameError, type Header, parseFrame, writeFrame } from "../src/frame.js";

interface Vectors {
  protocol: number;
  frames: {
    name: string;
    canonical: boolean;
    header: Record<string, unknown>;
    message: string;
    payload: string;
  }[];
  invalid: { name: string; message: string; error: unknown }[];
}
const path = new URL("../../../docs/reference/frame-vectors.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as Vectors;

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const camel = (word: string) => word.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
/** The vectors' names as this SDK spells them; 64-bit numbers stand there as text. */
function headerOf(value: unknown, key = ""): unknown {
  if (key.endsWith("Us")) return BigInt(value as string);
  if (Array.isArray(value)) return value.map(item => headerOf(item));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [camel(k), headerOf(v, camel(k))]));
}

describe("frame protocol v1", () => {
  it.each(vectors.frames.map(v => [v.name, v] as const))("reads and writes %s", (_, vector) => {
    const frame = parseFrame(bytes(vector.message));
    const header = headerOf(vector.header) as Header;
    expect(frame.header).toEqual(header);
    expect(frame.payload).toEqual(bytes(vector.payload));
    if (vector.canonical) expect(writeFrame(header, frame.payload)).toEqual(bytes(vector.message));
  });

  it.each(vectors.invalid.map(v => [v.name, v] as const))("refuses %s", (_, vector) => {
    let reason: unknown;
    try {
      parseFrame(bytes(vector.message));
    } catch (error) {
      reason = error instanceof FrameError ? error.reason : error;
    }
    expect(reason).toEqual(vector.error);
  });

  it("reads a message that is a part of a larger buffer", () => {
    const [vector] = vectors.frames;
    const message = bytes(vector?.message ?? "");
    const padded = new Uint8Array(message.length + 6);
    padded.set(message, 3);
    expect(parseFrame(padded.subarray(3, 3 + message.length))).toEqual(parseFrame(message));
  });
});
