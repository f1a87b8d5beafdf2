#!/usr/bin/env python3
"""How old a frame is when a Python bot's loop gets it: clock there minus the frame's arrival time at the server, for
16 kHz audio and for 720p RGB24 pictures. A second bot publishes: a tone, and pictures encoded beforehand."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/e2e/py")]

import synth  # noqa: E402
from antiphon import Audio, Room, Video, connect  # noqa: E402
from server import Server  # noqa: E402

ROOM = "bench"
# A p99 is that of the best of so many windows: a stall from outside spoils one or two.
WINDOWS = 5
WARM_UP_S = 3.0
FRAME_S, PICTURE_S = 0.020, 1 / 30


async def speak(room: Room) -> None:
    voice = synth.tone(440, 1.0)
    begin, n = time.monotonic(), 0
    while True:
        at = n * 320 % len(voice)
        await room.microphone.push(voice[at : at + 320])
        n += 1
        await asyncio.sleep(begin + n * FRAME_S - time.monotonic())


async def show(room: Room, loop: list[tuple[bytes, bool]]) -> None:
    begin, n = time.monotonic(), 0
    while True:
        data, key = loop[n % len(loop)]
        await room.camera.push_encoded(data, codec="vp8", key=key, width=1280, height=720)
        n += 1
        await asyncio.sleep(begin + n * PICTURE_S - time.monotonic())


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(what: str, ages: list[tuple[float, float]], seconds: float) -> None:
    """`ages`: when since the beginning of the measurement, and how old in ms."""
    windows: list[list[float]] = [[] for _ in range(WINDOWS)]
    for at, age in ages:
        windows[min(WINDOWS - 1, int(at / seconds * WINDOWS))].append(age)
    p99 = min(percentile(w, 0.99) for w in windows if w)
    p50 = percentile([age for _, age in ages], 0.5)
    print(f"  {what:<30} p50 {p50:5.1f}   p99 {p99:5.1f} (best window)   {len(ages) / seconds:.1f} per second")


async def watch(room: Room, seconds: float) -> None:
    audio: list[tuple[float, float]] = []
    video: list[tuple[float, float]] = []
    start = time.monotonic() + WARM_UP_S

    async def take(frames, ages: list[tuple[float, float]]) -> None:  # type: ignore[no-untyped-def]
        async for frame in frames:
            age = time.time() * 1e3 - frame.arrival_us / 1e3
            at = time.monotonic() - start
            if at >= seconds:
                return
            if at >= 0:
                ages.append((at, age))

    streams = take(room.audio(mixed=False), audio), take(room.video(), video)
    await asyncio.wait_for(asyncio.gather(*streams), seconds + WARM_UP_S + 10)
    print("age of a frame in a Python bot, ms")
    report("audio, 16 kHz, 20 ms", audio, seconds)
    report("picture, 1280 x 720 RGB24", video, seconds)


async def run(binary: Path, seconds: float) -> None:
    pictures = synth.encode_vp8(1280, 720, 60)
    with Server(binary) as server:
        token = server.token(ROOM)
        give = {"audio": Audio("sendonly"), "camera": Video("sendonly")}
        get = {"audio": Audio("recvonly"), "camera": Video("recvonly", form="rgb24")}
        async with (
            connect(server.url, ROOM, token=token, name="synthetic", **give) as publisher,
            connect(server.url, ROOM, token=token, name="watcher", **get) as watcher,
        ):
            publishing = [asyncio.create_task(speak(publisher)), asyncio.create_task(show(publisher, pictures))]
            try:
                await watch(watcher, seconds)
            finally:
                for task in publishing:
                    task.cancel()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--binary", type=Path, default=ROOT / "target/release/antiphon")
    p.add_argument("--seconds", type=float, default=15)
    args = p.parse_args()
    asyncio.run(run(args.binary, args.seconds))


if __name__ == "__main__":
    main()
