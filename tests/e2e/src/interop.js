// Who talks with the server, in which direction, in which codec: the table, and how each client is run. docs/reference/interop.md
// is the table for readers; the test compares them.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PYTHON, SCRIPTS } from "./python.js";
import { until } from "./until.js";
import { barePage, codecInUse, play, publish, sees } from "./standard.js";

export const CODECS = ["VP8", "VP9", "H264", "AV1", "opus", "PCMU", "PCMA", "G722"];
export const isVideo = codec => CODECS.indexOf(codec) < 4;
const CAMERA = { width: 320, height: 180, fps: 15 };
const HERE = new URL("..", import.meta.url).pathname;

const WORKS = "works";
const all = (except = {}) => Object.fromEntries(CODECS.map(codec => [codec, except[codec] ?? WORKS]));
const only = (codecs, reason) => all(Object.fromEntries(CODECS.filter(c => !codecs.includes(c)).map(c => [c, reason])));

const FIREFOX_H264 = "H.264 comes with a plug-in that Firefox downloads";
const AIORTC = "aiortc has no such codec";
const GSTREAMER_AV1 = "GStreamer 1.22 has no AV1 over RTP";
const FFMPEG_PLAY = "FFmpeg does not play WHEP";

/** Each cell is `works`, or why the client cannot. */
export const TABLE = {
  Chromium: { publish: all(), play: all() },
  Firefox: { publish: all({ H264: FIREFOX_H264 }), play: all({ H264: FIREFOX_H264 }) },
  aiortc: { publish: all({ VP9: AIORTC, AV1: AIORTC }), play: all({ VP9: AIORTC, AV1: AIORTC }) },
  GStreamer: { publish: all({ AV1: GSTREAMER_AV1 }), play: all({ AV1: GSTREAMER_AV1 }) },
  FFmpeg: { publish: only(["H264", "opus"], "FFmpeg's WHIP sends H.264 and Opus only"), play: only([], FFMPEG_PLAY) },
  werift: { publish: all(), play: all() },
  libdatachannel: { publish: all(), play: all() },
};

/** The table as rows of Markdown: `yes`, or the number of a reason below. */
export function toMarkdown() {
  const reasons = [];
  const cell = text => {
    if (text === WORKS) return "yes";
    if (!reasons.includes(text)) reasons.push(text);
    return `no (${reasons.indexOf(text) + 1})`;
  };
  const lines = [`| client | | ${CODECS.join(" | ")} |`, `|---|---|${CODECS.map(() => "---|").join("")}`];
  for (const [client, directions] of Object.entries(TABLE)) {
    for (const [direction, cells] of Object.entries(directions)) {
      lines.push(`| ${client} | ${direction} | ${CODECS.map(codec => cell(cells[codec])).join(" | ")} |`);
    }
  }
  return [...lines, "", ...reasons.map((reason, i) => `${i + 1}. ${reason}.`)].join("\n");
}

/** Cells of one direction that shall work. */
export function cells(direction) {
  const pairs = Object.entries(TABLE).flatMap(([client, t]) => CODECS.map(codec => [client, codec, t[direction][codec]]));
  return pairs.filter(([, , state]) => state === WORKS).map(([client, codec]) => ({ client, codec }));
}

/** Names of the codecs that a page offers to send. Firefox names H.264 as a capability also where its plug-in is missing. */
function offered(page, kind) {
  return page.evaluate(async k => {
    const pc = new RTCPeerConnection();
    pc.addTransceiver(k, { direction: "sendonly" });
    const { sdp } = await pc.createOffer();
    pc.close();
    return [...sdp.matchAll(/^a=rtpmap:\d+ ([^/]+)/gm)].map(([, name]) => name);
  }, kind);
}

/** Browsers say what they can: a reason that is not true any more is a cell to fill. */
export async function staleReasons(it) {
  const stale = [];
  for (const [client, browser] of [["Chromium", it.chromium], ["Firefox", it.firefox]]) {
    const page = await barePage(it, browser, CAMERA);
    for (const codec of CODECS.filter(c => TABLE[client].publish[c] !== WORKS)) {
      const kind = isVideo(codec) ? "video" : "audio";
      if ((await offered(page, kind)).includes(codec)) stale.push(`${client} ${codec}`);
    }
    await page.close();
  }
  return stale;
}

