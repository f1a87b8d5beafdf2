"""Synthetic voices and pictures, and how to read them back. The geometry is that of tests/e2e/src/page.js and of the
Rust tests: a strip at the top, a tenth of the height, of 20 blocks: white, black, 16 bits of a frame number (most
significant first), and two parities (of the even and of the odd bits)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
BLOCKS = 20
BITS = 16
# Cells of the still part below the strip.
COLUMNS, ROWS = 8, 4


def cell_colour(column: int, row: int) -> tuple[int, int, int]:
    """Of the still part; the same formula stands in page.js. Nearly grey and of middle brightness: Chromium captures a
    canvas in full range, cameras come in limited range, and VP8 does not say which."""
    grey = 92 + 7 * column + 5 * row
    tint = 4 if (column + row) % 2 else -4
    return grey + tint, grey, grey - tint


def number_bits(number: int) -> list[int]:
    bits = [number >> (BITS - 1 - i) & 1 for i in range(BITS)]
    return [1, 0, *bits, sum(bits[0::2]) % 2, sum(bits[1::2]) % 2]


@lru_cache(maxsize=8)
def still(width: int, height: int) -> Picture:
    """The picture without its number, rgb24."""
    out = np.zeros((height, width, 3), np.uint8)
    top = height // 10
    for row in range(ROWS):
        for column in range(COLUMNS):
            y0, y1 = (top + (height - top) * r // ROWS for r in (row, row + 1))
            x0, x1 = (width * c // COLUMNS for c in (column, column + 1))
            out[y0:y1, x0:x1] = cell_colour(column, row)
    return out


def picture(number: int, width: int, height: int) -> Picture:
    """One rgb24 picture with its number."""
    out = still(width, height).copy()
    for i, bit in enumerate(number_bits(number & 0xFFFF)):
        out[: height // 10, width * i // BLOCKS : width * (i + 1) // BLOCKS] = 255 * bit
    return out


def read_number(rgb: Picture) -> int | None:
    """The number in a picture of any size; None where it cannot be read or the parities are wrong."""
    height, width = rgb.shape[:2]
    row = rgb[height // 40 : max(height // 40 + 1, height * 3 // 40)].mean(axis=(0, 2))
    blocks = [row[int(width * (i + 0.3) / BLOCKS) : int(width * (i + 0.7) / BLOCKS) + 1].mean() for i in range(BLOCKS)]
    if blocks[0] - blocks[1] < 100:
        return None
    middle = (blocks[0] + blocks[1]) / 2
    bits = [int(b > middle) for b in blocks[2:]]
    number = sum(bit << (BITS - 1 - i) for i, bit in enumerate(bits[:BITS]))
    return number if number_bits(number)[2:] == bits else None


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio of two rgb24 pictures, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255.0**2 / error))


def tone(frequency: float, seconds: float, rate: int = 16_000, amplitude: float = 0.3) -> npt.NDArray[np.int16]:
    t = np.arange(int(seconds * rate)) / rate
    return np.rint(amplitude * 32767 * np.sin(2 * np.pi * frequency * t)).astype(np.int16)


def loudest(samples: npt.NDArray[np.int16], rate: int) -> tuple[float, float]:
    """Frequency of the strongest partial, interpolated, and the level of the whole in dBFS (a full sine is -3)."""
    x = samples.astype(np.float64) / 32768
    rms = float(np.sqrt(np.mean(x**2)))
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    peak = int(np.argmax(spectrum[1:-1])) + 1
    a, b, c = np.log(spectrum[peak - 1 : peak + 2] + 1e-12)
    offset = 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c else 0.0
    return (peak + offset) * rate / len(x), 20 * float(np.log10(rms + 1e-9))


def encode_vp8(width: int, height: int, frames: int, bitrate: int = 1_500_000) -> list[tuple[bytes, bool]]:
    """A loop of VP8 access units with their key flags; the first is a keyframe, none is dropped by the encoder."""
    codec = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate, codec.bit_rate = Fraction(1, 30), Fraction(30), bitrate
    codec.gop_size = frames
    codec.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "error-resilient": "1"}

    def raw() -> Iterator[av.VideoFrame]:
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            yield frame.reformat(format="yuv420p")

    packets = [p for frame in raw() for p in codec.encode(frame)] + list(codec.encode(None))
    if len(packets) != frames:
        raise RuntimeError(f"the encoder made {len(packets)} access units of {frames} pictures")
    return [(bytes(p), bool(p.is_keyframe)) for p in packets]
