"""An unrelated stack publishes by WHIP: aiortc with a tone and numbered pictures."""

import asyncio
import fractions
import time

import av
import synth
from http_sdp import delete, post_sdp
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from program import arguments, main, say

WIDTH, HEIGHT, FPS = 640, 360, 15


class Tone(AudioStreamTrack):
    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.samples = synth.tone(frequency, 1.0, 48_000)
        self.n, self.begin = 0, time.monotonic()

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(max(0.0, self.begin + self.n * 0.02 - time.monotonic()))
        at = self.n * 960 % 48_000
        frame = av.AudioFrame.from_ndarray(self.samples[None, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.n * 960, fractions.Fraction(1, 48_000)
        self.n += 1
        return frame


class Numbers(VideoStreamTrack):
    async def recv(self) -> av.VideoFrame:
        pts, base = await self.next_timestamp()
        number = int(time.time() * FPS) & 0xFFFF
        frame = av.VideoFrame.from_ndarray(synth.picture(number, WIDTH, HEIGHT), format="rgb24")
        frame.pts, frame.time_base = pts, base
        return frame


async def work() -> None:
    args = arguments(("--tone", {"type": float, "default": 660}), ("--codec", {"default": ""}))
    pc = RTCPeerConnection()
    if not args.codec:
        pc.addTrack(Tone(args.tone))
        pc.addTrack(Numbers())
    for kind, track in (("audio", Tone(args.tone)), ("video", Numbers())):
        codecs = [c for c in RTCRtpSender.getCapabilities(kind).codecs if c.mimeType == f"{kind}/{args.codec}"]
        if codecs:
            pc.addTransceiver(track, direction="sendonly").setCodecPreferences(codecs)
    await pc.setLocalDescription(await pc.createOffer())
    answer, resource = await post_sdp(f"{args.url}/whip/{args.room}", args.token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    say("ready", resource=resource, id=resource.rsplit("/", 1)[1])
    try:
        await asyncio.sleep(args.seconds)
    finally:
        status = await delete(resource, args.token)
        await pc.close()
        say("left", status=status)


main(work)
