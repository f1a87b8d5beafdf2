"""A bot that shows the same VP8 frames again and again, encoded beforehand, and tells their hashes when it has shown enough."""

import asyncio
import hashlib

import synth
from antiphon import Video, connect
from program import arguments, at_rate, main, say

WIDTH, HEIGHT, FPS = 320, 180, 30


async def work() -> None:
    args = arguments()
    pictures = synth.encode_vp8(WIDTH, HEIGHT, 2 * FPS)
    async with connect(args.url, args.room, token=args.token, name="vp8", camera=Video("sendonly")) as room:
        say("ready", id=room.id)

        async def show(n: int) -> None:
            data, key = pictures[n % len(pictures)]
            await room.camera.push_encoded(data, codec="vp8", key=key, width=WIDTH, height=HEIGHT)
            if n == args.seconds * FPS:
                say("sent", hashes=[hashlib.sha256(data).hexdigest() for data, _ in pictures])

        await at_rate(FPS, show)


main(work)
