"""What the bot says and shows: ``room.microphone``, ``room.camera``, ``room.screen``, ``room.screen_audio``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Union

import numpy as np
import numpy.typing as npt

from .events import Flushed, MarkPlayed, QueueChanged
from .frames import AudioFrame, Pixels, Samples, VideoFrame, write_encoded_video, write_pcm, write_picture
from .session import SAMPLE_RATES
from .words import AudioSource, PixelFormat, VideoSource

if TYPE_CHECKING:
    from .room import Room

MAX_AHEAD_S = 2.0
"""How far ahead of its playing audio is sent. What waits longer waits here, where a flush costs nothing."""
CHUNK_S = 0.1
"""Longest audio message: the first words of a long speech start at once, and a flush stops the rest."""

S = TypeVar("S", AudioSource, VideoSource)
AnySamples = Union[Samples, npt.NDArray[np.float32], npt.NDArray[np.float64], bytes, AudioFrame]
"""int16; or float between -1 and 1; or bytes of s16le; or a frame as received."""


class _Output(Generic[S]):
    def __init__(self, room: Room, source: S) -> None:
        self._room = room
        self._sequence = 0
        self.source: S = source

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    async def mute(self, muted: bool = True) -> None:
        """Mutes what the bot sends; others see it in the roster."""
        await self._room.request({"type": "mute", "source": self.source, "muted": muted})


class AudioOutput(_Output[AudioSource]):
    """A voice. The server plays what is pushed at real time, from a bounded queue."""

    def __init__(self, room: Room, source: AudioSource) -> None:
        super().__init__(room, source)
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._flushes = 0
        self._server_full = False
        self._paused_with: float | None = None
        self._played_at = 0.0

    @property
    def queued_ms(self) -> int:
        """Estimate of how many milliseconds of audio have been sent and not yet played."""
        return round(1000 * self._ahead())

    async def push(self, samples: AnySamples, *, sample_rate: int | None = None, capture_us: int = 0) -> None:
        """Speaks. Any length; returns when all is sent, which for long audio is up to 2 s before it is played.

        ``sample_rate`` is by default that of the frame, or of the session. A :meth:`flush` meanwhile ends it.
        """
        if isinstance(samples, AudioFrame):
            pcm, sample_rate = samples.samples, sample_rate or samples.sample_rate
        else:
            pcm = _pcm(samples)
        rate = sample_rate or self._room.sample_rate(self.source)
        if rate not in SAMPLE_RATES:
            raise ValueError(f"sample_rate is one of {SAMPLE_RATES}, not {rate}")
        step = max(1, round(rate * CHUNK_S))
        flushes = self._flushes
        async with self._one_at_a_time:
            for start in range(0, len(pcm), step):
                await self._wait_for_space(flushes)
                if self._flushes != flushes:
                    return
                chunk = pcm[start : start + step]
                self._add(len(chunk) / rate)
                await self._room.send_frame(write_pcm(self.source, self._next(), capture_us, rate, chunk))

    async def flush(self) -> Flushed:
        """Stops speaking within one frame: throws away what is queued, and what pushes in progress still hold."""
        self._flushes += 1
        self._played_at = 0.0
        if self._paused_with is not None:
            self._paused_with = 0.0
        self._server_full = False
        self._changed.set()
        reply = await self._room.request({"type": "flush", "source": self.source})
        return Flushed(self.source, int(reply.get("played", 0)), int(reply.get("discarded", 0)))

    async def mark(self, name: str | None = None) -> MarkPlayed:
        """Waits until all that was pushed before has been played (or flushed), and says at which sample."""
        return await self._room.mark(self.source, name)

    async def pause(self) -> None:
        """Holds the queue; silence goes out."""
        await self._room.request({"type": "pause", "source": self.source})
        if self._paused_with is None:
            self._paused_with = self._ahead()

    async def resume(self) -> None:
        """Goes on playing."""
        await self._room.request({"type": "resume", "source": self.source})
        if self._paused_with is not None:
            self._played_at = _now() + self._paused_with
            self._paused_with = None
            self._changed.set()

    def on_queue(self, change: QueueChanged) -> None:
        """For the room: the server's queue crossed a water mark."""
        self._server_full = change.state in ("high", "overflow")
        self._changed.set()

    def wake(self) -> None:
        """For the room: the connection ended, nobody needs to wait."""
        self._changed.set()

    def _ahead(self) -> float:
        if self._paused_with is not None:
            return self._paused_with
        return max(0.0, self._played_at - _now())

    def _add(self, seconds: float) -> None:
        if self._paused_with is not None:
            self._paused_with += seconds
        else:
            self._played_at = max(self._played_at, _now()) + seconds

    async def _wait_for_space(self, flushes: int) -> None:
        while self._flushes == flushes and not self._room.closed:
            excess = self._ahead() - MAX_AHEAD_S
            if excess <= 0 and not self._server_full:
                return
            self._changed.clear()
            by_clock = self._paused_with is None and not self._server_full
            try:
                await asyncio.wait_for(self._changed.wait(), excess if by_clock else None)
            except asyncio.TimeoutError:
                pass


