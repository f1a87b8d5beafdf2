"""Numbered pictures and tones as encoded media of any codec, by the FFmpeg inside PyAV, and what it makes of such media."""

from __future__ import annotations

import fractions
from dataclasses import dataclass

import av
import numpy as np
import synth

WIDTH, HEIGHT, FPS = 320, 180, 15
TONE = 660.0


@dataclass(frozen=True)
class Codec:
    """By what FFmpeg encodes a codec, and how RTP names it."""

    encoder: str
    rtpmap: str
    rate: int
    options: dict[str, str]
    fmtp: str = ""

    @property
    def video(self) -> bool:
        return self.rate == 90_000


LIVE_VPX = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
LIVE_X264 = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
CODECS = {
    "VP8": Codec("libvpx", "VP8/90000", 90_000, LIVE_VPX),
    "VP9": Codec("libvpx-vp9", "VP9/90000", 90_000, LIVE_VPX),
    "H264": Codec("libx264", "H264/90000", 90_000, LIVE_X264, "packetization-mode=1"),
    "AV1": Codec("libsvtav1", "AV1/90000", 90_000, {"preset": "10"}),
    "opus": Codec("libopus", "opus/48000/2", 48_000, {"application": "voip"}),
    "PCMU": Codec("pcm_mulaw", "PCMU/8000", 8_000, {}),
    "PCMA": Codec("pcm_alaw", "PCMA/8000", 8_000, {}),
    "G722": Codec("g722", "G722/8000", 16_000, {}),
}


def set_up(stream: av.video.stream.VideoStream | av.audio.stream.AudioStream, codec: Codec) -> None:
    """Settings of an encoder for a call."""
    stream.options = codec.options
    if codec.video:
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, FPS)
        stream.codec_context.gop_size = FPS
        stream.codec_context.bit_rate = 400_000
        stream.codec_context.max_b_frames = 0
        return
    stream.layout = "stereo" if codec.encoder == "libopus" else "mono"


def picture(number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(synth.picture(number, WIDTH, HEIGHT), format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = number, fractions.Fraction(1, FPS)
    return frame


class Tone:
    """20 ms at a time."""

    def __init__(self, codec: Codec) -> None:
        self.rate, self.channels = codec.rate, 2 if codec.encoder == "libopus" else 1
        self.samples = synth.tone(TONE, 1.0, self.rate)

    def frame(self, n: int) -> av.AudioFrame:
        count = self.rate // 50
        at = n * count % self.rate
        samples = np.repeat(self.samples[at : at + count], self.channels)[None, :]
        layout = "stereo" if self.channels == 2 else "mono"
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, n * count, fractions.Fraction(1, self.rate)
        return frame
