import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { backoffMs } from "../src/backoff.js";
import { type ParticipantInfo, parseServerMessage } from "../src/control.js";
import { errorOf } from "../src/error.js";
import { cameraLayers, type Slot } from "../src/lines.js";
import { capForHeight, PolicyWriter } from "../src/policy.js";
import { Publisher } from "../src/publisher.js";
import { REPLY_TIMEOUT_MS, Requests } from "../src/requests.js";
import { Roster } from "../src/roster.js";

const person = (
  id: string,
  sources: ParticipantInfo["tracks"][number]["source"][] = [],
): ParticipantInfo => ({
  id,
  key: 1,
  name: id,
  kind: "web_rtc",
  presence: "connected",
  tracks: sources.map(source => ({ source, codec: "vp8", muted: false, layers: 1 })),
});

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("control messages", () => {
  it("reads what it knows, skips what a newer server says, refuses what is no message", () => {
    expect(parseServerMessage('{"type":"slots","slots":[{"mid":"4"}]}')).toEqual({
      type: "slots",
      slots: [{ mid: "4" }],
    });
    expect(parseServerMessage('{"type":"weather","rain":true}')).toBeUndefined();
    expect(parseServerMessage('{"type":"toString"}')).toBeUndefined();
    for (const bad of ["{", "[]", "7", '{"id":1}', '{"type":"roster","seq":1}']) {
      expect(() => parseServerMessage(bad)).toThrow(expect.objectContaining({ code: "protocol" }));
    }
  });

  it("reads every example of the reference", () => {
    const page = readFileSync(new URL("../../../docs/reference/control.md", import.meta.url), "utf8");
    const examples = [...page.matchAll(/```json\n([\s\S]*?)```/g)].map(match => match[1] ?? "");
    const types = new Set<string>();
    for (const text of examples) {
      const value = JSON.parse(text) as { type?: string; id?: number };
      // Requests have an id; of what the server says only a reply has one.
      if (value.type === undefined || (value.id !== undefined && value.type !== "reply")) continue;
      expect(parseServerMessage(text), text).toEqual(value);
      types.add(value.type);
    }
    expect(types.size).toBeGreaterThanOrEqual(17);
  });

  it("reads typed errors, and makes one of anything else", async () => {
    const typed = new Response('{"error":{"code":"room_full","message":"full"}}', { status: 429 });
    expect(await errorOf(typed)).toMatchObject({ code: "room_full", message: "full", status: 429 });
    expect(await errorOf(new Response("<html>", { status: 502 }))).toMatchObject({ code: "internal" });
    expect(await errorOf(new Response(null, { status: 403 }))).toMatchObject({ code: "forbidden" });
  });
});

describe("roster", () => {
  it("follows deltas, and goes stale at a hole until the next snapshot", () => {
    const roster = new Roster();
    roster.replace(5, [person("a")]);
    expect(roster.apply({ type: "participant_joined", seq: 6, participant: person("b") }).kind).toBe(
      "joined",
    );
    expect(roster.apply({ type: "participant_joined", seq: 6, participant: person("b") }).kind).toBe("old");
    expect(roster.apply({ type: "participant_left", seq: 8, participant: "a", reason: "left" }).kind).toBe(
      "hole",
    );
    expect(roster.current).toBe(false);
    expect([...roster.participants.keys()]).toEqual(["a", "b"]);
    expect(roster.apply({ type: "participant_left", seq: 9, participant: "a", reason: "left" }).kind).toBe(
      "old",
    );
    expect(roster.replace(9, [person("b")]).map(change => change.kind)).toEqual(["updated", "left"]);
    expect(roster.apply({ type: "screen_started", seq: 10, participant: "b" }).kind).toBe("screen_started");
    expect([...roster.screens]).toEqual(["b"]);
  });

  it("knows who shares a screen from the snapshot, and tells the difference", () => {
    const roster = new Roster();
    const changes = roster.replace(1, [person("a", ["screen"])]);
    expect(changes.map(change => change.kind)).toEqual(["joined", "screen_started"]);
    expect(roster.replace(2, [person("a")]).map(change => change.kind)).toEqual([
      "updated",
      "screen_stopped",
    ]);
    roster.replace(3, [person("a", ["screen"])]);
    roster.apply({ type: "participant_left", seq: 4, participant: "a", reason: "connection_lost" });
    expect(roster.screens.size).toBe(0);
  });
});

