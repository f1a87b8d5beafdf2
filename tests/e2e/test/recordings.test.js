// A room is recorded: announced, agreed to, paused, read in the call and after it; and what lies on the disk.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { PYTHON, SCRIPTS } from "../src/python.js";
import { barePage, canSend, publish, sentHashes } from "../src/standard.js";
import { CALLS, files, search } from "../src/stored.js";
import { suite } from "../src/suite.js";
import { until } from "../src/until.js";

const run = promisify(execFile);
const it = suite({ chromium: true, server: { config: CALLS } });
const { ask } = it;

/** Looks at the folder all the time, and lets the kernel tell of files that are gone again; tells what was ever new in it. */
function watchFolder() {
  const before = JSON.stringify([...files(it.server.data)]);
  const state = { looks: 0, changed: undefined, on: true };
  const kernel = watch(it.server.data, { recursive: true }, (event, name) => {
    state.changed ??= { at: Date.now(), now: `${event} ${name}` };
  });
  state.end = () => {
    state.on = false;
    kernel.close();
  };
  const look = () => {
    if (!state.on) return;
    state.looks++;
    const now = JSON.stringify([...files(it.server.data)]);
    if (now !== before && !state.changed) state.changed = { at: Date.now(), now };
    setImmediate(() => setTimeout(look, 1));
  };
  look();
  return state;
}

/** A track as a file, and what ffprobe and mkvinfo say of it. */
async function fetched(token, path) {
  const response = await it.server.fetch(path, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200, `${path}: ${response.status}`);
  return { type: response.headers.get("content-type"), bytes: Buffer.from(await response.arrayBuffer()) };
}

const folder = mkdtempSync(join(tmpdir(), "antiphon-recordings-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));

async function probe(bytes, name) {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const show = ["-v", "error", "-show_entries", "stream=codec_name:packet=pts_time,flags", "-of", "json"];
  const { stdout, stderr } = await run("ffprobe", [...show, path], { maxBuffer: 1 << 26 });
  assert.equal(stderr, "", `ffprobe of ${name}`);
  // In the file's own milliseconds: pictures that come close together are no error.
  const decoded = await run("ffmpeg", ["-v", "error", "-i", path, "-enc_time_base", "-1", "-f", "null", "-"]);
  assert.equal(decoded.stderr, "", `ffmpeg of ${name}`);
  const { packets, streams } = JSON.parse(stdout);
  return { codec: streams[0].codec_name, times: packets.map(p => Number(p.pts_time)), first: packets[0].flags };
}

/** The loudest of these frequencies in each tenth of a second of a WAV file; 0: silence. */
function tones(bytes, frequencies) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rate = view.getUint32(24, true);
  const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset + 44, bytes.byteOffset + (bytes.byteLength & ~1)));
  const found = [];
  for (let at = 0; at + rate / 10 <= samples.length; at += rate / 10) {
    const part = samples.subarray(at, at + rate / 10);
    const power = hertz => {
      let [re, im] = [0, 0];
      part.forEach((s, i) => {
        re += s * Math.cos((2 * Math.PI * hertz * i) / rate);
        im += s * Math.sin((2 * Math.PI * hertz * i) / rate);
      });
      return Math.hypot(re, im) / part.length;
    };
    const powers = frequencies.map(power);
    const most = Math.max(...powers);
    found.push(most > 200 ? frequencies[powers.indexOf(most)] : 0);
  }
  return found;
}

const shown = (person, state) =>
  person.until(`the sign says ${state}`, s => {
    const sign = document.querySelector("[data-testid=recording-sign]");
    return s === "none" ? !sign : sign?.dataset.state === s;
  }, state);

