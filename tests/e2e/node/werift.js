// werift: a WebRTC stack in TypeScript. `werift.js URL ROOM --token TOKEN publish|play CODEC [WHO]`

import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from "werift";
import { args, CHANNELS, CLOCK_RATE, exchange, FORMAT, fromFfmpeg, kind, PAYLOAD_TYPE, toFfmpeg } from "./session.js";

const codec = new RTCRtpCodecParameters({
  mimeType: `${kind}/${args.codec}`,
  clockRate: CLOCK_RATE,
  channels: kind === "audio" ? CHANNELS : undefined,
  payloadType: PAYLOAD_TYPE,
  parameters: FORMAT,
  rtcpFeedback: kind === "video" ? [{ type: "nack" }, { type: "nack", parameter: "pli" }, { type: "goog-remb" }] : [],
});
const pc = new RTCPeerConnection({ codecs: { [kind]: [codec] }, bundlePolicy: "max-bundle", iceServers: [] });
const track = new MediaStreamTrack({ kind });
const line = args.publishes
  ? pc.addTransceiver(track, { direction: "sendonly" })
  : pc.addTransceiver(kind, { direction: "recvonly" });
if (!args.publishes) {
  const pass = toFfmpeg();
  line.onTrack.subscribe(remote => {
    remote.onReceiveRtp.subscribe(async rtp => (await pass)(rtp.serialize()));
  });
}
const offer = await pc.createOffer();
// Without servers it would ask Google's.
for (const transport of pc.iceTransports) transport.connection.stunServer = undefined;
await pc.setLocalDescription(offer);
await pc.setRemoteDescription({ type: "answer", sdp: await exchange(pc.localDescription.sdp) });
if (args.publishes) await fromFfmpeg(packet => track.writeRtp(packet));
