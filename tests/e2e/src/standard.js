// Pages without the web client: a bare RTCPeerConnection that publishes by WHIP (RFC 9725) or plays by WHEP, with the
// codecs that the test wants.

import { until } from "./until.js";

/** Opens a page of the server's origin that joins nothing by itself. */
export function barePage(it, browser, fake) {
  return browser.open(`${it.server.url}/livez`, { fake });
}

/** Names of the codecs that a page can send, like "video/VP8". */
export function canSend(person, kind) {
  return person.evaluate(
    k => [...new Set(RTCRtpSender.getCapabilities(k).codecs.map(codec => codec.mimeType))],
    kind,
  );
}

/**
 * Publishes the page's fake camera or microphone in this codec alone, in these `encodings` (RTCRtpEncodingParameters). With `hashed`
 * the page notes what it sends: `sentHashes`. Gives the participant's id; who wants to change the session needs the `token`.
 */
export async function publish(it, person, room, { kind, codec, name, encodings, hashed = false, token }) {
  const bearer = token ?? (await it.server.token(room));
  const location = await person.evaluate(
    async ([path, own, wanted]) => {
      const pc = new RTCPeerConnection({ encodedInsertableStreams: wanted.hashed });
      const video = wanted.kind === "video";
      const media = await navigator.mediaDevices.getUserMedia({ audio: !video, video });
      const [track] = media.getTracks();
      const sendEncodings = wanted.encodings ?? [{}];
      const line = pc.addTransceiver(track, { direction: "sendonly", streams: [media], sendEncodings });
      if (wanted.hashed) {
        window.__sent = [];
        const note = (frame, controller) => {
          window.__sent.push(crypto.subtle.digest("SHA-256", frame.data.slice(wanted.codec === "AV1" ? 2 : 0)));
          controller.enqueue(frame);
        };
        const { readable, writable } = line.sender.createEncodedStreams();
        readable.pipeThrough(new TransformStream({ transform: note })).pipeTo(writable);
      }
      const { codecs } = RTCRtpSender.getCapabilities(wanted.kind);
      const only = [`${wanted.kind}/${wanted.codec}`, "video/rtx"].map(type => type.toLowerCase());
      line.setCodecPreferences(codecs.filter(c => only.includes(c.mimeType.toLowerCase())));
      await pc.setLocalDescription();
      const headers = {
        Authorization: `Bearer ${own}`,
        "Content-Type": "application/sdp",
        "Antiphon-Name": encodeURIComponent(wanted.name),
      };
      const response = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
      const text = await response.text();
      if (response.status !== 201) throw new Error(`${path}: ${response.status} ${text}`);
      await pc.setRemoteDescription({ type: "answer", sdp: text });
      return response.headers.get("Location");
    },
    [`/whip/${room}`, bearer, { kind, codec, name, encodings, hashed }],
  );
  return location.slice(location.lastIndexOf("/") + 1);
}

/** The hashes of all frames that a page has encoded and sent; of AV1 without the temporal delimiter, which neither RTP nor containers have. */
export function sentHashes(person) {
  return person.evaluate(async () => {
    const digests = await Promise.all(window.__sent);
    return digests.map(digest => [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, "0")).join(""));
  });
}

/**
 * Plays one participant in `#player`, a <video> or <audio>. Gives the player's token and resource, and the URLs of its
 * extensions by the last word of their names.
 */
export async function play(it, person, room, { kind, participant }) {
  const token = await it.server.token(room);
  const [resource, link] = await person.evaluate(
    async ([path, bearer, wanted]) => {
      const pc = new RTCPeerConnection();
      const element = Object.assign(document.createElement(wanted), { id: "player", autoplay: true });
      document.body.append(element);
      const { receiver } = pc.addTransceiver(wanted, { direction: "recvonly" });
      element.srcObject = new MediaStream([receiver.track]);
      await pc.setLocalDescription();
      const headers = { Authorization: `Bearer ${bearer}`, "Content-Type": "application/sdp" };
      const response = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
      const text = await response.text();
      if (response.status !== 201) throw new Error(`${path}: ${response.status} ${text}`);
      await pc.setRemoteDescription({ type: "answer", sdp: text });
      return [response.headers.get("Location"), response.headers.get("Link")];
    },
    [`/whep/${room}/${participant}`, token, kind],
  );
  const links = [...link.matchAll(/<([^>]+)>; rel="urn:ietf:params:whep:ext:core:([^"]+)"/g)];
  const absolute = path => new URL(path, it.server.url).href;
  return { token, resource: absolute(resource), ...Object.fromEntries(links.map(([, to, rel]) => [rel, absolute(to)])) };
}

