"""FFmpeg publishes by its WHIP muxer, with the certificate that it makes itself: `ffmpeg_whip.py URL ROOM --token TOKEN --codec CODEC`."""

import asyncio
import time

import av
from media import CODECS, FPS, Tone, picture, set_up
from program import arguments, main, say


def send(args: object, ended: asyncio.Event) -> None:
    codec = CODECS[args.codec]
    url = f"{args.url}/whip/{args.room}"
    out = av.open(url, "w", format="whip", options={"authorization": args.token})
    stream = out.add_stream(codec.encoder, rate=FPS if codec.video else codec.rate)
    set_up(stream, codec)
    tone = Tone(codec)
    per_second = FPS if codec.video else 50
    begin, n = time.monotonic(), 0
    while not ended.is_set() and time.monotonic() - begin < args.seconds:
        for packet in stream.encode(picture(n) if codec.video else tone.frame(n)):
            out.mux(packet)
            if n == 0:
                begin = time.monotonic()
        n += 1
        time.sleep(max(0.0, begin + n / per_second - time.monotonic()))
    out.close()
    say("left")


async def work() -> None:
    args = arguments(("--codec", {"required": True}))
    ended = asyncio.Event()
    try:
        await asyncio.to_thread(send, args, ended)
    finally:
        ended.set()


main(work)
