"""A bot that hears one person: how many frames come, what tone, how loud, what was lost."""

import asyncio
import time

import numpy as np
import synth
from antiphon import Audio, connect
from program import arguments, main, person, say

FRAME_S = 0.02


async def work() -> None:
    args = arguments(("--who", {"required": True}), ("--rate", {"type": int, "default": 16_000}))
    session = Audio("recvonly", sample_rate=args.rate, mixed="dominant")
    async with connect(args.url, args.room, token=args.token, name="ear", audio=session) as room:
        who = await asyncio.wait_for(person(room, args.who), 20)
        say("ready", id=room.id)
        counts = {"frames": 0, "silence": 0, "gaps": 0, "dropped": 0, "jumps": 0, "odd": 0}
        loud: list[np.ndarray] = []
        begin = last = None
        mixed = mixed_with_speaker = 0
        async for frame in room.audio():
            now = time.monotonic()
            if frame.mixed:
                mixed += 1
                mixed_with_speaker += any(s.participant is who for s in frame.speakers)
                continue
            if frame.participant is not who:
                continue
            if counts["frames"] < 50:
                # Of the first second's frames the one that waited least for this program says when it began.
                begin = min(begin or now, now - counts["frames"] * FRAME_S)
            if now - begin >= args.seconds:
                break
            counts["frames"] += 1
            counts["silence"] += frame.silence
            counts["gaps"] += frame.gap
            counts["dropped"] += frame.dropped_before
            counts["jumps"] += last is not None and frame.sequence != last + 1
            counts["odd"] += len(frame.samples) != args.rate // 50 or frame.sample_rate != args.rate
            last = frame.sequence
            if not frame.silence and not frame.gap:
                loud.append(frame.samples.copy())
            if counts["frames"] % 50 == 0:
                say("second", frames=counts["frames"], silence=counts["silence"])
        # The last second before silence sets in is a tone without a switch in it.
        window = np.concatenate(loud[50:100]) if len(loud) >= 100 else np.zeros(args.rate, np.int16)
        frequency, level = synth.loudest(window, args.rate)
        say("heard", frequency=frequency, level=level, mixed=mixed, mixed_with_speaker=mixed_with_speaker, **counts)


main(work)
