// libdatachannel, by node-datachannel. `datachannel.js URL ROOM --token TOKEN publish|play CODEC [WHO]`

import { once } from "node:events";
import { PassThrough } from "node:stream";
import nodeDataChannel from "node-datachannel";
import { args, exchange, FORMAT, fromFfmpeg, isRtcp, kind, PAYLOAD_TYPE, toFfmpeg } from "./session.js";

const SSRC = 0x0a_0b_0c_0d;
const pc = new nodeDataChannel.PeerConnection("interop", { iceServers: [], disableAutoNegotiation: true });
const direction = args.publishes ? "SendOnly" : "RecvOnly";
const line = new nodeDataChannel[kind === "video" ? "Video" : "Audio"]("0", direction);
if (kind === "video") line.addVideoCodec(PAYLOAD_TYPE, args.codec, ...(FORMAT ? [FORMAT] : []));
else if (args.codec === "opus") line.addOpusCodec(PAYLOAD_TYPE);
else line.addAudioCodec(PAYLOAD_TYPE, args.codec);
if (args.publishes) line.addSSRC(SSRC, "interop", "stream", "track");
const track = pc.addTrack(line);
const gathered = new PassThrough();
pc.onGatheringStateChange(state => state === "complete" && gathered.end());
pc.setLocalDescription("offer");
await once(gathered.resume(), "end");
if (!args.publishes) {
  track.setMediaHandler(new nodeDataChannel.RtcpReceivingSession());
  const pass = toFfmpeg();
  track.onMessage(async packet => {
    if (!isRtcp(packet)) (await pass)(Buffer.from(packet));
  });
}
pc.setRemoteDescription(await exchange(pc.localDescription().sdp), "answer");
if (args.publishes) {
  await fromFfmpeg(packet => {
    packet[1] = (packet[1] & 0x80) | PAYLOAD_TYPE;
    packet.writeUInt32BE(SSRC, 8);
    if (track.isOpen()) track.sendMessageBinary(packet);
  });
}
