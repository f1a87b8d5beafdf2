"""A bot that speaks and shows by the wall clock: a burst of tone at the beginning of each second, and pictures whose
numbers are the wall clock in frames. Whoever hears and sees it knows how late that is."""

import asyncio
import time

import numpy as np
import synth
from antiphon import Audio, Video, connect
from program import arguments, at_rate, main, say

BURST_S = 0.3


async def work() -> None:
    args = arguments(
        ("--tone", {"type": float, "default": 880}),
        ("--steady", {"action": "store_true", "help": "a tone without end instead of bursts"}),
        ("--width", {"type": int, "default": 640}),
        ("--height", {"type": int, "default": 360}),
        ("--fps", {"type": int, "default": 30}),
        ("--name", {"default": "mouth"}),
        ("--as", {"dest": "source", "default": "camera"}),
    )
    give = {"audio": Audio("sendonly"), args.source: Video("sendonly")}
    async with connect(args.url, args.room, token=args.token, name=args.name, **give) as room:
        say("ready", id=room.id)
        rate = 16_000
        burst = synth.tone(args.tone, BURST_S, rate)
        fade = np.minimum(1, np.arange(len(burst))[::-1] / (0.01 * rate))
        burst = (burst * fade).astype(np.int16)

        async def speak() -> None:
            while not args.steady:
                await asyncio.sleep(1 - time.time() % 1)
                await room.microphone.push(burst)
            second = synth.tone(args.tone, 1.0, rate)
            while True:
                await room.microphone.push(second)

        async def picture(_n: int) -> None:
            number = int(time.time() * args.fps) & 0xFFFF
            await getattr(room, args.source).push(synth.picture(number, args.width, args.height))

        await asyncio.gather(speak(), at_rate(args.fps, picture))


main(work)