test("nothing is on the disk before all have agreed, nothing of a pause ever, and the rest is read back", { timeout: 150_000 }, async () => {
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const identity = "ada-lovelace-1815";
  const ada = await it.join(it.chromium, room, "Ada Lovelace", { token: await it.server.token(room, { identity }), fake: { tone: 440 } });
  const ben = await it.join(it.chromium, room, "Ben", { fake: { tone: 700 } });
  const bot = await it.python("recorded.py", room, "--hertz", "1200");
  const { id: botId } = await bot.event("joined");
  const path = `/v1/rooms/${room}/recordings`;

  const disk = watchFolder();
  const started = await ask(record, "POST", path, { consent: "required", tags: { case: "4711" } });
  assert.equal(started.status, 201, JSON.stringify(started.json));
  const { id } = started.json;
  assert.equal(started.json.state, "announcing");
  const again = await ask(record, "POST", path);
  assert.deepEqual([again.status, again.json.error.code], [409, "already_running"]);
  const told = await bot.event("recording");
  assert.deepEqual([told.recording, told.state, told.consent], [id, "announcing", true]);
  await shown(ada, "announcing");
  await ada.screenshot("recording-consent");
  await ada.page.locator("[data-testid=recording-agree]").click();
  const waiting = async () => (await ask(record, "GET", `${path}/${id}`)).json.waiting;
  await until("only Ben is waited for", async () => {
    const who = await waiting();
    return who.length === 1 && who[0].participant === ben.id;
  });
  // Everybody but Ben has agreed; two seconds of sound have gone by in the call.
  const looks = disk.looks;
  const heard = await ada.evaluate(() => performance.now());
  await until("the watcher has looked often", async () =>
    disk.looks > looks + 20 && (await ada.evaluate(() => performance.now())) > heard + 2_000);
  assert.equal(disk.changed, undefined, "something was written before Ben had agreed");
  const agreedAt = Date.now();
  await ben.page.locator("[data-testid=recording-agree]").click();
  await Promise.all([shown(ada, "recording"), shown(ben, "recording")]);
  await ada.screenshot("recording-sign");
  await until("it is on the disk", () => disk.changed);
  disk.end();
  assert.ok(disk.changed.at >= agreedAt, "and not before");

  const listed = async () => (await ask(record, "GET", `${path}/${id}/tracks`)).json.tracks;
  const all = await until("the tracks of all three", async () => {
    const now = await listed();
    return now.length >= 5 && now;
  });
  const find = (who, source) => all.find(t => t.participant === who && t.source === source);
  const voice = find(ada.id, "microphone");
  const face = find(ada.id, "camera");
  assert.deepEqual([voice.codec, voice.files, face.codec, face.files], ["opus", ["webm", "mkv", "wav"], "vp8", ["webm", "mkv"]]);
  const followed = fetched(record, `${path}/${id}/tracks/${voice.track}.wav?follow=1`);
  const early = await until("a part can be read in the call", async () => {
    const response = await it.server.fetch(`${path}/${id}/tracks/${face.track}.webm`, { headers: { authorization: `Bearer ${record}` } });
    return response.ok && Buffer.from(await response.arrayBuffer());
  });
  assert.equal((await probe(early, "early.webm")).codec, "vp8");

  // In the pause Ada's voice has another pitch.
  const start = (await ask(record, "GET", `${path}/${id}`)).json.start_time_ms;
  const paused = await ask(record, "POST", `${path}/${id}:pause`);
  assert.deepEqual([paused.status, paused.json.state], [200, "paused"], JSON.stringify(paused.json));
  const pauseFrom = Date.now() - start;
  await shown(ben, "paused");
  await ada.evaluate(() => {
    window.__voice.oscillator.frequency.value = 2_000;
  });
  const pausedAt = Date.now();
  await until("three seconds of the pause", () => Date.now() > pausedAt + 3_000);
  await ada.evaluate(() => {
    window.__voice.oscillator.frequency.value = 440;
  });
  // What was said with that pitch is still in buffers of the page and of the way.
  const lowAt = Date.now();
  await until("the pitch is the old one everywhere", () => Date.now() > lowAt + 1_000);
  const pauseTo = Date.now() - start;
  assert.equal((await ask(record, "POST", `${path}/${id}:resume`)).status, 200);
  await shown(ben, "recording");
  const resumedAt = Date.now();
  await until("three more seconds", () => Date.now() > resumedAt + 3_000);

  const mutedFrom = Date.now() - start;
  await ben.click("mic-toggle");
  const tile = `[data-testid=tile][data-participant="${ben.id}"]`;
  await ada.until("the mark for muted", t => !!document.querySelector(`${t} [data-testid=muted]`), tile);
  await ben.click("mic-toggle");
  await ada.until("no mark for muted", t => !document.querySelector(`${t} [data-testid=muted]`), tile);
  const stopped = await ask(record, "POST", `${path}/${id}:stop`);
  assert.deepEqual([stopped.status, stopped.json.state], [200, "stopped"], JSON.stringify(stopped.json));
  await shown(ada, "none");
  const length = stopped.json.stop_time_ms - stopped.json.start_time_ms;

  const within = (times, name) => {
    assert.ok(times.every((t, i) => i === 0 || t >= times[i - 1]), `${name}: in order`);
    const during = times.filter(t => t * 1000 > pauseFrom + 50 && t * 1000 < pauseTo - 400);
    assert.deepEqual(during, [], `${name}: nothing of the pause`);
    assert.ok(times.at(-1) * 1000 > pauseTo + 1_500 && times.at(-1) * 1000 < length + 500, `${name}: ${times.at(-1)} of ${length}`);
  };
  for (const [track, ending, codec, type] of [
    [voice, "webm", "opus", "audio/webm"],
    [voice, "mkv", "opus", "audio/x-matroska"],
    [face, "webm", "vp8", "video/webm"],
    [face, "mkv", "vp8", "video/x-matroska"],
  ]) {
    const file = await fetched(record, `${path}/${id}/tracks/${track.track}.${ending}`);
    assert.equal(file.type, type);
    const probed = await probe(file.bytes, `${track.source}.${ending}`);
    assert.equal(probed.codec, codec);
    assert.match(probed.first, /^K/);
    within(probed.times, `${track.source}.${ending}`);
    await run("mkvinfo", [join(folder, `${track.source}.${ending}`)]);
  }

  const whole = (await fetched(record, `${path}/${id}/tracks/${voice.track}.wav`)).bytes;
  const tenths = tones(whole, [440, 700, 1200, 2000]);
  const text = JSON.stringify(tenths);
  assert.ok(Math.abs(tenths.length * 100 - length) < 600, `${tenths.length} tenths of ${length} ms`);
  assert.ok(!tenths.some(hertz => hertz !== 440 && hertz !== 0), `only Ada, and nothing of the pause: ${text}`);
  const silent = tenths.slice(Math.ceil(pauseFrom / 100) + 2, Math.floor(pauseTo / 100) - 4);
  assert.ok(silent.length > 20 && silent.every(hertz => hertz === 0), `the pause is silent: ${text}`);
  assert.ok(tenths.slice(Math.ceil(pauseTo / 100) + 5).filter(hertz => hertz === 440).length > 15, text);
  const live = tones((await followed).bytes, [440]);
  assert.ok(Math.abs(live.length - tenths.length) <= 6, `followed: ${live.length} of ${tenths.length} tenths`);

  const part = await fetched(record, `${path}/${id}/tracks/${voice.track}.wav?from=1000&to=2500`);
  assert.equal(part.bytes.length, 44 + 1_500 * 96);
  const from = pauseTo + 500; // Before the pause there may be less than a second.
  const cut = await probe((await fetched(record, `${path}/${id}/tracks/${face.track}.webm?from=${from}&to=${from + 1_500}`)).bytes, "cut.webm");
  assert.match(cut.first, /^K/);
  assert.ok(cut.times.length > 10 && cut.times.at(-1) < 1.6, JSON.stringify(cut.times));
  for (const [name, code] of [[`${face.track}.wav`, 400], ["99.webm", 404], ["1.exe", 404], [`${voice.track}.wav?from=5&to=5`, 400]]) {
    assert.equal((await ask(record, "GET", `${path}/${id}/tracks/${name}`)).status, code, name);
  }

  const timeline = (await ask(record, "GET", `${path}/${id}/timeline`)).json;
  const events = timeline.events.map(e => e.event);
  const joined = timeline.events.filter(e => e.event === "participant_joined").map(e => e.participant);
  assert.deepEqual([...new Set(joined)].sort(), [ada.id, ben.id, botId].sort());
  assert.deepEqual([events[0], events.at(-1)], ["started", "stopped"]);
  assert.ok(events.includes("speakers") && events.includes("dominant"), JSON.stringify(events));
  const at = name => timeline.events.find(e => e.event === name).at_ms;
  assert.ok(Math.abs(at("paused") - pauseFrom) < 500 && Math.abs(at("resumed") - pauseTo) < 500);
  assert.equal(timeline.tags.case, "4711");
  const mutes = timeline.events.filter(e => ["muted", "unmuted"].includes(e.event));
  assert.deepEqual(mutes.map(e => [e.event, e.participant, e.source]), [["muted", ben.id, "microphone"], ["unmuted", ben.id, "microphone"]]);
  assert.ok(mutes[0].at_ms > mutedFrom - 50 && mutes[1].at_ms < length && mutes[0].at_ms < mutes[1].at_ms, JSON.stringify(mutes));
  const speaks = who => timeline.events.some(e => e.event === "speakers" && e.speakers.some(s => s.participant === who && s.level < 60));
  for (const who of [ada.id, ben.id, botId]) assert.ok(speaks(who), `${who} is heard in the timeline`);
  const places = joined.map(who => timeline.events.find(e => e.event === "participant_joined" && e.participant === who).at_ms);
  assert.ok(places.every(at_ms => at_ms >= 0 && at_ms < 1_000), "all were there when it began");

  // A layout of one's own, by the timeline and the tracks alone: whoever leads stands first, and all are in step.
  const other = find(ben.id, "camera");
  const faces = [[ada.id, face], [ben.id, other]];
  for (const [who, track] of faces) {
    writeFileSync(join(folder, `${who}.webm`), (await fetched(record, `${path}/${id}/tracks/${track.track}.webm`)).bytes);
  }
  writeFileSync(join(folder, "timeline.json"), JSON.stringify(timeline));
  const { stdout: rendered } = await run(PYTHON, [join(SCRIPTS, "layout.py"), folder, join(folder, "layout.webm")], { maxBuffer: 1 << 26 });
  const laid = JSON.parse(rendered);
  const outside = laid.filter(({ at_ms }) => at_ms > 1_500 && (at_ms < pauseFrom - 300 || at_ms > pauseTo + 1_500));
  const both = outside.filter(({ cells }) => cells.length === 2 && cells.every(cell => cell.number !== null));
  const apart = both.map(({ cells }) => Math.abs(((cells[0].number - cells[1].number + 0x18000) & 0xffff) - 0x8000));
  const seen = JSON.stringify({ outside: outside.length, apart });
  // A quick machine has been through all of it in a second and a half.
  assert.ok(outside.length >= 5 && both.length > outside.length * 0.8, `both are in the picture: ${seen}`);
  assert.ok(apart.filter(frames => frames <= 9).length > both.length * 0.8, `in step within 0.3 s at 30 pictures a second: ${seen}`);
  const picture = await probe(readFileSync(join(folder, "layout.webm")), "layout-probed.webm");
  assert.equal(picture.times.length, laid.length);

  // What lies on the disk tells nothing.
  const mkv = (await fetched(record, `${path}/${id}/tracks/${voice.track}.mkv`)).bytes;
  const middle = Math.floor(mkv.length / 2);
  const { read, found } = search(it.server.data, [identity, id, "recording-", "Ada Lovelace", mkv.subarray(middle, middle + 48)]);
  assert.deepEqual(found, []);
  assert.ok(read > 100_000, `${read} bytes are there at all`);

  const stranger = await it.server.token("another", { grants: "record" });
  assert.equal((await ask(stranger, "GET", `${path}/${id}`)).status, 403);
  assert.equal((await ask(await it.server.token(room), "GET", path)).status, 403);
  assert.equal((await ask(record, "DELETE", `${path}/${id}`)).status, 204);
  assert.equal((await ask(record, "GET", `${path}/${id}`)).status, 404);
  assert.deepEqual((await ask(record, "GET", path)).json.recordings, []);
});