let certificate;
/** An ECDSA certificate with its key, as one file. */
function pem() {
  if (!certificate) {
    const folder = mkdtempSync(join(tmpdir(), "antiphon-interop-"));
    execFileSync(PYTHON, [join(SCRIPTS, "certificate.py"), folder]);
    certificate = join(folder, "both.pem");
    const both = ["cert.pem", "key.pem"].map(name => readFileSync(join(folder, name), "utf8"));
    writeFileSync(certificate, both.join(""));
  }
  return certificate;
}

/** Programs by which a client that is no browser is run: what is started, with which arguments before the participant. */
const PROGRAMS = {
  GStreamer: { command: ["/usr/bin/python3", join(HERE, "gst/webrtc.py")], more: () => [pem()] },
  werift: { command: [process.execPath, join(HERE, "node/werift.js")], more: () => [] },
  libdatachannel: { command: [process.execPath, join(HERE, "node/datachannel.js")], more: () => [] },
};
const NEEDS_FFMPEG = ["werift", "libdatachannel"];

/** Lets a client publish under this name. Gives what ends it, and the participant's id where the client knows it. */
export async function startPublishing(it, client, room, codec, name) {
  const token = await it.server.token(room, { name });
  const target = [it.server.url, room, "--token", token];
  if (client === "Chromium" || client === "Firefox") {
    const page = await barePage(it, it[client.toLowerCase()], { ...CAMERA, tone: 660 });
    const kind = isVideo(codec) ? "video" : "audio";
    const id = await publish(it, page, room, { kind, codec, name });
    const type = `${kind}/${codec}`.toLowerCase();
    await until(`${type} is sent`, async () => (await codecInUse(page, "outbound-rtp"))?.toLowerCase() === type, 20_000);
    return { id, programs: [page] };
  }
  if (client === "aiortc") {
    const program = it.start("whip.py", [...target, "--codec", codec, "--seconds", 60]);
    return { id: (await program.event("ready")).id, programs: [program] };
  }
  if (client === "FFmpeg") {
    return { programs: [it.start("ffmpeg_whip.py", [...target, "--codec", codec, "--seconds", 60])] };
  }
  const { command, more } = PROGRAMS[client];
  const program = it.start(client, [...target, "publish", codec, ...more()], command);
  const { id } = await program.event("ready");
  if (!NEEDS_FFMPEG.includes(client)) return { id, programs: [program] };
  const { port } = await program.event("media");
  return { id, programs: [program, it.start("rtp_send.py", [codec, port])] };
}

/** Lets a client play a participant; gives what it has seen or heard. */
export async function letPlay(it, client, room, codec, participant) {
  const kind = isVideo(codec) ? "video" : "audio";
  const event = isVideo(codec) ? "seen" : "heard";
  if (client === "Chromium" || client === "Firefox") {
    const page = await barePage(it, it[client.toLowerCase()], CAMERA);
    await play(it, page, room, { kind, participant });
    const good = () => {
      const heard = window.__heard("#player");
      // Not while it fades in.
      return heard && heard.level > -17 && Math.abs(heard.frequency / 660 - 1) <= 0.01 && heard;
    };
    const found = isVideo(codec) ? await sees(page, 15, CAMERA.fps) : await page.until("sound", good, undefined, 20_000);
    const used = await codecInUse(page, "inbound-rtp");
    await page.close();
    if (used?.toLowerCase() !== `${kind}/${codec}`.toLowerCase()) throw new Error(`it plays ${used}`);
    return found;
  }
  const token = await it.server.token(room);
  const target = [it.server.url, room, "--token", token];
  const programs = [];
  const start = (...args) => {
    programs.push(it.start(...args));
    return programs.at(-1);
  };
  try {
    if (client === "aiortc") {
      return await start("whep.py", [...target, "--who", participant, "--kind", kind, "--seconds", 30]).event(event);
    }
    const { command, more } = PROGRAMS[client];
    const args = [...target, "play", codec, ...more(), participant];
    if (!NEEDS_FFMPEG.includes(client)) return await start(client, args, command).event(event);
    const reader = start("rtp_recv.py", [codec, 96]);
    const { port } = await reader.event("listening");
    start(client, args, command).say(port);
    return await reader.event(event);
  } finally {
    await Promise.all(programs.map(program => program.stop()));
  }
}