describe("requests", () => {
  it("settles each by its id, once", async () => {
    const requests = new Requests();
    const sent: string[] = [];
    const send = (text: string) => void sent.push(text);
    const first = requests.call({ type: "sync" }, send);
    const second = requests.call({ type: "rename", name: "x" }, send);
    expect(sent.map(text => JSON.parse(text))).toEqual([
      { id: 1, type: "sync" },
      { id: 2, type: "rename", name: "x" },
    ]);
    requests.reply(2, { code: "forbidden", message: "no" });
    requests.reply(1);
    requests.reply(1, { code: "internal", message: "late" });
    requests.reply(99);
    await expect(first).resolves.toBeUndefined();
    await expect(second).rejects.toMatchObject({ code: "forbidden", message: "no" });
  });

  it("gives up in the end, when the channel closes, and when it is closed already", async () => {
    const requests = new Requests();
    const late = expect(requests.call({ type: "sync" }, () => undefined)).rejects.toMatchObject({
      code: "timeout",
    });
    await vi.advanceTimersByTimeAsync(REPLY_TIMEOUT_MS);
    await late;
    const cut = requests.call({ type: "sync" }, () => undefined);
    requests.abandon("gone");
    await expect(cut).rejects.toMatchObject({ code: "closed" });
    const throwing = () => {
      throw new Error("InvalidStateError");
    };
    await expect(requests.call({ type: "sync" }, throwing)).rejects.toMatchObject({ code: "closed" });
  });
});

describe("policy", () => {
  const slot = (mid: string, participant: string) =>
    [mid, { mid, participant, source: "camera" } as Slot] as const;

  it("turns heights of tiles into steps for slots, once things are quiet", () => {
    const send = vi.fn();
    const policy = new PolicyWriter({ follow: "dominant" }, send);
    policy.setSlots(new Map([slot("4", "a"), slot("5", "b")]));
    for (let height = 100; height < 300; height++) policy.setTileHeight("a", "camera", height);
    policy.setTileHeight("c", "camera", 700);
    expect(send).not.toHaveBeenCalled();
    vi.runAllTimers();
    expect(send).toHaveBeenCalledTimes(1);
    expect(send).toHaveBeenCalledWith({ follow: "dominant", slot_heights: { "4": 360 } });
    policy.setTileHeight("a", "camera", 310);
    vi.runAllTimers();
    expect(send).toHaveBeenCalledTimes(1);
    policy.update({ pins: [{ participant: "b" }], follow: undefined });
    expect(send).toHaveBeenLastCalledWith({ pins: [{ participant: "b" }], slot_heights: { "4": 360 } });
  });

  it("asks for the next layer only when a picture would be stretched much", () => {
    expect([90, 180, 216, 217, 432, 500, 5000].map(capForHeight)).toEqual([
      180, 180, 180, 360, 360, 720, 2160,
    ]);
  });
});

describe("publisher", () => {
  const track = () => ({ enabled: true }) as MediaStreamTrack;

  it("keeps camera and microphone published while off, and a screen only while shared", async () => {
    const publisher = new Publisher();
    await publisher.setTrack("camera", track(), undefined);
    expect(publisher.announce("camera")).toEqual([{ type: "publish", source: "camera", active: true }]);
    await publisher.setTrack("camera", null, undefined);
    expect(publisher.announce("camera")).toEqual([{ type: "mute", source: "camera", muted: true }]);
    await publisher.setTrack("camera", track(), undefined);
    expect(publisher.announce("camera")).toEqual([{ type: "mute", source: "camera", muted: false }]);
    await publisher.setTrack("screen", track(), undefined);
    expect(publisher.announce("screen")).toEqual([{ type: "publish", source: "screen", active: true }]);
    await publisher.setTrack("screen", null, undefined);
    expect(publisher.announce("screen")).toEqual([{ type: "publish", source: "screen", active: false }]);
    expect(publisher.announce("screen_audio")).toEqual([]);
  });

  it("stays muted over a change of device, and says it again after a reconnect", async () => {
    const publisher = new Publisher();
    publisher.setMuted("microphone", true);
    const first = track();
    await publisher.setTrack("microphone", first, undefined);
    expect(first.enabled).toBe(false);
    expect(publisher.muted).toEqual(["microphone"]);
    publisher.forget(false);
    expect(publisher.announce("microphone")).toEqual([
      { type: "publish", source: "microphone", active: true },
    ]);
    const second = track();
    await publisher.setTrack("microphone", second, undefined);
    expect(second.enabled).toBe(false);
    publisher.setMuted("microphone", false);
    expect(second.enabled).toBe(true);
    expect(publisher.announce("microphone")).toEqual([{ type: "mute", source: "microphone", muted: false }]);
  });
});