test("who does not agree is not kept, and who records from the page sees it", { timeout: 90_000 }, async () => {
  const room = it.room();
  const grants = "publish,subscribe,record";
  const ada = await it.join(it.chromium, room, "Ada", { token: await it.server.token(room, { grants }), fake: { tone: 440 } });
  const record = await it.server.token(room, { grants: "record" });
  await ada.page.locator("[data-testid=recording-toggle]").click();
  await shown(ada, "recording");
  const [{ id, consent }] = (await ask(record, "GET", `/v1/rooms/${room}/recordings`)).json.recordings;
  assert.equal(consent, "announced");
  await ada.page.locator("[data-testid=recording-toggle]").click();
  await shown(ada, "none");
  const path = `/v1/rooms/${room}/recordings`;
  await until("it is over", async () => (await ask(record, "GET", `${path}/${id}`)).json.state === "stopped");

  const asked = await ask(record, "POST", path, { consent: "required", video: false });
  assert.equal(asked.status, 201);
  await ada.page.locator("[data-testid=recording-agree]").click();
  await shown(ada, "recording");
  // Ben comes later, and says no.
  const ben = await it.join(it.chromium, room, "Ben", { fake: { tone: 700 } });
  await ben.page.locator("[data-testid=recording-refuse]").click();
  const status = async () => (await ask(record, "GET", `${path}/${asked.json.id}`)).json;
  await until("he is listed", async () => (await status()).waiting.some(w => w.participant === ben.id && w.refused));
  await until("Ada is kept", async () => (await status()).tracks === 1);
  const at = Date.now();
  await until("two seconds of both", () => Date.now() > at + 2_000);
  assert.equal((await ask(record, "POST", `${path}/${asked.json.id}:stop`)).status, 200);
  const { tracks } = (await ask(record, "GET", `${path}/${asked.json.id}/tracks`)).json;
  assert.deepEqual(tracks.map(t => [t.participant, t.source]), [[ada.id, "microphone"]]);
  const timeline = (await ask(record, "GET", `${path}/${asked.json.id}/timeline`)).json;
  assert.ok(!JSON.stringify(timeline).includes(ben.id), "not in the timeline either");
});

