"""A bot that gets one person's video in one form: numbered pictures, access units, or word that it cannot be had."""

import asyncio

import synth
from antiphon import EncodedFrame, StreamUnavailable, Video, VideoFrame, connect
from program import arguments, main, person, say


async def work() -> None:
    args = arguments(
        ("--who", {"required": True}),
        ("--form", {"default": "rgb24"}),
        ("--height", {"type": int}),
        ("--frames", {"type": int, "default": 20}),
    )
    session = Video("recvonly", form=args.form, height=args.height)
    async with connect(args.url, args.room, token=args.token, name="eye", camera=session) as room:
        events, frames = room.events(), room.frames()
        who = await asyncio.wait_for(person(room, args.who), 20)

        async def refused() -> None:
            async for event in events:
                if isinstance(event, StreamUnavailable) and event.participant is who:
                    say("unavailable", code=event.error.error_code, source=event.source)
                    return

        async def look() -> None:
            got: list[VideoFrame | EncodedFrame] = []
            numbers: list[int | None] = []
            while len(got) < args.frames:
                frame = await anext(frames)
                if isinstance(frame, VideoFrame):
                    numbers.append(synth.read_number(frame.pixels))
                if isinstance(frame, (VideoFrame, EncodedFrame)) and frame.participant is who:
                    got.append(frame)
            if isinstance(got[0], EncodedFrame):
                say("units", codecs=sorted({f.codec for f in got}), keys=[f.key for f in got], empty=sum(not f.data for f in got), sizes=[[f.width, f.height] for f in got])  # fmt: skip
                return
            read = [n for n in numbers if n is not None]
            backwards = sum(((b - a + 0x8000) & 0xFFFF) - 0x8000 < 0 for a, b in zip(read, read[1:]))
            say("seen", pictures=len(got), readable=len(read), different=len(set(read)), backwards=backwards, width=got[-1].width, height=got[-1].height)  # fmt: skip

        tasks = [asyncio.create_task(refused()), asyncio.create_task(look())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=args.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done:
                say("nothing", stats=[repr(s) for s in await room.stats()])
        finally:
            for task in tasks:
                task.cancel()


main(work)
