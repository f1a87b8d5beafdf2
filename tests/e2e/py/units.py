"""A bot that gets one person's video in one form: numbered pictures, access units (which another decoder must read), or
word that it cannot be had."""

import asyncio

import av
import synth
from antiphon import EncodedFrame, StreamUnavailable, Video, VideoFrame, connect
from program import arguments, main, person, say

DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264", "av1": "libdav1d"}


def tell_pictures(frames: list[VideoFrame]) -> None:
    numbers = [synth.read_number(f.pixels) for f in frames]
    say("seen", width=frames[-1].width, height=frames[-1].height, **counts(numbers))


def tell_units(units: list[EncodedFrame]) -> None:
    """What they are, and what FFmpeg makes of them."""
    decoder = av.CodecContext.create(DECODERS[units[0].codec], "r")
    decoded = [f for unit in units for f in decoder.decode(av.Packet(bytes(unit.data)))] + decoder.decode(None)
    numbers = [synth.read_number(f.to_ndarray(format="rgb24")) for f in decoded]
    say(
        "units", codecs=sorted({u.codec for u in units}), keys=[u.key for u in units],
        sizes=sorted({(u.width, u.height) for u in units}), **counts(numbers),
    )  # fmt: skip


def counts(numbers: list[int | None]) -> dict[str, int]:
    read = [n for n in numbers if n is not None]
    backwards = sum(((b - a + 0x8000) & 0xFFFF) - 0x8000 < 0 for a, b in zip(read, read[1:]))
    return {"pictures": len(numbers), "readable": len(read), "different": len(set(read)), "backwards": backwards}


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
            got = [await anext(frames) for _ in range(args.frames)]
            if args.form == "encoded":
                tell_units(got)
            else:
                tell_pictures(got)

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