test("H.264 is kept with lengths and avcC", { timeout: 60_000 }, async () => {
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const bot = await it.python("inject_h264.py", room);
  const { id: who } = await bot.event("ready");
  const path = `/v1/rooms/${room}/recordings`;
  const { status, json } = await ask(record, "POST", path);
  assert.equal(status, 201, JSON.stringify(json));
  const tracks = async () => (await ask(record, "GET", `${path}/${json.id}/tracks`)).json.tracks;
  const [track] = await until("the track", async () => {
    const now = await tracks();
    return now.length > 0 && now;
  });
  assert.deepEqual([track.participant, track.codec, track.files], [who, "h264", ["mkv"]]);
  const at = Date.now();
  await until("three seconds", () => Date.now() > at + 3_000);
  assert.equal((await ask(record, "POST", `${path}/${json.id}:stop`)).status, 200);
  const probed = await probe((await fetched(record, `${path}/${json.id}/tracks/1.mkv`)).bytes, "h264.mkv");
  assert.equal(probed.codec, "h264");
  assert.match(probed.first, /^K/);
  assert.ok(probed.times.length > 25, `${probed.times.length} pictures`);
  const webm = await ask(record, "GET", `${path}/${json.id}/tracks/1.webm`);
  assert.deepEqual([webm.status, webm.json.error.code], [400, "bad_request"]);
});

