"""Shows how loud each participant is, five times per second."""

from __future__ import annotations

import numpy as np

import antiphon
from arguments import Arguments, run

FLOOR_DB = -60.0
WIDTH = 30
EVERY_FRAMES = 10  # of 20 ms


def decibels(frame: antiphon.AudioFrame) -> float:
    """Level of a frame in dBFS."""
    if frame.silence or not frame.samples.size:
        return FLOOR_DB
    rms = float(np.sqrt(np.mean(np.square(frame.samples.astype(np.float64) / 32768.0))))
    return max(FLOOR_DB, 20.0 * float(np.log10(max(rms, 1e-9))))


async def main(arguments: Arguments) -> None:
    async with antiphon.connect(
        arguments.url, arguments.room, name=arguments.name, token=arguments.token, audio="recvonly"
    ) as room:
        print(f"in room {room.name} as {room.id}", flush=True)
        loudest: dict[int, float] = {}
        async for frame in room.audio(mixed=False):
            loudest[frame.stream] = max(loudest.get(frame.stream, FLOOR_DB), decibels(frame))
            if frame.sequence % EVERY_FRAMES == 0:
                level = loudest.pop(frame.stream)
                bar = "#" * round(WIDTH * (1 - level / FLOOR_DB))
                leads = "*" if frame.participant in room.dominant[:1] else " "
                name = frame.participant.name if frame.participant is not None else "mix"
                print(f"{leads}{name:>20.20} |{bar:<{WIDTH}}| {level:5.1f} dB", flush=True)


if __name__ == "__main__":
    run(main, "Level meter", __doc__)
