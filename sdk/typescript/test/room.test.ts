// The room's state machine against a stand-in for the browser: connections are made and broken by the test.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ServerMessage } from "../src/control.js";
import { DRAFT_MS } from "../src/draft.js";
import { DISCONNECT_GRACE_MS, RELAY_AFTER_MS } from "../src/link.js";
import { GIVE_UP_MS, Room } from "../src/room.js";

class FakeChannel {
  readyState = "connecting";
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  sent: { id: number; type: string }[] = [];
  answer = true;
  send(text: string) {
    const request = JSON.parse(text);
    this.sent.push(request);
    if (this.answer) this.say({ type: "reply", id: request.id });
  }
  say(message: ServerMessage) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

class FakeDataChannel extends EventTarget {
  readyState = "connecting";
  bufferedAmount = 0;
  binaryType = "blob";
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  sent: Uint8Array[] = [];
  constructor(
    readonly label: string,
    readonly init: object,
  ) {
    super();
  }
  send(bytes: Uint8Array) {
    this.sent.push(bytes);
  }
  open() {
    this.readyState = "open";
    this.dispatchEvent(new Event("open"));
  }
}

class FakeSender {
  track: object | null = null;
  closed = false;
  getParameters = () => ({ encodings: [] });
  async replaceTrack(track: object | null) {
    if (this.closed) throw new DOMException("the connection is closed", "InvalidStateError");
    this.track = track;
  }
}

class FakePeer {
  static all: FakePeer[] = [];
  channel = new FakeChannel();
  transceivers: { kind: string; direction: string; mid: string; receiver: object; sender: FakeSender }[] = [];
  connectionState = "new";
  signalingState = "stable";
  iceConnectionState = "new";
  onconnectionstatechange: (() => void) | null = null;
  oniceconnectionstatechange: (() => void) | null = null;
  localDescription: { sdp: string } | null = null;
  closed = false;
  constructor() {
    FakePeer.all.push(this);
  }
  addTransceiver(kind: string, init: { direction: string }) {
    const transceiver = {
      kind,
      direction: init.direction,
      mid: String(this.transceivers.length),
      receiver: { track: { kind } },
      sender: new FakeSender(),
    };
    this.transceivers.push(transceiver);
    return transceiver;
  }
  data: FakeDataChannel[] = [];
  createDataChannel = (label: string, init: object) => {
    if (label === "control") return this.channel;
    const channel = new FakeDataChannel(label, init);
    this.data.push(channel);
    return channel;
  };
  remoteDescription: { sdp: string } | null = null;
  /** With what it was configured, and which answers it took, in order. */
  told: (RTCConfiguration | string)[] = [];
  getConfiguration = () => ({ bundlePolicy: "max-bundle" }) as RTCConfiguration;
  setConfiguration(configuration: RTCConfiguration) {
    this.told.push(configuration);
  }
  createOffer = async () => ({ type: "offer", sdp: "v=0 another offer" });
  async setLocalDescription(description?: { type: string }) {
    this.localDescription = { sdp: "v=0 offer" };
    this.signalingState = description?.type === "rollback" ? "stable" : "have-local-offer";
  }
  async setRemoteDescription(description: { sdp: string }) {
    this.remoteDescription = description;
    this.told.push(description.sdp);
    this.signalingState = "stable";
  }
  close() {
    this.closed = true;
    this.signalingState = "closed";
    for (const transceiver of this.transceivers) transceiver.sender.closed = true;
  }
  /** What a server does once media can flow. */
  enter(participants: { id: string }[] = [{ id: "me" }]) {
    this.channel.readyState = "open";
    this.channel.say({
      type: "welcome",
      participant: "me",
      key: 1,
      room: "demo",
      resume_token: "again",
      resume_ttl_s: 30,
      server_time_us: 1,
    });
    const people = participants.map(p => ({
      key: 1,
      name: p.id,
      kind: "web_rtc",
      presence: "connected",
      tracks: [],
      ...p,
    }));
    this.channel.say({ type: "roster", seq: 1, participants: people } as unknown as ServerMessage);
  }
  ice(state: string) {
    this.iceConnectionState = state;
    this.oniceconnectionstatechange?.();
  }
}

const posts: { url: string; headers: Record<string, string> }[] = [];
let respond: () => Response;
const created = () =>
  new Response("v=0 answer", {
    status: 201,
    headers: {
      Location: "/v1/rooms/demo/participants/me",
      "Antiphon-Participant": "me",
      "Antiphon-Resume": "first",
    },
  });
/** With TURN servers, or other links. */
const linked = (link: string) => () => {
  const response = created();
  response.headers.append("Link", link);
  return response;
};
const patches: string[] = [];
let restarted: () => Response;
const refused = (status: number, code: string) => () =>
  new Response(JSON.stringify({ error: { code, message: `${code}!` } }), { status });
const settle = () => vi.advanceTimersByTimeAsync(0);
const latest = () => {
  const peer = FakePeer.all.at(-1);
  if (!peer) throw new Error("no connection was made");
  return peer;
};

beforeEach(() => {
  vi.useFakeTimers();
  FakePeer.all = [];
  posts.length = 0;
  patches.length = 0;
  respond = created;
  restarted = () => new Response(null, { status: 204 });
  vi.stubGlobal("RTCPeerConnection", FakePeer);
  vi.stubGlobal("MediaStream", class {});
  vi.stubGlobal("fetch", async (url: URL, init: { method: string; headers: Record<string, string> }) => {
    if (init.method === "PATCH") {
      patches.push(String(url));
      return restarted();
    }
    if (init.method !== "POST") return new Response(null, { status: 204 });
    posts.push({ url: String(url), headers: init.headers });
    return respond();
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function joined(options: { name?: string } = {}): Promise<Room> {
  const joining = Room.join({ url: "http://server", room: "demo", token: "jwt", ...options });
  await settle();
  latest().enter();
  return joining;
}

describe("joining", () => {
  it("offers fixed lines in order, and says who joins in headers", async () => {
    const room = await joined({ name: "Zoë" });
    expect(latest().transceivers.map(t => `${t.kind} ${t.direction}`)).toEqual([
      ...["audio sendonly", "audio sendonly", "video sendonly", "video sendonly"],
      ...Array(3).fill("audio recvonly"),
      ...Array(5).fill("video recvonly"),
    ]);
    expect(posts[0]?.url).toBe("http://server/v1/rooms/demo/participants");
    expect(posts[0]?.headers).toMatchObject({ Authorization: "Bearer jwt", "Antiphon-Name": "Zo%C3%AB" });
    expect(room.state).toBe("connected");
    expect([...room.slots.values()].map(slot => slot.kind).filter(kind => kind !== "audio")).toEqual([
      ...Array(4).fill("video"),
      "screen",
    ]);
  });

  it("rejects with the server's error", async () => {
    respond = refused(403, "forbidden");
    const joining = Room.join({ url: "http://server", room: "demo", token: "jwt" });
    await expect(joining).rejects.toMatchObject({ code: "forbidden", message: "forbidden!", status: 403 });
    expect(latest().closed).toBe(true);
  });

  it("rejects when no media comes through", async () => {
    const joining = expect(
      Room.join({ url: "http://server", room: "demo", token: "jwt" }),
    ).rejects.toMatchObject({
      code: "connection_failed",
    });
    await vi.advanceTimersByTimeAsync(15_000);
    await joining;
  });
});

describe("TURN servers", () => {
  const TURN = '<turn:t>; rel="ice-server"; username="u"; credential="p"';
  const iceServers = [{ urls: "turn:t", username: "u", credential: "p" }];
  beforeEach(() => {
    restarted = () => new Response("a=ice-ufrag:new\r\na=ice-pwd:newpwd\r\n");
  });
  /** Until the answer is taken. In an object, so that awaiting it does not await the room. */
  const begin = async (link: string, signal = new AbortController().signal) => {
    respond = linked(link);
    const joining = Room.join({ url: "http://server", room: "demo", token: "jwt", signal });
    joining.catch(() => undefined);
    await settle();
    return { joining };
  };

  it("are known to the browser before the answer is, and a way through them is looked for when there is no other", async () => {
    const { joining } = await begin(TURN);
    expect(latest().told).toEqual([{ bundlePolicy: "max-bundle", iceServers }, "v=0 answer"]);
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS - 1);
    expect(patches).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(patches).toEqual(["http://server/v1/rooms/demo/participants/me"]);
    expect(latest().told.slice(2)).toEqual(["v=0 answer"]);
    latest().ice("connected");
    latest().enter();
    expect((await joining).state).toBe("connected");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(patches).toHaveLength(1);
    expect(posts).toHaveLength(1);
  });

  it("are tried at once where all else has failed", async () => {
    const { joining } = await begin(TURN);
    latest().ice("failed");
    await settle();
    expect(patches).toHaveLength(1);
    latest().ice("failed");
    await expect(joining).rejects.toMatchObject({ code: "connection_failed" });
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
    expect(patches).toHaveLength(1);
  });

  it("are not waited for where all else has failed and the server does not restart", async () => {
    vi.spyOn(console, "warn").mockImplementation(() => undefined);
    restarted = refused(409, "conflict");
    const { joining } = await begin(TURN);
    latest().connectionState = "failed";
    latest().ice("failed");
    await settle();
    await expect(joining).rejects.toMatchObject({ code: "connection_failed" });
    vi.restoreAllMocks();
  });

  it("cost nobody anything who gets through directly", async () => {
    const { joining } = await begin(TURN);
    latest().ice("connected");
    latest().enter();
    const room = await joining;
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
    expect(patches).toEqual([]);
    room.leave();
  });

  it("are left alone where the connection is closed meanwhile", async () => {
    const cancel = new AbortController();
    const { joining } = await begin(TURN, cancel.signal);
    cancel.abort();
    await expect(joining).rejects.toMatchObject({ code: "closed" });
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
    expect(patches).toEqual([]);
  });

  it("are no hindrance where the server does not restart, or the browser does not take them", async () => {
    vi.spyOn(console, "warn").mockImplementation(() => undefined);
    restarted = refused(429, "rate_limited");
    const slow = await begin(TURN);
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
    latest().enter();
    expect((await slow.joining).state).toBe("connected");
    vi.spyOn(FakePeer.prototype, "setConfiguration").mockImplementation(() => {
      throw new DOMException("no", "SyntaxError");
    });
    const old = await begin(TURN);
    await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
    latest().enter();
    expect((await old.joining).state).toBe("connected");
    expect(patches).toHaveLength(1);
    vi.restoreAllMocks();
  });

  it("are those only: others are no way, and nothing is set where there are none", async () => {
    for (const [link, told] of [
      [
        '<stun:s>; rel="ice-server"',
        [{ bundlePolicy: "max-bundle", iceServers: [{ urls: "stun:s" }] }, "v=0 answer"],
      ],
      ['</x>; rel="next"', ["v=0 answer"]],
    ] as const) {
      const { joining } = await begin(link);
      expect(latest().told).toEqual(told);
      await vi.advanceTimersByTimeAsync(RELAY_AFTER_MS);
      latest().enter();
      await joining;
    }
    expect(patches).toEqual([]);
  });
});

describe("an offer made ahead", () => {
  const joinWith = async (draft: ReturnType<typeof Room.draft>, slots = { audio: 3, video: 4 }) => {
    const joining = Room.join({ url: "http://server", room: "demo", token: "jwt", slots, draft });
    await settle();
    latest().enter();
    return joining;
  };

  it("is what is posted, with the tracks of the moment", async () => {
    const draft = Room.draft();
    expect(latest().localDescription).not.toBeNull();
    const microphone = { enabled: true } as MediaStreamTrack;
    const joining = Room.join({ url: "http://server", room: "demo", token: "jwt", microphone, draft });
    await settle();
    latest().enter();
    const room = await joining;
    expect(FakePeer.all).toHaveLength(1);
    expect(room.peerConnection).toBe(draft.pc);
    expect(latest().transceivers[0]?.sender.track).toBe(microphone);
    latest().channel.onclose?.();
    await vi.advanceTimersByTimeAsync(300);
    expect(FakePeer.all, "the next connection has an offer of its own").toHaveLength(2);
  });

  it("is closed and made anew when it is old, closed, or for other slots", async () => {
    const old = Room.draft();
    await vi.advanceTimersByTimeAsync(DRAFT_MS);
    const closed = Room.draft();
    closed.close();
    for (const [draft, slots] of [[old], [closed], [Room.draft(), { audio: 3, video: 9 }]] as const) {
      const room = await joinWith(draft, slots);
      expect(room.peerConnection).not.toBe(draft.pc);
      expect(draft.pc.signalingState).toBe("closed");
    }
  });

  it("is closed when there is no token", async () => {
    const draft = Room.draft();
    const token = () => Promise.reject(new Error("no"));
    await expect(Room.join({ url: "http://server", room: "demo", token, draft })).rejects.toThrow();
    expect(latest().closed).toBe(true);
  });

  it("is made while the token comes", async () => {
    let give: (token: string) => void = () => undefined;
    const token = () => new Promise<string>(resolve => (give = resolve));
    const joining = Room.join({ url: "http://server", room: "demo", token });
    await settle();
    expect(latest().localDescription).not.toBeNull();
    expect(posts).toHaveLength(0);
    give("jwt");
    await settle();
    expect(posts).toHaveLength(1);
    latest().enter();
    await joining;
  });
});

it("does not come back when it was left while a token was awaited", async () => {
  let give: ((token: string) => void) | undefined;
  let wait = false;
  const token = () => (wait ? new Promise<string>(resolve => (give = resolve)) : Promise.resolve("jwt"));
  const joining = Room.join({ url: "http://server", room: "demo", token });
  await settle();
  latest().enter();
  const room = await joining;
  wait = true;
  latest().channel.onclose?.();
  await vi.advanceTimersByTimeAsync(300);
  room.leave();
  give?.("late");
  await settle();
  expect(room.state).toBe("closed");
  expect(posts).toHaveLength(1);
  expect(latest().closed).toBe(true);
});

describe("in the room", () => {
  it("maps slots to people, and asks again at a hole in the roster", async () => {
    const room = await joined();
    const slots = vi.fn();
    room.on("slots", slots);
    latest().channel.say({
      type: "slots",
      slots: [{ mid: "7", participant: "b", source: "camera", rtp_time: 9 }],
    });
    expect(room.slotOf("b", "camera")).toMatchObject({ mid: "7", rtpTime: 9 });
    latest().channel.say({ type: "slots", slots: [{ mid: "7" }] });
    expect(room.slotOf("b", "camera")).toBeUndefined();
    expect(slots).toHaveBeenCalledTimes(2);
    latest().channel.say({ type: "screen_started", seq: 4, participant: "b" });
    expect(latest().channel.sent.at(-1)?.type).toBe("sync");
  });

  it("says how many videos are served, and forgets it with the connection", async () => {
    const room = await joined();
    const limits = vi.fn();
    room.on("limits", limits);
    latest().channel.say({ type: "limits", last_n: 2, reason: "bandwidth" });
    expect(room.limits).toEqual({ lastN: 2, reason: "bandwidth" });
    latest().channel.say({ type: "limits" });
    latest().channel.say({ type: "limits", last_n: 0, reason: "server_busy" });
    expect(limits.mock.calls.map(call => call[0])).toEqual([
      { lastN: 2, reason: "bandwidth" },
      undefined,
      { lastN: 0, reason: "server_busy" },
    ]);
    latest().channel.onclose?.();
    expect(room.limits).toBeUndefined();
  });

  it("acknowledges a recording by itself, and leaves consent to people", async () => {
    const room = await joined();
    const seen = vi.fn();
    room.on("recording", seen);
    const { channel } = latest();
    const said = () => channel.sent.filter(r => r.type === "acknowledge_recording");
    channel.say({ type: "recording", recording: "r1", state: "announcing", consent: false });
    channel.say({ type: "recording", recording: "r1", state: "recording", consent: false });
    expect(said()).toMatchObject([{ recording: "r1" }]);
    expect(room.recording).toEqual({ id: "r1", state: "recording", consent: false, agreed: undefined });
    channel.say({ type: "recording", recording: "r1", state: "stopped", consent: false });
    expect(room.recording).toBeUndefined();
    channel.say({ type: "recording", recording: "r2", state: "announcing", consent: true });
    expect(said()).toHaveLength(1);
    await room.consentToRecording(false);
    expect(said()[1]).toMatchObject({ recording: "r2", consent: false });
    expect(room.recording?.agreed).toBe(false);
    expect(seen).toHaveBeenCalledTimes(5);
    channel.say({ type: "recording", recording: "r2", state: "stopped", consent: true });
    await expect(room.consentToRecording(true)).rejects.toMatchObject({ code: "not_found" });
  });

  it("takes the layers that are wanted to the sender of their source", async () => {
    const room = await joined();
    const wanted = vi.fn();
    room.on("layersWanted", wanted);
    const sender = latest().transceivers[2]?.sender as unknown as Record<string, unknown>;
    const set = vi.fn(async () => undefined);
    Object.assign(sender, { getParameters: () => ({ encodings: [{}, {}, {}] }), setParameters: set });
    latest().channel.say({ type: "layers", source: "camera", layers: [{ layer: 2, active: false }] });
    await settle();
    const [[parameters]] = set.mock.calls as unknown as [[{ encodings: RTCRtpEncodingParameters[] }]];
    expect(parameters.encodings.map(e => e.active)).toEqual([true, true, false]);
    expect(wanted).toHaveBeenCalledWith({ source: "camera", layers: [{ layer: 2, active: false }] });
  });

  it("is silent at once when a moderator mutes, and does not tell the server what it knows", async () => {
    const room = await joined();
    const track = { enabled: true } as MediaStreamTrack;
    await room.setMicrophone(track);
    latest().channel.say({ type: "muted", source: "microphone", by: "b" });
    expect(track.enabled).toBe(false);
    expect(room.local("microphone").muted).toBe(true);
    await room.setMuted("microphone", false);
    expect(latest().channel.sent.map(r => r.type)).toEqual(["publish", "mute"]);
  });
});

it("says when the server does not take what we send", async () => {
  const microphone = { enabled: true } as MediaStreamTrack;
  const joining = Room.join({ url: "http://server", room: "demo", token: "jwt", microphone });
  await settle();
  latest().channel.answer = false;
  latest().enter();
  const room = await joining;
  const refusal = room.once("refused");
  const [request] = latest().channel.sent;
  const error = { code: "forbidden", message: "no" } as const;
  latest().channel.say({ type: "reply", id: request?.id ?? 0, error });
  expect(await refusal).toMatchObject({ source: "microphone", error: { code: "forbidden" } });
});

describe("a lost connection", () => {
  it("is resumed with the token, and what is sent is announced again", async () => {
    const room = await joined();
    await room.setCamera({ enabled: true } as MediaStreamTrack);
    latest().channel.onclose?.();
    expect(room.state).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(300);
    expect(FakePeer.all).toHaveLength(2);
    expect(posts[1]?.headers["Antiphon-Resume"]).toBe("again");
    latest().enter();
    await settle();
    expect(room.state).toBe("connected");
    expect(latest().channel.sent).toMatchObject([
      { type: "publish", source: "camera", active: true },
      { type: "mute", source: "camera", muted: false },
    ]);
  });

  it("takes along what was changed meanwhile, however late", async () => {
    const room = await joined();
    const camera = { enabled: true } as MediaStreamTrack;
    const microphone = { enabled: true } as MediaStreamTrack;
    latest().channel.onclose?.();
    await room.setCamera(camera);
    await vi.advanceTimersByTimeAsync(300);
    await room.setMicrophone(microphone);
    latest().enter();
    await settle();
    expect(
      latest()
        .transceivers.slice(0, 4)
        .map(t => t.sender.track),
    ).toEqual([microphone, null, camera, null]);
    expect(latest().channel.sent.filter(r => r.type === "publish")).toHaveLength(2);
  });

  it("may be a passing trouble of ICE", async () => {
    const room = await joined();
    latest().ice("disconnected");
    await vi.advanceTimersByTimeAsync(DISCONNECT_GRACE_MS - 1);
    latest().ice("connected");
    await vi.advanceTimersByTimeAsync(DISCONNECT_GRACE_MS);
    expect(room.state).toBe("connected");
    latest().ice("disconnected");
    await vi.advanceTimersByTimeAsync(DISCONNECT_GRACE_MS);
    expect(room.state).toBe("reconnecting");
  });

  it("joins afresh where the place is gone", async () => {
    const room = await joined();
    respond = refused(404, "not_found");
    latest().channel.onclose?.();
    await vi.advanceTimersByTimeAsync(300);
    respond = created;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(posts.at(-1)?.headers["Antiphon-Resume"]).toBeUndefined();
    latest().enter();
    await settle();
    expect(room.state).toBe("connected");
  });

  it("is given up after half a minute", async () => {
    const room = await joined();
    respond = refused(503, "overloaded");
    latest().channel.onclose?.();
    await vi.advanceTimersByTimeAsync(GIVE_UP_MS + 5_000);
    expect(room.closed).toMatchObject({ reason: "connection_lost" });
    expect(posts.length).toBeLessThan(20);
  });

  it("is not resumed when the server let us go, or when we left", async () => {
    const removed = await joined();
    latest().channel.say({ type: "closed", reason: "removed" });
    expect(removed.closed?.reason).toBe("removed");
    const left = await joined();
    left.leave();
    expect(left.closed?.reason).toBe("left");
    await vi.advanceTimersByTimeAsync(GIVE_UP_MS);
    expect(posts).toHaveLength(2);
  });
});

describe("topics", () => {
  const bytes = (...values: number[]) => new Uint8Array(values);
  const chat = [...new TextEncoder().encode("chat")];

  it("go over channels that are opened when first needed", async () => {
    const room = await joined();
    expect(latest().data).toHaveLength(0);
    const published = room.publish("chat", "hi", { to: [7] });
    await settle();
    const [reliable] = latest().data;
    expect([reliable?.label, reliable?.init]).toEqual(["data", { ordered: true }]);
    reliable?.open();
    expect(await published).toBe(true);
    const header = [1, 5, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
    expect(reliable?.sent).toEqual([bytes(...header, ...chat, 104, 105)]);
  });

  it("are listened to over a reconnect, and each listener gets its own", async () => {
    const room = await joined();
    const got: string[] = [];
    const stop = room.subscribe("chat", m => got.push(`chat ${m.sender} ${m.lostBefore} ${m.payload}`));
    room.subscribe("*", m => got.push(`* ${m.topic}`));
    await settle();
    const topics = () =>
      latest()
        .channel.sent.filter(r => r.type === "topics")
        .at(-1);
    expect(topics()).toMatchObject({ topics: ["chat", "*"] });
    const message = bytes(1, 5, 1, 4, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, ...chat, 255);
    latest().data[1]?.onmessage?.({ data: message.buffer });
    latest().data[1]?.onmessage?.({ data: bytes(1, 5, 1).buffer });
    expect(got).toEqual(["chat 9 2 255", "* chat"]);
    stop();
    await settle();
    expect(topics()).toMatchObject({ topics: ["*"] });
    latest().channel.onclose?.();
    await vi.advanceTimersByTimeAsync(300);
    latest().enter();
    await settle();
    expect(FakePeer.all).toHaveLength(2);
    expect(topics()).toMatchObject({ topics: ["*"] });
    expect(latest().data.map(c => c.label)).toEqual(["data", "data-lossy"]);
  });

  it("keep their limits", async () => {
    const room = await joined();
    await expect(room.publish("", "x")).rejects.toMatchObject({ code: "bad_request" });
    await expect(room.publish("t", new Uint8Array(1025), { lossy: true })).rejects.toMatchObject({
      code: "too_large",
    });
    const dropped = room.publish("t", "x", { lossy: true });
    await settle();
    const [lossy] = latest().data;
    if (lossy) lossy.bufferedAmount = 1 << 20;
    lossy?.open();
    expect(await dropped).toBe(false);
    expect(lossy?.sent).toHaveLength(0);
  });
});
