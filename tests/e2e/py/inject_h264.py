"""A bot that shows H.264 of its own: Annex B, constrained baseline, no B-frames, a keyframe whenever the room asks."""

import asyncio
import time
from fractions import Fraction

import av
import synth
from antiphon import KeyframeNeeded, Video, connect
from program import arguments, at_rate, main, say

WIDTH, HEIGHT, FPS = 640, 360, 15


def encoder() -> av.VideoCodecContext:
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.time_base, codec.framerate, codec.bit_rate = Fraction(1, FPS), Fraction(FPS), 800_000
    codec.gop_size = 20 * FPS
    codec.options = {"profile": "baseline", "preset": "ultrafast", "tune": "zerolatency", "bf": "0"}
    return codec


async def work() -> None:
    args = arguments(("--as", {"dest": "source", "default": "camera"}))
    codec = encoder()
    session = {args.source: Video("sendonly")}
    async with connect(args.url, args.room, token=args.token, name="h264", **session) as room:
        events = room.events()
        output = getattr(room, args.source)
        asked = 0
        say("ready", id=room.id)

        async def listen() -> None:
            nonlocal asked
            async for event in events:
                asked += isinstance(event, KeyframeNeeded) and event.source == args.source

        async def show(n: int) -> None:
            nonlocal asked
            number = int(time.time() * FPS) & 0xFFFF
            raw = av.VideoFrame.from_ndarray(synth.picture(number, WIDTH, HEIGHT), format="rgb24")
            frame = raw.reformat(format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            # A keyframe by the room's wish; else the encoder decides.
            frame.pict_type = av.video.frame.PictureType.I if asked else av.video.frame.PictureType.NONE
            asked = 0
            for packet in codec.encode(frame):
                data = bytes(packet)
                await output.push_encoded(data, codec="h264", key=packet.is_keyframe, width=WIDTH, height=HEIGHT)

        await asyncio.gather(listen(), at_rate(FPS, show))


main(work)