test("of who speaks in a codec that is not kept the timeline has all but the sound, and says so", { timeout: 60_000 }, async () => {
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const [opus, ...others] = await Promise.all(["opus", "PCMU", "G722"].map(async codec => {
    const speaker = await it.python("whip.py", room, "--codec", codec, "--seconds", 40);
    return (await speaker.event("ready")).id;
  }));
  const leftOut = async () => Number(/^antiphon_recording_tracks_left_out_total (\d+)$/m.exec(await (await it.server.fetch("/metrics")).text())[1]);
  const before = await leftOut();
  const path = `/v1/rooms/${room}/recordings`;
  const { json } = await ask(record, "POST", path);
  const timeline = async () => (await ask(record, "GET", `${path}/${json.id}/timeline`)).json;
  const loud = (events, who) => events.some(e => e.event === "speakers" && e.speakers.some(s => s.participant === who));
  await until("all three are heard", async () => {
    const { events } = await timeline();
    return [opus, ...others].every(who => loud(events, who));
  });
  await until("the tracks that are not kept are counted", async () => (await leftOut()) === before + others.length);
  assert.equal((await ask(record, "POST", `${path}/${json.id}:stop`)).status, 200);
  const { events, tracks } = await timeline();
  assert.deepEqual(tracks.map(t => [t.participant, t.codec]), [[opus, "opus"]]);
  assert.deepEqual(events.filter(e => e.event === "track_started").map(e => e.participant), [opus]);
  const without = events.filter(e => e.event === "track_left_out").map(e => [e.participant, e.source, e.codec]);
  assert.deepEqual(without.sort(), [[others[0], "microphone", "pcmu"], [others[1], "microphone", "g722"]].sort());
  const joined = events.filter(e => e.event === "participant_joined").map(e => e.participant);
  assert.deepEqual(joined.sort(), [opus, ...others].sort());
  assert.equal(await leftOut(), before + others.length, "each once");
});

