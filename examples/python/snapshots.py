"""Writes a picture of each participant every second, as PNG."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

import antiphon
from arguments import Arguments, file_name, run


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """A PNG of height x width x 3 pixels (RFC 2083): each row begins with its filter, 0."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


async def main(arguments: Arguments) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The server sends one picture per second; nothing is decoded here only to be thrown away.
    look = antiphon.Video("recvonly", form="rgb24", max_frame_rate=1)
    async with antiphon.connect(
        arguments.url,
        arguments.room,
        name=arguments.name,
        token=arguments.token,
        camera=look,
        screen=look,
    ) as room:
        print(f"in room {room.name} as {room.id}", flush=True)
        counts: dict[int, int] = {}
        async for frame in room.video():
            number = counts[frame.stream] = counts.get(frame.stream, 0) + 1
            path = arguments.out / f"{file_name(frame.participant)}-{frame.source}-{number:04}.png"
            await asyncio.to_thread(write_png, path, frame.pixels)
            print(f"{path}: {frame.width} x {frame.height}", flush=True)


if __name__ == "__main__":
    run(main, "Photographer", __doc__)
