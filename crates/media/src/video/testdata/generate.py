"""Makes svt-av1-160x96.units beside this file: by hand, with `pip install av numpy`; the tests of ../recorded.rs read it.
Ten pictures with the numbers 100 to 109 (../../synth/number.rs) above a gradient with a moving bar. Each access unit
stands after its length (u32, little endian)."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 160, 96
# Low delay, one thread, nothing held back: as a camera sends.
OPTIONS = {"preset": "8", "crf": "30", "svtav1-params": "pred-struct=1:lp=1:lookahead=0"}


def strip(number: int) -> list[int]:
    bits = [number >> (15 - i) & 1 for i in range(16)]
    return [1, 0, *bits, sum(bits[:8]) % 2, sum(bits[8:]) % 2]


def picture(n: int) -> av.VideoFrame:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    y = np.where(columns // 8 == n * 2 % (WIDTH // 8), 235, 40 + (rows + columns) % 160).astype(np.uint8)
    u = np.full((HEIGHT // 2, WIDTH // 2), 100, np.uint8)
    v = np.full((HEIGHT // 2, WIDTH // 2), 150, np.uint8)
    high = (2 * HEIGHT + 10) // 20
    for i, white in enumerate(strip(100 + n)):
        left, right = ((2 * k * WIDTH + 20) // 40 for k in (i, i + 1))
        y[:high, left:right] = 235 if white else 16
    half = (high + 1) // 2
    u[:half], v[:half] = 128, 128
    planes = np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(HEIGHT * 3 // 2, WIDTH)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.pts, frame.time_base = n, Fraction(1, 30)
    return frame


codec = av.CodecContext.create("libsvtav1", "w")
codec.width, codec.height, codec.pix_fmt, codec.options = WIDTH, HEIGHT, "yuv420p", OPTIONS
codec.time_base, codec.framerate, codec.gop_size = Fraction(1, 30), Fraction(30), 100
packets = [p for n in range(10) for p in codec.encode(picture(n))] + list(codec.encode(None))
units = [bytes(p) for p in packets]
out = Path(__file__).with_name("svt-av1-160x96.units")
out.write_bytes(b"".join(struct.pack("<I", len(u)) + u for u in units))
print(out.name, [len(u) for u in units], [p.is_keyframe for p in packets], av.__version__)
