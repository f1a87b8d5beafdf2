import { describe, expect, it } from "vitest";
import { hueOf, initialsOf } from "../src/avatar.js";
import { problemOf } from "../src/media.js";
import { levelOf } from "../src/meter.js";
import { claimsOf, linkOf, placeOf } from "../src/place.js";
import { wordsFor } from "../src/words.js";

const base64url = (text: string) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll("+", "-")
    .replaceAll("/", "_");
const jwt = (claims: object) => `e30.${base64url(JSON.stringify(claims))}.sig`;

describe("the page's address", () => {
  it("names the room, the token, the name", () => {
    expect(placeOf(new URL("http://x/"))).toEqual({
      room: "demo",
      token: undefined,
      name: undefined,
      autojoin: false,
    });
    expect(placeOf(new URL("http://x/r/team:1?name=Ada&autojoin=1#token=abc"))).toEqual({
      room: "team:1",
      token: "abc",
      name: "Ada",
      autojoin: true,
    });
    expect(placeOf(new URL("http://x/r/%E0%A4%A")).room).toBe("%E0%A4%A");
  });

  it("gives a link that lets others in, but never hands on a personal token", () => {
    const open = jwt({ room: "r" });
    expect(linkOf("http://x", { room: "r", token: open })).toBe(`http://x/r/r#token=${open}`);
    expect(linkOf("http://x", { room: "r", token: jwt({ room: "r", sub: "ada" }) })).toBe("http://x/r/r");
    expect(linkOf("http://x", { room: "r", token: undefined })).toBe("http://x/r/r");
  });

  it("reads what a token claims, and nothing of what is none", () => {
    expect(claimsOf(jwt({ name: "Zoë", exp: 7 }))).toEqual({ name: "Zoë", exp: 7 });
    for (const bad of ["", "a.b", "a.!.c", `a.${btoa("7")}.c`]) expect(claimsOf(bad)).toEqual({});
  });
});

describe("words", () => {
  it("say what to do for each end and each error", () => {
    expect(wordsFor("forbidden", "")).toMatchObject({ title: "This room needs an invitation", retry: false });
    expect(wordsFor("unheard_of", "The message.")).toMatchObject({ text: "The message.", retry: true });
  });

  it("say why a device is not there", () => {
    expect(problemOf({ name: "NotAllowedError" }, "camera").kind).toBe("denied");
    expect(problemOf({ name: "NotFoundError" }, "microphone").message).toBe("No microphone found.");
    expect(problemOf({ name: "Strange" }, "camera").kind).toBe("other");
  });
});

describe("avatars and meters", () => {
  it("have initials of any script, and colours that differ", () => {
    expect([initialsOf("Ada Lovelace"), initialsOf("  čeněk "), initialsOf(""), initialsOf("𝔸 b c")]).toEqual(
      ["AL", "Č", "?", "𝔸C"],
    );
    expect(hueOf("p1")).not.toBe(hueOf("p2"));
  });

  it("show silence as nothing and full scale as all", () => {
    expect(levelOf(new Float32Array([0, 0]))).toBe(0);
    expect(levelOf(new Float32Array([0, -1]))).toBe(1);
    expect(levelOf(new Float32Array([0.1]))).toBeCloseTo(1 - 20 / 55);
  });
});