/** The frames of a file, each with its milliseconds and the hash of its bytes; and the hash of `CodecPrivate`, where there is one. */
async function packets(bytes, name) {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const show = ["-v", "error", "-show_data_hash", "sha256", "-show_entries", "stream=extradata_hash:packet=pts_time,flags,data_hash", "-of", "json"];
  const { stdout, stderr } = await run("ffprobe", [...show, path], { maxBuffer: 1 << 26 });
  assert.equal(stderr, "", `ffprobe of ${name}`);
  const hash = text => text?.split(":")[1].toLowerCase();
  const { packets: found, streams } = JSON.parse(stdout);
  const frame = p => ({ at: Math.round(Number(p.pts_time) * 1000), key: p.flags.startsWith("K"), hash: hash(p.data_hash) });
  return { frames: found.map(frame), private: hash(streams[0].extradata_hash) };
}

test("what is kept of a track is byte by byte what was sent", { timeout: 60_000 }, async () => {
  const room = it.room();
  const record = await it.server.token(room, { grants: "record" });
  const bot = await it.python("inject_vp8.py", room, "--seconds", 4);
  await bot.event("ready");
  const path = `/v1/rooms/${room}/recordings`;
  const { status, json } = await ask(record, "POST", path);
  assert.equal(status, 201, JSON.stringify(json));
  const { hashes } = await bot.event("sent", 40_000);
  assert.equal((await ask(record, "POST", `${path}/${json.id}:stop`)).status, 200);
  const file = (await fetched(record, `${path}/${json.id}/tracks/1.mkv`)).bytes;
  const kept = (await packets(file, "sent.mkv")).frames.map(frame => frame.hash);
  assert.ok(kept.length > 60, `${kept.length} frames are kept`);
  // It shows the same two seconds again and again, each time from its key frame.
  assert.deepEqual(kept, kept.map((_, i) => hashes[i % hashes.length]), "each frame, none left out, none changed");
});

/** A track that is read while it grows: what has come of it, and the whole when it has ended. */
async function following(token, path) {
  const response = await it.server.fetch(`${path}?follow=1`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200, `${path}: ${response.status}`);
  const come = [];
  const whole = async () => {
    for await (const piece of response.body) come.push(piece);
    return Buffer.concat(come);
  };
  return { come: () => Buffer.concat(come), whole: whole() };
}

/** `Duration` in the head of a Matroska file, in milliseconds. */
const duration = bytes => bytes.readDoubleBE(bytes.indexOf(Buffer.from("448910000008", "hex")) + 6);

/** What a part of a track has to have: of pictures from the key picture on that it is shown by, in no time. */
function partOf(frames, from, to) {
  const first = frames.findIndex(({ at }) => at >= from);
  const begin = frames.findLastIndex(({ key }, i) => key && i <= first);
  const last = frames.findIndex(({ at }) => at >= to);
  return frames.slice(begin, last).map(({ at, key, hash }) => ({ at: Math.max(0, at - from), key, hash }));
}

