"""Frames, and their binary form: frame protocol v1 (docs/reference/frame-protocol.md).

Samples and pixels are numpy views of the received message: nothing is copied, and they are read-only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Union

import numpy as np
import numpy.typing as npt

from .errors import ProtocolError
from .roster import Participant
from .words import (
    AUDIO_CODECS,
    PIXEL_FORMATS,
    SOURCES,
    VIDEO_CODECS,
    Codec,
    PixelFormat,
    Source,
    VideoCodec,
    picture_bytes,
)

VERSION = 1
HEADER_BYTES = 56
SPEAKER_BYTES = 8
MAX_SPEAKERS = 16
MAX_MESSAGE_BYTES = 4096 * 2304 * 4 + 4096
"""The largest message: a 4096 x 2304 RGBA picture and its header."""

Samples = npt.NDArray[np.int16]
Pixels = npt.NDArray[np.uint8]

FrameErrorKind = Literal["truncated", "version", "value", "payload_size"]

_SILENCE, _GAP, _KEY, _CAPTURE_ESTIMATED, _MIXED = 1, 2, 4, 8, 16
_PCM, _PICTURE, _ENCODED_AUDIO, _ENCODED_VIDEO = 1, 2, 3, 4
_HEAD = struct.Struct("<BBBBIIIQQQIBBBB")
_SIZES = struct.Struct("<HHHH")
_RATES = struct.Struct("<II")
_SPEAKER = struct.Struct("<IB3x")


class FrameError(ProtocolError):
    """A binary message that is no frame: what is wrong, and where or by how much."""

    def __init__(self, kind: FrameErrorKind, message: str, **details: int) -> None:
        super().__init__(message)
        self.kind: FrameErrorKind = kind
        self.details = details


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is heard in an audio frame. ``level`` is -dBov (RFC 6464): 0 the loudest, 127 silence."""

    participant: Participant
    level: int


@dataclass(slots=True, eq=False)
class _Frame:
    source: Source
    stream: int
    """Number of the stream: one per participant, source and form."""
    sequence: int
    """+1 for each frame of the stream, dropped ones included (modulo 2**32)."""
    capture_us: int
    """When it was captured, us since the Unix epoch, on the server's clock."""
    arrival_us: int
    """When it arrived at the server, same clock."""
    media_us: int
    """Where it stands in this session, us since :attr:`Room.epoch_us`; audio and video share it."""
    capture_estimated: bool
    """``capture_us`` is a guess: the sender has not said yet how its clock relates."""
    dropped_before: int
    """How many frames of this stream were dropped since the one you got before: the bot was too slow."""


@dataclass(slots=True, eq=False)
class AudioFrame(_Frame):
    """20 ms of PCM."""

    participant: Participant | None
    """Whose voice; None in a mix."""
    samples: Samples
    """int16, shape ``(n,)``; ``(n, 2)`` if stereo. A read-only view."""
    sample_rate: int
    channels: int
    speakers: tuple[Speaker, ...]
    """Who is heard in this frame, loudest first."""
    silence: bool
    """Nothing was sent (mute, pause between words): the samples are zero or comfort noise."""
    gap: bool
    """Something was sent and lost: the samples are concealment."""
    mixed: bool
    """A mix of several participants."""


@dataclass(slots=True, eq=False)
class VideoFrame(_Frame):
    """One raw picture."""

    participant: Participant
    width: int
    height: int
    source_width: int
    """Before scaling."""
    source_height: int
    format: PixelFormat
    data: Pixels
    """All bytes of the picture, flat. A read-only view."""
    gap: bool
    """Frames were lost on the way to the server before this one."""

    @property
    def pixels(self) -> Pixels:
        """``height x width x 3`` (4 for rgba), a view. For i420 and nv12 see :attr:`planes`."""
        if self.format in ("i420", "nv12"):
            raise ValueError(f"{self.format} has planes, not pixels: use .planes, or ask for form='rgb24'")
        return self.data.reshape(self.height, self.width, -1)

    @property
    def planes(self) -> tuple[Pixels, ...]:
        """Views of Y, U, V (i420), of Y and interleaved UV (nv12, UV as ``h x w x 2``), or of the one packed plane."""
        if self.format not in ("i420", "nv12"):
            return (self.pixels,)
        luma = self.width * self.height
        w, h = (self.width + 1) // 2, (self.height + 1) // 2
        y = self.data[:luma].reshape(self.height, self.width)
        if self.format == "nv12":
            return (y, self.data[luma:].reshape(h, w, 2))
        return (
            y,
            self.data[luma : luma + w * h].reshape(h, w),
            self.data[luma + w * h :].reshape(h, w),
        )


@dataclass(slots=True, eq=False)
class EncodedFrame(_Frame):
    """One access unit as its sender coded it: an Opus packet, an Annex B H.264 picture, a VP8 frame, ..."""

    participant: Participant
    codec: Codec
    data: memoryview
    key: bool
    """A decoder can start here."""
    gap: bool
    """Packets were lost before this one."""
    width: int
    """Video: 0 while not known. Audio: 0."""
    height: int
    sample_rate: int
    """Audio: RTP clock. Video: 0."""
    channels: int
    """Audio: 1 or 2. Video: 0."""


Frame = Union[AudioFrame, VideoFrame, EncodedFrame]


