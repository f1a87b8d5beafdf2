"""A bot that asks for one person's camera at one height after another, live: from what size each comes."""

import asyncio

import synth
from antiphon import Video, connect
from program import arguments, main, person, say

# So many pictures in a row of the layer that has the asked height.
STEADY = 10


async def work() -> None:
    args = arguments(("--who", {"required": True}), ("--heights", {"nargs": "+", "type": int}))
    first = Video("recvonly", height=args.heights[0])
    async with connect(args.url, args.room, token=args.token, name="eye", camera=first) as room:
        who = await asyncio.wait_for(person(room, args.who), 20)
        frames = room.video(participant=who)
        last = None
        unreadable = backwards = 0
        for height in args.heights:
            await room.update(camera=Video("recvonly", height=height))
            sizes: list[list[int]] = []
            steady = 0

            async def settle() -> None:
                nonlocal last, unreadable, backwards, steady
                while steady < STEADY:
                    frame = await anext(frames)
                    number = synth.read_number(frame.pixels)
                    unreadable += number is None
                    if number is not None:
                        backwards += last is not None and ((number - last + 0x8000) & 0xFFFF) - 0x8000 < 0
                        last = number
                    size = [frame.source_width, frame.source_height]
                    if not sizes or sizes[-1] != size:
                        sizes.append(size)
                    steady = steady + 1 if frame.source_height == frame.height == height else 0

            try:
                await asyncio.wait_for(settle(), args.seconds)
            except asyncio.TimeoutError:
                say("stuck", asked=height, sizes=sizes, stats=[repr(s) for s in await room.stats()])
                raise
            say("layer", asked=height, source=sizes[-1], sizes=sizes, unreadable=unreadable, backwards=backwards)


main(work)
