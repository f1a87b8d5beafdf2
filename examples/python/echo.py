"""Answers: what it hears it says a second later, and whom it sees it shows as in a mirror."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import antiphon
from arguments import Arguments, run

DELAY_FRAMES = 50  # a second


class Delay:
    """Sums up what all say, and gives it back a second later, 20 ms at a time."""

    def __init__(self) -> None:
        self.sums: dict[int, npt.NDArray[np.int32]] = {}
        self.offsets: dict[int, int] = {}

    def put(self, frame: antiphon.AudioFrame) -> list[npt.NDArray[np.int16]]:
        # Streams begin at different times; afterwards their sequence numbers count the same 20 ms.
        offset = self.offsets.setdefault(frame.stream, frame.media_us // 20_000 - frame.sequence)
        now = frame.sequence + offset
        self.sums[now] = self.sums.get(now, np.int32(0)) + frame.samples.astype(np.int32)
        due = sorted(t for t in self.sums if t <= now - DELAY_FRAMES)
        return [np.clip(self.sums.pop(t), -32768, 32767).astype(np.int16) for t in due]


async def main(arguments: Arguments) -> None:
    camera = antiphon.Video("sendrecv", form="rgb24", height=360)
    async with antiphon.connect(
        arguments.url,
        arguments.room,
        name=arguments.name,
        token=arguments.token,
        audio="sendrecv",
        camera=camera,
    ) as room:
        print(f"in room {room.name} as {room.id}, with {len(room.participants) - 1} others", flush=True)
        delay, known = Delay(), set[int]()
        heard = seen = said = shown = 0
        shows: antiphon.Participant | None = None
        try:
            async for frame in room.frames():
                who = frame.participant
                if frame.stream not in known:
                    known.add(frame.stream)
                    verb = "hears" if isinstance(frame, antiphon.AudioFrame) else "sees"
                    print(f"{verb} {who.name if who is not None else 'a mix'}", flush=True)
                # Bots are heard but not answered: two echoes would never stop.
                answers = who is not None and not who.is_bot
                if isinstance(frame, antiphon.AudioFrame):
                    heard += 1
                    for samples in delay.put(frame) if answers else ():
                        await room.microphone.push(samples)
                        said += 1
                elif isinstance(frame, antiphon.VideoFrame):
                    seen += 1
                    leads = shows is None or not shows.present or who in room.dominant[:1]
                    if answers and leads:
                        shows = who
                    if answers and who is shows:
                        await room.camera.push(frame.pixels[:, ::-1])
                        shown += 1
        finally:
            print(f"heard {heard} frames, said {said}; saw {seen} pictures, showed {shown}", flush=True)


if __name__ == "__main__":
    run(main, "Echo", __doc__)