/**
 * Restarts ICE of the first connection of a page, which made the offer, by PATCH of its resource (RFC 9725, 4.3.2), and waits until media
 * goes over the new session. Gives the status, the new entity tag, and the server's new credentials, which the tag names.
 */
export async function restartIce(person, { resource, token, match }) {
  const { local, ...said } = await person.evaluate(
    async ([url, bearer, tag]) => {
      const [pc] = window.__connections;
      const answer = pc.remoteDescription.sdp;
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const gathered = () => pc.iceGatheringState === "complete";
      while (!gathered()) await new Promise(resolve => pc.addEventListener("icegatheringstatechange", resolve, { once: true }));
      const lines = pc.localDescription.sdp.split("\r\n");
      const begin = lines.findIndex(line => line.startsWith("m="));
      const second = lines.findIndex((line, i) => i > begin && line.startsWith("m="));
      const first = lines.slice(begin, second < 0 ? undefined : second);
      const wanted = ["m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"];
      const fragment = first.filter(line => wanted.some(name => line.startsWith(name)));
      const headers = { Authorization: `Bearer ${bearer}`, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag };
      const reply = await fetch(url, { method: "PATCH", headers, body: `${fragment.join("\r\n")}\r\n` });
      const told = await reply.text();
      if (reply.status !== 200) throw new Error(`${url}: ${reply.status} ${told}`);
      const [ufrag, pwd] = ["ufrag", "pwd"].map(name => told.match(new RegExp(`a=ice-${name}:(\\S+)`))?.[1]);
      const renewed = answer.replace(/a=ice-ufrag:\S+/g, `a=ice-ufrag:${ufrag}`).replace(/a=ice-pwd:\S+/g, `a=ice-pwd:${pwd}`);
      await pc.setRemoteDescription({ type: "answer", sdp: renewed });
      const local = pc.localDescription.sdp.match(/a=ice-ufrag:(\S+)/)[1];
      return { local, status: reply.status, tag: reply.headers.get("ETag"), ufrag };
    },
    [resource, token, match],
  );
  await person.until(
    "the new session is in use",
    async ufrag => {
      const stats = await window.__connections[0].getStats();
      const transport = [...stats.values()].find(s => s.type === "transport");
      const pair = stats.get(transport?.selectedCandidatePairId);
      return pair?.state === "succeeded" && stats.get(pair.localCandidateId)?.usernameFragment === ufrag;
    },
    local,
  );
  return said;
}

/** Plays one participant in `#player`, a <video>, by an offer of the server's. Gives the resource and what else the page could read of the answers. */
export async function playOffered(it, person, room, { participant, token }) {
  return person.evaluate(
    async ([endpoint, bearer]) => {
      const pc = new RTCPeerConnection();
      const element = Object.assign(document.createElement("video"), { id: "player", autoplay: true });
      document.body.append(element);
      pc.ontrack = ({ streams }) => {
        element.srcObject = streams[0];
      };
      const own = { Authorization: `Bearer ${bearer}` };
      const posted = await fetch(endpoint, { method: "POST", headers: own });
      const resource = new URL(posted.headers.get("Location"), endpoint).href;
      await pc.setRemoteDescription({ type: "offer", sdp: await posted.text() });
      await pc.setLocalDescription();
      const headers = { ...own, "Content-Type": "application/sdp" };
      const answered = await fetch(resource, { method: "PATCH", headers, body: pc.localDescription.sdp });
      return { resource, posted: posted.status, answered: answered.status, link: posted.headers.get("Link") };
    },
    [`${it.server.url}/whep/${room}/${participant}`, token],
  );
}

