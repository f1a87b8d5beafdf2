"""A bot that sees one person: which frame numbers, how well the pictures match, how many per second."""

import asyncio
import time

import synth
from antiphon import Video, connect
from program import arguments, main, person, say

# Pictures of one size in a row after which the resolution counts as stable.
STABLE = 30
# A stream without a picture for this long has stopped.
STALL_S = 10.0


async def work() -> None:
    args = arguments(
        ("--who", {"required": True}),
        ("--height", {"type": int}),
        ("--source", {"default": "camera"}),
        ("--stable-height", {"type": int, "default": 0}),
    )
    session = {args.source: Video("recvonly", form="rgb24", height=args.height)}
    async with connect(args.url, args.room, token=args.token, name="eye", **session) as room:
        who = await asyncio.wait_for(person(room, args.who), 20)
        say("ready", id=room.id)
        last = None
        size, same, backwards, unreadable, pictures, dropped = None, 0, 0, 0, 0, 0
        ratios: list[float] = []
        begin = time.monotonic()
        limit = begin + args.seconds + 20
        stable_at = None
        frames = room.video(participant=who, source=args.source)
        while True:
            try:
                frame = await asyncio.wait_for(anext(frames), STALL_S)
            except asyncio.TimeoutError:
                say("stalled", pictures=pictures, size=size, stats=[repr(s) for s in await room.stats()])
                raise
            now = time.monotonic()
            pixels = frame.pixels
            number = synth.read_number(pixels)
            pictures += 1
            dropped += frame.dropped_before
            if number is None:
                unreadable += 1
            else:
                if last is not None and ((number - last + 0x8000) & 0xFFFF) - 0x8000 < 0:
                    backwards += 1
                last = number
            source_size = frame.source_width, frame.source_height
            same = same + 1 if source_size == size else 1
            if source_size != size:
                say("size", width=source_size[0], height=source_size[1], delivered=[frame.width, frame.height])
                stable_at = None
            size = source_size
            if same >= STABLE and number is not None and frame.source_height >= args.stable_height:
                stable_at = stable_at or now
                if same % 10 == 0:
                    ratios.append(synth.psnr(pixels, synth.picture(number, frame.width, frame.height)))
            if (stable_at and now - stable_at >= args.seconds) or now > limit:
                break
        ratios.sort()
        say(
            "seen", pictures=pictures, backwards=backwards, unreadable=unreadable, dropped=dropped,
            width=frame.width, height=frame.height, source=size, psnr=ratios[len(ratios) // 2] if ratios else 0,
            psnr_min=ratios[0] if ratios else 0, per_second=pictures / (now - begin),
        )  # fmt: skip


main(work)
