"""aiortc sends by WHIP what was encoded beforehand, sound and pictures, no packet like another: after a line on its standard input, each once. Says what
containers should have of all of it, and stays until its standard input ends."""

import asyncio
import fractions
import hashlib
import re
import sys
import time

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from http_sdp import post_sdp
from media import CODECS, FPS, HEIGHT, WIDTH, Codec, Tone, picture
from program import arguments, say


def encoder(codec: Codec) -> av.CodecContext:
    context = av.CodecContext.create(codec.encoder, "w")
    context.options = codec.options
    if codec.video:
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context.time_base, context.framerate = fractions.Fraction(1, FPS), fractions.Fraction(FPS)
        # A key picture three times a second, whatever the room asks for.
        context.gop_size, context.max_b_frames, context.bit_rate = FPS // 3, 0, 400_000
    else:
        context.sample_rate, context.layout, context.format = codec.rate, "stereo", "s16"
    return context


def noisy_picture(n: int) -> av.VideoFrame:
    """No other is like it."""
    clean = picture(n)
    luma = clean.planes[0]
    noise = np.random.default_rng(n).integers(0, 8, luma.buffer_size, np.uint8)
    luma.update(np.frombuffer(luma, np.uint8) // 2 + noise)
    return clean


def noisy_sound(tone: Tone, n: int) -> av.AudioFrame:
    clean = tone.frame(n)
    samples = clean.to_ndarray() + np.random.default_rng(n).integers(-300, 300, clean.samples * 2, np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = clean.sample_rate, clean.pts, clean.time_base
    return frame


def encode(name: str, seconds: float) -> list[bytes]:
    codec = CODECS[name]
    context, tone = encoder(codec), Tone(codec)
    count = int(seconds * (FPS if codec.video else 50))
    packets = [bytes(p) for n in range(count) for p in context.encode(noisy_picture(n) if codec.video else noisy_sound(tone, n))]
    if len(packets) != count or len(set(packets)) != count:
        raise RuntimeError(f"the encoder made {len(packets)} packets of {count}, or two are alike")
    return packets


class Sent(MediaStreamTrack):
    """Packets at their times, from `go` on."""

    def __init__(self, kind: str, packets: list[bytes], per_second: int) -> None:
        super().__init__()
        self.kind, self.packets, self.per_second = kind, packets, per_second
        self.go, self.done, self.n, self.begin = asyncio.Event(), asyncio.Event(), 0, 0.0

    async def recv(self) -> av.Packet:
        await self.go.wait()
        self.begin = self.begin or time.monotonic()
        if self.n == len(self.packets):
            # The last one was sent before the next is asked for.
            self.done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(max(0.0, self.begin + self.n / self.per_second - time.monotonic()))
        packet = av.Packet(self.packets[self.n])
        packet.pts, packet.time_base = self.n, fractions.Fraction(1, self.per_second)
        self.n += 1
        return packet


def nal_units(unit: bytes) -> list[bytes]:
    return [nal for nal in re.split(rb"\x00?\x00\x00\x01", unit) if nal]


def contained(codec: str, unit: bytes) -> bytes:
    """As a container has it: H.264 with lengths in place of start codes (ISO/IEC 14496-15), all else as it is."""
    if codec != "H264":
        return unit
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nal_units(unit))


def avc_configuration(key: bytes) -> bytes:
    """`avcC` of a key picture."""
    sps, pps = (next(nal for nal in nal_units(key) if nal[0] & 31 == kind) for kind in (7, 8))
    sizes = [len(s).to_bytes(2, "big") for s in (sps, pps)]
    return b"\1" + sps[1:4] + b"\xff\xe1" + sizes[0] + sps + b"\1" + sizes[1] + pps


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def publish(args, tracks: dict[str, Sent]) -> RTCPeerConnection:
    pc = RTCPeerConnection()
    for name, track in tracks.items():
        codecs = [c for c in RTCRtpSender.getCapabilities(track.kind).codecs if c.mimeType == f"{track.kind}/{name}"]
        pc.addTransceiver(track, direction="sendonly").setCodecPreferences(codecs)
    connected = asyncio.Event()
    pc.on("connectionstatechange", lambda: connected.set() if pc.connectionState == "connected" else None)
    await pc.setLocalDescription(await pc.createOffer())
    answer, _ = await post_sdp(f"{args.url}/whip/{args.room}", args.token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.wait_for(connected.wait(), 20)
    return pc


async def main() -> None:
    args = arguments(("--codec", {"required": True}))
    sound, pictures = encode("opus", args.seconds), encode(args.codec, args.seconds)
    tracks = {"opus": Sent("audio", sound, 50), args.codec: Sent("video", pictures, FPS)}
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    pc = await publish(args, tracks)
    say("ready")
    await told.readline()
    for track in tracks.values():
        track.go.set()
    for track in tracks.values():
        await track.done.wait()
    kept = [contained(args.codec, unit) for unit in pictures]
    private = hashed(avc_configuration(pictures[0])) if args.codec == "H264" else None
    last = [sound[-1].hex(), kept[-1].hex()]
    say("sent", sound=[hashed(p) for p in sound], pictures=[hashed(p) for p in kept], private=private, last=last)
    await told.read()
    await pc.close()


asyncio.run(main())
