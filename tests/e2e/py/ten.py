"""Ten publishers of pictures encoded beforehand, 720p at 30 per second, one bot that gets them raw or encoded: every
frame is delivered or counted."""

import asyncio
from contextlib import AsyncExitStack

import synth
from antiphon import Room, Video, connect
from program import arguments, at_rate, main, say


async def work() -> None:
    args = arguments(("--form", {"default": "i420"}), ("--publishers", {"type": int, "default": 10}))
    pictures = synth.encode_vp8(1280, 720, 60)
    async with AsyncExitStack() as stack:
        get = Video("recvonly", form=args.form)
        sink = await stack.enter_async_context(
            connect(args.url, args.room, token=args.token, name="sink", camera=get)
        )
        sources: list[Room] = [
            await stack.enter_async_context(
                connect(args.url, args.room, token=args.token, name=f"s{i}", camera=Video("sendonly"))
            )
            for i in range(args.publishers)
        ]
        frames = sink.frames()
        got: dict[int, int] = {}
        dropped: dict[int, int] = {}
        jumps = 0
        last: dict[int, int] = {}

        async def take() -> None:
            nonlocal jumps
            async for frame in frames:
                got[frame.stream] = got.get(frame.stream, 0) + 1
                dropped[frame.stream] = dropped.get(frame.stream, 0) + frame.dropped_before
                before = last.get(frame.stream)
                # Each number that is not there is told as dropped.
                jumps += before is not None and frame.sequence != before + 1 + frame.dropped_before
                last[frame.stream] = frame.sequence

        sent = [0] * args.publishers

        async def push(n: int) -> None:
            data, key = pictures[n % 60]
            for i, source in enumerate(sources):
                await source.camera.push_encoded(data, codec="vp8", key=key, width=1280, height=720)
                sent[i] += 1

        taking = asyncio.create_task(take())
        pushing = asyncio.create_task(at_rate(30, push))
        await asyncio.sleep(args.seconds)
        pushing.cancel()
        await asyncio.sleep(1.0)
        stats = [s for s in await sink.stats() if s.received]
        taking.cancel()
        say(
            "done", streams=len(got), sent=sum(sent), got=sum(got.values()), dropped=sum(dropped.values()),
            in_loop=frames.dropped, jumps=jumps,
            stats=[
                {
                    "received": s.received, "delivered": s.delivered, "gaps": s.gaps, "queued": s.queued,
                    "dropped": s.dropped_slow + s.dropped_rate + s.dropped_undecodable,
                }
                for s in stats
            ],
        )  # fmt: skip


main(work)
