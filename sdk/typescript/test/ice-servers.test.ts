// The `Link` fields that servers send, and what else could stand there.

import { describe, expect, it } from "vitest";
import { canRelay, iceServersOf, MAX_ICE_SERVERS, MAX_LINK_LENGTH } from "../src/ice-servers.js";

const TURN = '<turn:t.example.net?transport=udp>; rel="ice-server"; username="u"; credential="p"';
const urls = (link: string | null) => iceServersOf(link).map(server => server.urls);

describe("ICE servers", () => {
  it("are read as the server writes them", () => {
    const link = `<stun:s.example.net>; rel="ice-server", ${TURN}; credential-type="password"`;
    expect(iceServersOf(link)).toEqual([
      { urls: "stun:s.example.net" },
      { urls: "turn:t.example.net?transport=udp", username: "u", credential: "p" },
    ]);
  });

  it("may have commas, quotes and what else there is in a password", () => {
    const credential = String.raw`a, <b>; rel="c" \ d`;
    const quoted = credential.replace(/["\\]/g, "\\$&");
    const link = `<turns:[2001:db8::1]:443?transport=tcp>; rel="ice-server"; username="1:a"; credential="${quoted}", ${TURN}`;
    expect(iceServersOf(link)).toEqual([
      { urls: "turns:[2001:db8::1]:443?transport=tcp", username: "1:a", credential },
      { urls: "turn:t.example.net?transport=udp", username: "u", credential: "p" },
    ]);
  });

  it("are written in other ways that mean the same", () => {
    expect(
      iceServersOf(
        "<TURN:t> ;REL = Ice-Server;username=u ; CREDENTIAL=p; x; y=,, <stuns:s:5349>;rel=ice-server",
      ),
    ).toEqual([{ urls: "TURN:t", username: "u", credential: "p" }, { urls: "stuns:s:5349" }]);
    expect(urls('<stun:s>; title="x"; rel="prev ice-server"; rel="next"')).toEqual(["stun:s"]);
  });

  it("are left out where they are something else", () => {
    for (const link of [
      null,
      "",
      '</v1/x>; rel="next"',
      '<stun:s>; rel="next"; rel="ice-server"',
      "<stun:s>",
      '<https://s>; rel="ice-server"',
    ]) {
      expect(urls(link)).toEqual([]);
    }
  });

  it("are left out where they are malformed, and do not take others with them", () => {
    for (const bad of [
      'stun:s; rel="ice-server"',
      '<stun:s; rel="ice-server"',
      '<stun:s> rel="ice-server"',
      '<stun:s>; rel="ice-server" x',
      '<stun:s>; ="ice-server"',
      '<stun:>; rel="ice-server"',
      '<stun:s?transport=udp>; rel="ice-server"',
      '<stun:s:port>; rel="ice-server"',
      '<turn:t?transport=sctp>; rel="ice-server"; username="u"; credential="p"',
      '<turn:a b>; rel="ice-server"; username="u"; credential="p"',
      '<turn:t>; rel="ice-server"',
      '<turn:t>; rel="ice-server"; username="u"; credential=""',
      '<turn:t>; rel="ice-server"; username="u"; credential="p"; credential-type="oauth"',
      ",,;<>",
    ]) {
      expect(urls(`${bad}, ${TURN}`), bad).toEqual(["turn:t.example.net?transport=udp"]);
    }
    expect(urls(`${TURN}, <stun:s>; rel="ice-server`), "a string without an end").toHaveLength(1);
  });

  it("are a few, of a text that is not long", () => {
    const many = Array.from({ length: 20 }, (_, i) => `<stun:s${i}>; rel="ice-server"`);
    expect(urls(many.join(", "))).toEqual(Array.from({ length: MAX_ICE_SERVERS }, (_, i) => `stun:s${i}`));
    const more = " ".repeat(MAX_LINK_LENGTH - TURN.length);
    expect(urls(TURN + more)).toHaveLength(1);
    expect(urls(`${TURN + more} `)).toHaveLength(0);
    for (const part of ["<", '"', "\\", '\\"', "<>", ";", "a=", " ;", "; ", " "]) {
      const start = performance.now();
      iceServersOf(`<stun:s>${part.repeat((MAX_LINK_LENGTH - 8) / part.length)}`);
      expect(performance.now() - start, part).toBeLessThan(200);
    }
  });

  it("are a way where they are for TURN", () => {
    expect(canRelay(iceServersOf(TURN))).toBe(true);
    expect(canRelay(iceServersOf('<stun:s>; rel="ice-server"'))).toBe(false);
    expect(canRelay([])).toBe(false);
  });
});