describe("layers that are wanted", () => {
  const camera = {
    enabled: true,
    getSettings: () => ({ width: 1280, height: 720 }),
  } as unknown as MediaStreamTrack;

  /** A line whose sender keeps what it was set, and how often. */
  function line(encodings: RTCRtpEncodingParameters[]) {
    const sender = {
      encodings,
      sets: 0,
      open: false,
      getParameters: () => ({ encodings: sender.encodings.map(e => ({ ...e })) }),
      async setParameters(parameters: { encodings: RTCRtpEncodingParameters[] }) {
        // A browser refuses a change that was begun while another one is made.
        if (sender.open) throw new DOMException("busy", "InvalidStateError");
        sender.open = true;
        await Promise.resolve();
        sender.open = false;
        sender.sets += 1;
        sender.encodings = parameters.encodings;
      },
      async replaceTrack() {},
    };
    const shown = () =>
      sender.encodings.map(e =>
        e.active === false ? "off" : `1/${e.scaleResolutionDownBy ?? 1} ${e.maxBitrate}`,
      );
    return { sender, shown };
  }
  const linesOf = (source: string, sender: object) =>
    ({ senders: { [source]: { sender } } }) as unknown as Parameters<Publisher["setTrack"]>[2];

  it("are encoded, and no others", async () => {
    const publisher = new Publisher();
    const { sender, shown } = line(cameraLayers(camera));
    const lines = linesOf("camera", sender);
    await publisher.setTrack("camera", camera, lines);
    expect(shown()).toEqual(["1/4 150000", "1/2 505000", "1/1 1697000"]);
    await publisher.setWishes(
      "camera",
      [
        { layer: 0, active: true, max_bitrate: 90_000 },
        { layer: 1, active: true, max_bitrate: 9_000_000 },
        { layer: 2, active: false },
      ],
      lines,
    );
    expect(shown()).toEqual(["1/4 90000", "1/2 505000", "off"]);
    // Another camera keeps it.
    const small = { getSettings: () => ({ width: 640, height: 360 }) } as unknown as MediaStreamTrack;
    await publisher.setTrack("camera", small, lines);
    expect(shown()).toEqual(["1/2 90000", "1/1 505000", "off"]);
    await publisher.setTrack("camera", camera, lines);
    await publisher.setWishes("camera", [{ layer: 2, active: true }], lines);
    expect(shown(), "what is not named is wanted").toEqual(["1/4 150000", "1/2 505000", "1/1 1697000"]);
  });

  it("are changed one after the other", async () => {
    const publisher = new Publisher();
    const { sender, shown } = line(cameraLayers(camera));
    const lines = linesOf("camera", sender);
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    await Promise.all([
      publisher.setTrack("camera", camera, lines),
      ...[true, false, true, false].map(active =>
        publisher.setWishes("camera", [{ layer: 1, active }], lines),
      ),
    ]);
    expect(sender.sets).toBe(5);
    expect(shown()[1]).toBe("off");
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });

  it("may be the only one there is", async () => {
    const publisher = new Publisher();
    const { sender, shown } = line([{}]);
    const lines = linesOf("camera", sender);
    await publisher.setTrack("camera", camera, lines);
    expect(shown()).toEqual(["1/1 undefined"]);
    await publisher.setWishes("camera", [{ layer: 0, active: true, max_bitrate: 700_000 }], lines);
    expect(shown()).toEqual(["1/1 700000"]);
    await publisher.setWishes("camera", [{ layer: 0, active: false }], lines);
    expect(shown()).toEqual(["off"]);
    publisher.forget(true);
    await publisher.setTrack("camera", camera, lines);
    expect(shown(), "a new connection begins with all").toEqual(["1/1 undefined"]);
  });

  it("a picture says what may suffer", async () => {
    const publisher = new Publisher();
    const film = { enabled: true, contentHint: "motion" } as MediaStreamTrack;
    await publisher.setTrack("screen", film, undefined);
    expect(publisher.announce("screen")).toEqual([
      { type: "publish", source: "screen", active: true, hint: "motion" },
    ]);
    expect(publisher.announce("screen")).toEqual([]);
    film.contentHint = "text";
    expect(publisher.announce("screen")).toEqual([
      { type: "publish", source: "screen", active: true, hint: "text" },
    ]);
    await publisher.setTrack("screen", null, undefined);
    expect(publisher.announce("screen")).toEqual([{ type: "publish", source: "screen", active: false }]);
  });
});

describe("camera layers", () => {
  const camera = (width: number, height: number) =>
    ({ getSettings: () => ({ width, height }) }) as unknown as MediaStreamTrack;
  const shown = (track?: MediaStreamTrack) =>
    cameraLayers(track).map(
      l => `${l.rid} ${l.active ? `1/${l.scaleResolutionDownBy} ${l.maxBitrate}` : "off"}`,
    );

  it("always have the full size among them", () => {
    expect(shown()).toEqual(["q 1/4 150000", "h 1/2 505000", "f 1/1 1697000"]);
    expect(shown(camera(1280, 720))).toEqual(shown());
    expect(shown(camera(640, 480))).toEqual(["q 1/2 193000", "h 1/1 649000", "f off"]);
    expect(shown(camera(320, 180))).toEqual(["q 1/1 150000", "h off", "f off"]);
  });
});

it("backs off up to a cap, with jitter", () => {
  expect(backoffMs(0, () => 0)).toBe(0);
  expect(backoffMs(1, () => 1)).toBe(500);
  expect(backoffMs(20, () => 1)).toBe(4000);
  expect(backoffMs(20, () => 0)).toBe(2000);
});