for (const [codec, ending] of [["H264", "mkv"], ["VP8", "webm"]]) {
  test(`Opus and ${codec} are kept byte by byte, and are read by parts and followed while the call goes on`, { timeout: 60_000 }, async () => {
    const room = it.room();
    const record = await it.server.token(room, { grants: "record" });
    const sender = await it.python("as_sent.py", room, "--codec", codec, "--seconds", 4);
    await sender.event("ready");
    const started = await ask(record, "POST", `/v1/rooms/${room}/recordings`);
    const path = `/v1/rooms/${room}/recordings/${started.json.id}`;
    const state = async () => (await ask(record, "GET", path)).json.state;
    await until("it is recorded", async () => (await state()) === "recording");
    sender.say("go");
    const tracks = await until("both tracks", async () => {
      const { tracks } = (await ask(record, "GET", `${path}/tracks`)).json;
      return tracks.length === 2 && tracks;
    });
    const [voice, face] = ["opus", codec.toLowerCase()].map(name => tracks.find(track => track.codec === name));
    const files = [`${face.track}.${ending}`, `${voice.track}.webm`, `${voice.track}.mkv`, `${voice.track}.wav`];
    const [video, ...sounds] = files.map(name => `${path}/tracks/${name}`);
    const wav = sounds.pop();
    const followed = await Promise.all([sounds[1], video].map(file => following(record, file)));

    // In the call, as soon as the two seconds are stored that it is in.
    const [from, to] = [600, 1_900].map(ms => voice.from_ms + ms);
    const part = async file => (await fetched(record, `${file}?from=${from}&to=${to}`)).bytes;
    const parts = [video, ...sounds];
    const early = await until("all of the part is stored", async () => {
      const read = await Promise.all(parts.map(part));
      return read.every(bytes => duration(bytes) === to - from) && read;
    });
    const heard = await part(wav);
    assert.equal(await state(), "recording");

    const sent = await sender.event("sent");
    // What has come last is in no fragment that is stored: it has come by itself.
    for (const [i, last] of sent.last.entries()) {
      await until("the last frame has come to who follows", () => followed[i].come().includes(Buffer.from(last, "hex")));
    }
    assert.equal(await state(), "recording");
    assert.equal((await ask(record, "POST", `${path}:stop`)).status, 200);

    for (const [file, hashes, follower] of [[video, sent.pictures, followed[1]], [sounds[0], sent.sound], [sounds[1], sent.sound, followed[0]]]) {
      const whole = await packets((await fetched(record, file)).bytes, `whole.${ending}`);
      // What is sent before the room has told the recorder of a track is not kept, nor pictures before a key picture.
      const missed = hashes.length - whole.frames.length;
      assert.ok(missed < hashes.length / 4, `${file}: ${missed} of ${hashes.length} are missing`);
      assert.deepEqual(whole.frames.map(frame => frame.hash), hashes.slice(missed), `${file}: each frame as it was sent, to the last`);
      if (file === video) assert.equal(whole.private, sent.private ?? undefined, "and what stands before them");
      if (follower) assert.deepEqual(await packets(await follower.whole, `followed.${ending}`), whole, `${file}: nothing is missing to who followed`);
      const read = early[parts.indexOf(file)];
      assert.ok(read.equals(await part(file)), `${file}: the part is the same after the call`);
      assert.deepEqual((await packets(read, `part.${ending}`)).frames, partOf(whole.frames, from, to), `${file}: the part`);
    }
    assert.equal(heard.length, 44 + (to - from) * 96);
    assert.ok(heard.equals(await part(wav)), "the part of the sound is the same after the call");
    assert.deepEqual([...new Set(tones(heard, [440, 660, 880]))], [660]);
  });
}

/** Heights and checksums of all pictures that FFmpeg decodes of a file; as many as there are packets, or it was not decoded whole. */
async function pictures(name, decoder) {
  const by = decoder ? ["-c:v", decoder] : [];
  const args = ["-nostats", ...by, "-i", join(folder, name), "-vf", "showinfo", "-enc_time_base", "-1", "-f", "null", "-"];
  const { stderr } = await run("ffmpeg", args, { maxBuffer: 1 << 26 });
  return [...stderr.matchAll(/ n: *\d+ .* s:\d+x(\d+) .* checksum:(\w+) /g)].map(([, height, sum]) => [Number(height), sum]);
}

