"""A bot that hears the room mixed while people take turns by the wall clock: is the active set of each frame right, and
how soon does it learn who leads? (`turns.js` makes the browsers keep the same schedule.)"""

import asyncio
import time
from collections import Counter

from antiphon import Audio, DominantChanged, connect
from program import arguments, main, say


async def work() -> None:
    args = arguments(
        ("--who", {"nargs": "+", "required": True, "help": "names, in the order of their turns"}),
        ("--begin", {"type": float, "required": True, "help": "of the first turn, s since the Unix epoch"}),
        ("--turn", {"type": float, "required": True, "help": "length of a turn, s"}),
        ("--turns", {"type": int, "required": True}),
    )
    end = args.begin + args.turn * args.turns
    leads: list[tuple[float, str]] = []
    heard: list[tuple[float, tuple[str, ...]]] = []
    estimated = 0

    def turn_at(wall: float) -> int:
        return int((wall - args.begin) // args.turn)

    async with connect(args.url, args.room, token=args.token, name="who", audio=Audio("recvonly", mixed="dominant")) as room:
        events = room.events()

        async def follow() -> None:
            async for event in events:
                if isinstance(event, DominantChanged) and event.participants:
                    leads.append((time.time(), event.participants[0].name))

        following = asyncio.create_task(follow())
        say("ready", id=room.id)
        async for frame in room.audio(mixed=True):
            captured = frame.capture_us / 1e6
            if captured >= end:
                break
            if captured >= args.begin:
                heard.append((captured, tuple(s.participant.name for s in frame.speakers)))
                estimated += frame.capture_estimated
        following.cancel()

    expected = [args.who[n % len(args.who)] for n in range(args.turns)]
    wrong = [(round(at - args.begin - turn_at(at) * args.turn, 2), names) for at, names in heard if names != (expected[turn_at(at)],)]
    delays = []
    for n, name in enumerate(expected):
        begin = args.begin + n * args.turn
        first = next((at for at, lead in leads if begin <= at < begin + args.turn and lead == name), None)
        delays.append(None if first is None else first - begin)
    say(
        "turns", frames=len(heard), right=len(heard) - len(wrong), estimated=estimated, lead_after=delays,
        # Where in a turn, and what was named instead.
        wrong=Counter(f"{at:.1f} {' '.join(names)}" for at, names in wrong).most_common(12),
    )  # fmt: skip


main(work)