/** Which codec the first connection of a page sends or receives, like "video/VP8"; undefined while nothing flows. */
export function codecInUse(person, type) {
  return person.evaluate(async wanted => {
    const stats = await window.__connections[0].getStats();
    const flow = [...stats.values()].find(s => s.type === wanted && s.codecId);
    return flow && stats.get(flow.codecId)?.mimeType;
  }, type);
}

/** Waits until so many readable pictures were shown in `#player`; gives what was seen. */
export async function sees(person, pictures, fps) {
  await person.evaluate(([s, f]) => window.__watch(s, f), ["#player", fps]);
  const enough = n => {
    const seen = window.__seen("#player");
    return seen && seen.pictures - seen.unreadable >= n && seen;
  };
  return person.until(`${pictures} pictures`, enough, pictures, 20_000);
}

/**
 * Joins a room as one who only watches: one video slot, shown in `#player`, and the control channel. `__policy(...)` in the
 * page replaces its policy.
 */
export async function watch(it, person, room, policy) {
  const token = await it.server.token(room);
  await person.evaluate(
    async ([path, bearer, first]) => {
      const pc = new RTCPeerConnection();
      const element = Object.assign(document.createElement("video"), { id: "player", autoplay: true, muted: true });
      document.body.append(element);
      const control = pc.createDataChannel("control");
      const { receiver } = pc.addTransceiver("video", { direction: "recvonly" });
      element.srcObject = new MediaStream([receiver.track]);
      await pc.setLocalDescription();
      const headers = {
        Authorization: `Bearer ${bearer}`,
        "Content-Type": "application/sdp",
        "Antiphon-Policy": JSON.stringify(first),
      };
      const response = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
      const text = await response.text();
      if (response.status !== 201) throw new Error(`${path}: ${response.status} ${text}`);
      await pc.setRemoteDescription({ type: "answer", sdp: text });
      let id = 0;
      window.__policy = next => control.send(JSON.stringify({ id: ++id, type: "policy", policy: next }));
    },
    [`/v1/rooms/${room}/participants`, token, policy],
  );
}

/** What the first connection of a page receives of video: height, pictures decoded, freezes, and how often it asked for a key frame. */
export function videoStats(person) {
  return person.evaluate(async () => {
    const all = [...(await window.__connections[0].getStats()).values()];
    const found = all.find(s => s.type === "inbound-rtp" && s.kind === "video");
    const { frameHeight: height, framesDecoded: decoded, freezeCount: freezes, pliCount: asked } = found ?? {};
    return found && { height, decoded, freezes, asked };
  });
}

/**
 * The layers of a page's camera as it sends them, by rid: whether it may, its height, bytes and pictures until now, and what the
 * encoder aims at in bits per second.
 */
export function sentLayers(person) {
  return person.evaluate(async () => {
    const connection = window.__antiphon?.room.peerConnection ?? window.__connections[0];
    const layers = [...(await connection.getStats()).values()].filter(s => s.type === "outbound-rtp" && s.rid);
    const layer = s => ({ active: s.active, height: s.frameHeight, bytes: s.bytesSent, pictures: s.framesEncoded, aim: s.targetBitrate });
    return Object.fromEntries(layers.map(s => [s.rid, layer(s)]));
  });
}

/** Waits until the first connection of a page receives pictures of that height. */
export async function shows(person, height, ms) {
  let last;
  const isShown = async () => {
    last = await videoStats(person);
    return last?.height === height;
  };
  await until(`${height} lines are shown`, isShown, ms).catch(error => {
    throw new Error(`${error.message} ${JSON.stringify(last)}`);
  });
}

/** Waits until the first connection of a page has decoded so many pictures more. */
export async function decodes(person, pictures) {
  const { decoded } = await videoStats(person);
  await until(`${pictures} pictures`, async () => (await videoStats(person)).decoded >= decoded + pictures);
}
