"""One 720p30 stream as RGB24 over WebSocket to Python: what comes per second, and what is counted of the rest."""

import asyncio
import time

import synth
from antiphon import Video, connect
from program import arguments, at_rate, main, say


async def work() -> None:
    args = arguments()
    pictures = synth.encode_vp8(1280, 720, 60)
    give, get = Video("sendonly"), Video("recvonly", form="rgb24")
    async with (
        connect(args.url, args.room, token=args.token, name="source", camera=give) as source,
        connect(args.url, args.room, token=args.token, name="sink", camera=get) as sink,
    ):

        async def push(n: int) -> None:
            data, key = pictures[n % 60]
            await source.camera.push_encoded(data, codec="vp8", key=key, width=1280, height=720)

        pushing = asyncio.create_task(at_rate(30, push))
        begin = None
        got = dropped = octets = backwards = 0
        last = last_sequence = None
        stream = sink.video()
        async for frame in stream:
            now = time.monotonic()
            begin = begin or now
            if now - begin >= args.seconds:
                break
            got += 1
            octets += len(frame.data)
            dropped += frame.dropped_before
            # The loop of 60 pictures begins anew: numbers go forward modulo 60.
            number = synth.read_number(frame.pixels) if got % 10 == 0 else None
            if number is not None:
                backwards += last is not None and (number - last) % 60 > 30
                last = number
            if last_sequence is not None:
                backwards += frame.sequence != last_sequence + 1 + frame.dropped_before
            last_sequence = frame.sequence
        pushing.cancel()
        stats = [s for s in await sink.stats() if s.received]
        say(
            "done", frames=got, per_second=got / args.seconds, dropped=dropped, slow=stream.dropped,
            mb_per_second=octets / args.seconds / 1e6, wrong=backwards,
            received=sum(s.received for s in stats), delivered=sum(s.delivered for s in stats),
            lost=sum(s.dropped_slow + s.dropped_rate + s.dropped_undecodable for s in stats),
            gaps=sum(s.gaps for s in stats), queued=sum(s.queued for s in stats),
        )  # fmt: skip


main(work)