class VideoOutput(_Output[VideoSource]):
    """A face or a screen. Each picture pushed replaces the one before; the server encodes it for the room."""

    async def push(
        self, picture: Pixels | VideoFrame, *, format: PixelFormat | None = None, capture_us: int = 0
    ) -> None:
        """Shows a picture: ``height x width x 3`` (or 4: rgba), uint8; or a frame as received.

        Three channels are rgb24, unless ``format`` (or the session's form) says bgr24, as OpenCV has it. For i420
        and nv12 give ``format`` and an array of ``height * 3 / 2`` rows of ``width``.
        """
        if isinstance(picture, VideoFrame):
            kind, width, height, data = picture.format, picture.width, picture.height, picture.data
        else:
            kind = format or self._room.pixel_format(self.source, picture)
            height, width = _shape(picture, kind)
            data = picture
        await self._room.send_frame(
            write_picture(self.source, self._next(), capture_us, kind, width, height, data)
        )

    async def push_encoded(
        self,
        data: bytes | memoryview,
        *,
        codec: Literal["vp8", "h264"],
        key: bool,
        width: int = 0,
        height: int = 0,
        capture_us: int = 0,
    ) -> None:
        """Shows an access unit that is encoded already (H.264 as Annex B). Answer ``KeyframeNeeded`` with a keyframe."""
        await self._room.send_frame(
            write_encoded_video(self.source, self._next(), capture_us, codec, width, height, key, data)
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _pcm(samples: npt.NDArray[Any] | bytes) -> Samples:
    if isinstance(samples, bytes):
        return np.frombuffer(samples, np.dtype("<i2"))
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] not in (1, 2)):
        raise ValueError(f"samples have the shape (n,) or (n, 2), not {samples.shape}")
    if samples.dtype.kind == "f":
        whole: Samples = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
        return whole
    if samples.dtype != np.int16:
        raise TypeError(f"samples are int16, or float between -1 and 1, not {samples.dtype}")
    return samples


def _shape(picture: Pixels, kind: PixelFormat) -> tuple[int, int]:
    if picture.dtype != np.uint8:
        raise TypeError(f"pictures are uint8, not {picture.dtype}")
    if kind in ("i420", "nv12"):
        if picture.ndim != 2 or picture.shape[0] % 3 or picture.shape[1] % 2:
            raise ValueError(f"{kind} is an array of height * 3 / 2 rows of width, both even: {picture.shape}")
        return picture.shape[0] * 2 // 3, picture.shape[1]
    channels = 4 if kind == "rgba" else 3
    if picture.ndim != 3 or picture.shape[2] != channels:
        raise ValueError(f"{kind} is an array of height x width x {channels}, not {picture.shape}")
    return picture.shape[0], picture.shape[1]
