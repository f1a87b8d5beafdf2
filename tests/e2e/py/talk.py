"""A bot that talks with one person: it speaks a tone without end, and says of each half second what it hears of that person."""

import asyncio

import numpy as np
import synth
from antiphon import Audio, connect
from program import arguments, main, person, say

RATE = 16_000
SILENCE_DBFS = -60


async def work() -> None:
    args = arguments(("--who", {"required": True}), ("--tone", {"type": float, "default": 900}))
    session = Audio("sendrecv", sample_rate=RATE)
    async with connect(args.url, args.room, token=args.token, name="bot", audio=session) as room:
        who = await asyncio.wait_for(person(room, args.who), 20)
        say("ready", id=room.id)

        async def speak() -> None:
            second = synth.tone(args.tone, 1.0, RATE)
            while True:
                await room.microphone.push(second)

        speaking = asyncio.create_task(speak())
        half: list[np.ndarray] = []

        async def tell() -> None:
            nonlocal half
            while True:
                await asyncio.sleep(0.5)
                heard = np.concatenate(half) if half else np.zeros(RATE // 2, np.int16)
                half = []
                frequency, level = synth.loudest(heard, RATE)
                say("heard", frequency=frequency if level > SILENCE_DBFS else 0, level=level)

        telling = asyncio.create_task(tell())
        async for frame in room.audio():
            if frame.participant is who and not frame.mixed:
                half.append(frame.samples.copy())
        speaking.cancel()
        telling.cancel()


main(work)
