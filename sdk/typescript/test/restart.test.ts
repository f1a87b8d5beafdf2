// ICE restart: what goes to the server, and what becomes of its answer.

import { expect, test } from "vitest";
import { fragmentOf, withParameters } from "../src/restart.js";

const OFFER = [
  "v=0",
  "o=- 1 2 IN IP4 127.0.0.1",
  "a=group:BUNDLE 0 1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=ice-ufrag:EsAw",
  "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
  "a=fingerprint:sha-256 AA",
  "a=mid:0",
  "a=candidate:1 1 udp 1 192.0.2.1 1 typ host",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:EsAw",
  "a=mid:1",
  "",
].join("\r\n");

test("the fragment is the ICE part of the first line", () => {
  expect(fragmentOf(OFFER).split("\r\n")).toEqual([
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=ice-ufrag:EsAw",
    "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
    "a=mid:0",
    "a=candidate:1 1 udp 1 192.0.2.1 1 typ host",
    "",
  ]);
});

test("the answer gets the server's new parameters in every line", () => {
  const answer =
    "a=ice-ufrag:old\r\na=ice-pwd:oldpwd\r\na=mid:0\r\na=candidate:1 1 udp 1 h 1 typ host ufrag old\r\na=ice-ufrag:old\r\n";
  const fragment = "a=ice-lite\r\na=ice-ufrag:new\r\na=ice-pwd:newpwd\r\n";
  expect(withParameters(answer, fragment)).toBe(
    answer.replaceAll("oldpwd", "newpwd").replaceAll("old", "new"),
  );
  expect(() => withParameters(answer, "a=ice-lite\r\n")).toThrow("ice-ufrag");
});
