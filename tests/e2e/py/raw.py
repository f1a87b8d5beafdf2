"""One 720p30 stream as RGB24 over WebSocket to Python: what comes per second, and what is counted of the rest."""

import time

import synth
from antiphon import Video, connect
from program import arguments, main, say


async def work() -> None:
    args = arguments()
    get = Video("recvonly", form="rgb24")
    async with connect(args.url, args.room, token=args.token, name="sink", camera=get) as sink:
        begin = None
        got = dropped = octets = wrong = 0
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
                wrong += last is not None and (number - last) % 60 > 30
                last = number
            if last_sequence is not None:
                wrong += frame.sequence != last_sequence + 1 + frame.dropped_before
            last_sequence = frame.sequence
        stats = [s for s in await sink.stats() if s.received]
        say(
            "done", frames=got, per_second=got / args.seconds, dropped=dropped, slow=stream.dropped,
            mb_per_second=octets / args.seconds / 1e6, wrong=wrong,
            received=sum(s.received for s in stats), delivered=sum(s.delivered for s in stats),
            lost=sum(s.dropped_slow + s.dropped_rate + s.dropped_undecodable for s in stats),
            gaps=sum(s.gaps for s in stats), queued=sum(s.queued for s in stats),
        )  # fmt: skip


main(work)