for (const [what, codec, encodings, decoders = [undefined]] of [
  ["VP9", "VP9", undefined],
  // A superframe, of which only the upper layer is shown: FFmpeg's own decoder goes by the frames' marks, libvpx, which browsers have,
  // takes the last.
  ["VP9 of two spatial layers", "VP9", [{ scalabilityMode: "L2T3" }], [undefined, "libvpx-vp9"]],
  ["VP9 of two spatial layers by key pictures", "VP9", [{ scalabilityMode: "L2T3_KEY" }], [undefined, "libvpx-vp9"]],
  ["AV1", "AV1", undefined],
  ["VP8 by simulcast", "VP8", [{ rid: "h", scaleResolutionDownBy: 2 }, { rid: "f" }]],
]) {
  test(`${what} of a browser is kept, and decoded whole`, { timeout: 90_000 }, async t => {
    const room = it.room();
    const camera = await barePage(it, it.chromium, { width: 640, height: 360, fps: 15 });
    if (!(await canSend(camera, "video")).includes(`video/${codec}`)) return t.skip(`this Chromium sends no ${codec}`);
    const hashed = !encodings;
    const who = await publish(it, camera, room, { kind: "video", codec, name: "Camera", encodings, hashed });
    const record = await it.server.token(room, { grants: "record" });
    const path = `/v1/rooms/${room}/recordings`;
    const { status, json } = await ask(record, "POST", path);
    assert.equal(status, 201, JSON.stringify(json));
    const [track] = await until("the track", async () => {
      const { tracks } = (await ask(record, "GET", `${path}/${json.id}/tracks`)).json;
      return tracks.length > 0 && tracks;
    });
    assert.deepEqual([track.participant, track.codec, track.files], [who, codec.toLowerCase(), ["webm", "mkv"]]);
    const at = Date.now();
    await until("six seconds", () => Date.now() > at + 6_000);
    assert.equal((await ask(record, "POST", `${path}/${json.id}:stop`)).status, 200);
    for (const ending of ["webm", "mkv"]) {
      const name = `${codec}.${encodings?.length ?? 0}.${ending}`;
      const probed = await probe((await fetched(record, `${path}/${json.id}/tracks/${track.track}.${ending}`)).bytes, name);
      assert.equal(probed.codec, codec.toLowerCase());
      assert.match(probed.first, /^K/);
      const back = probed.times.findIndex((time, i) => i > 0 && time <= probed.times[i - 1]);
      assert.equal(back, -1, `${name}: in order, not ${probed.times.slice(Math.max(0, back - 3), back + 3)}`);
      const decoded = await Promise.all(decoders.map(decoder => pictures(name, decoder)));
      assert.ok(decoded.every(other => JSON.stringify(other) === JSON.stringify(decoded[0])), "each decoder shows the same, bit by bit");
      for (const [i, decoder] of decoders.entries()) {
        const shown = decoded[i].map(([height]) => height);
        const text = JSON.stringify({ decoder, packets: probed.times.length, last: probed.times.at(-1), shown });
        // AV1 and VP9 may have pictures that are not shown by themselves; here a packet is a picture.
        assert.equal(shown.length, probed.times.length, `every picture is decoded: ${text}`);
        assert.ok(shown.length > 40 && probed.times.at(-1) > 4.5, text);
        assert.equal(shown.at(-1), 360, `the largest layer: ${text}`);
      }
      await run("mkvinfo", [join(folder, name)]);
      if (!hashed) continue;
      const kept = (await packets(readFileSync(join(folder, name)), name)).frames.map(frame => frame.hash);
      const sent = await sentHashes(camera);
      const begin = sent.indexOf(kept[0]);
      assert.deepEqual(kept, sent.slice(begin, begin + kept.length), "each frame as it was sent, none left out");
    }
  });
}