def parse_frame(message: bytes, who: Callable[[int], Participant]) -> Frame:
    """Reads one binary message; ``who`` gives the participant with a number. Raises :class:`FrameError`."""
    size = len(message)
    if size < HEADER_BYTES:
        raise FrameError("truncated", f"frame ends at {size}, before its header does", at=size)
    head: tuple[int, ...] = _HEAD.unpack_from(message)
    version, kind, source, flags, stream, participant, sequence = head[:7]
    capture_us, arrival_us, media_us, dropped, code, channels, speaker_count, _reserved = head[7:]
    if version != VERSION:
        raise FrameError("version", f"version {version} is not spoken here", version=version)
    if source >= len(SOURCES):
        raise _value(2, source)
    _check_format(kind, code, channels)
    if speaker_count > MAX_SPEAKERS:
        raise _value(46, speaker_count)
    start = HEADER_BYTES + SPEAKER_BYTES * speaker_count
    if size < start:
        raise FrameError("truncated", f"frame ends at {size}, before its header does", at=size)
    common = (SOURCES[source], stream, sequence, capture_us, arrival_us, media_us)
    clock = (bool(flags & _CAPTURE_ESTIMATED), dropped)
    gap = bool(flags & _GAP)
    if kind == _PCM:
        sample_rate, count = _RATES.unpack_from(message, 48)
        _check_size(2 * channels * count, size - start)
        samples: Samples = np.frombuffer(message, np.dtype("<i2"), offset=start) if size > start else _NO_SAMPLES
        return AudioFrame(
            *common,
            *clock,
            who(participant) if participant else None,
            samples if channels == 1 else samples.reshape(-1, channels),
            sample_rate,
            channels,
            tuple(Speaker(who(k), level) for k, level in _SPEAKER.iter_unpack(message[HEADER_BYTES:start])),
            bool(flags & _SILENCE),
            gap,
            bool(flags & _MIXED),
        )
    width, height, source_width, source_height = _SIZES.unpack_from(message, 48)
    if kind == _PICTURE:
        pixel_format = PIXEL_FORMATS[code]
        _check_size(picture_bytes(pixel_format, width, height), size - start)
        data: Pixels = np.frombuffer(message, np.uint8, offset=start) if size > start else _NO_PIXELS
        sizes = (width, height, source_width, source_height)
        return VideoFrame(*common, *clock, who(participant), *sizes, pixel_format, data, gap)
    key, view = bool(flags & _KEY), memoryview(message)[start:]
    if kind == _ENCODED_VIDEO:
        codec: Codec = VIDEO_CODECS[code - 1]
        return EncodedFrame(*common, *clock, who(participant), codec, view, key, gap, width, height, 0, 0)
    codec = AUDIO_CODECS[code - 1]
    rate: int = _RATES.unpack_from(message, 48)[0]
    return EncodedFrame(*common, *clock, who(participant), codec, view, key, gap, 0, 0, rate, channels)


_NO_SAMPLES: Samples = np.empty(0, np.int16)
_NO_PIXELS: Pixels = np.empty(0, np.uint8)


def _value(offset: int, value: int) -> FrameError:
    return FrameError("value", f"byte {value} at offset {offset} has no meaning", offset=offset, value=value)


def _check_format(kind: int, code: int, channels: int) -> None:
    if kind == _PCM:
        known = code == 0
    elif kind == _PICTURE:
        known = code < len(PIXEL_FORMATS)
    elif kind == _ENCODED_AUDIO:
        known = 1 <= code <= len(AUDIO_CODECS)
    elif kind == _ENCODED_VIDEO:
        known = 1 <= code <= len(VIDEO_CODECS)
    else:
        raise _value(1, kind)
    if not known:
        raise _value(44, code)
    if kind in (_PCM, _ENCODED_AUDIO) and channels not in (1, 2):
        raise _value(45, channels)


def _check_size(expected: int, found: int) -> None:
    if expected != found:
        message = f"payload has {found} bytes, the format says {expected}"
        raise FrameError("payload_size", message, expected=expected, found=found)


def _head(kind: int, source: Source, sequence: int, capture_us: int, code: int, channels: int, flags: int) -> bytes:
    number = SOURCES.index(source)
    sequence &= 0xFFFF_FFFF
    return _HEAD.pack(
        VERSION, kind, number, flags, 0, 0, sequence, capture_us, 0, 0, 0, code, channels, 0, 0
    )  # fmt: skip


def write_pcm(source: Source, sequence: int, capture_us: int, sample_rate: int, samples: Samples) -> bytes:
    """A message with PCM: int16, ``(n,)`` or ``(n, channels)``."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    head = _head(_PCM, source, sequence, capture_us, 0, channels, 0)
    payload = np.ascontiguousarray(samples, np.dtype("<i2"))
    return b"".join((head, _RATES.pack(sample_rate, samples.shape[0]), payload.data.cast("B")))


def write_picture(
    source: Source, sequence: int, capture_us: int, pixel_format: PixelFormat, width: int, height: int, data: Pixels
) -> bytes:
    """A message with a raw picture; ``data`` has the bytes that the format says, in any shape."""
    head = _head(_PICTURE, source, sequence, capture_us, PIXEL_FORMATS.index(pixel_format), 0, 0)
    payload = np.ascontiguousarray(data)
    _check_size(picture_bytes(pixel_format, width, height), payload.nbytes)
    return b"".join((head, _SIZES.pack(width, height, width, height), payload.data.cast("B")))


def write_encoded_video(
    source: Source,
    sequence: int,
    capture_us: int,
    codec: VideoCodec,
    width: int,
    height: int,
    key: bool,
    data: bytes | memoryview,
) -> bytes:
    """A message with one access unit of video."""
    flags = _KEY if key else 0
    head = _head(_ENCODED_VIDEO, source, sequence, capture_us, VIDEO_CODECS.index(codec) + 1, 0, flags)
    return b"".join((head, _SIZES.pack(width, height, width, height), data))
