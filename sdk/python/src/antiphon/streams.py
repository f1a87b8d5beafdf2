"""Async iterators over what a room delivers, each with a bounded queue of its own.

The oldest items go when a loop is slower than the room: it loses its own data, counted, and delays nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeGuard, TypeVar

from .events import Event
from .frames import EncodedFrame, Frame, VideoFrame

T = TypeVar("T")
F = TypeVar("F", bound=Frame)

MAX_AUDIO = 100
"""Frames of one audio stream that wait: 2 s, a long pause of a program that still wants every word."""
MAX_PICTURES = 4
"""Raw pictures of one stream that wait: older ones are of no use, and ten 720p cameras fill 110 MB with this."""
MAX_ENCODED = 120
"""Access units of one video stream that wait: 4 s, since each loss costs all up to the next keyframe."""
MAX_EVENTS = 1024
"""Events that wait: several times a full room coming and going."""


class Stream(Generic[T]):
    """What ``room.frames()`` and its like give: iterate with ``async for``; leaving the loop ends it."""

    def __init__(self) -> None:
        self.dropped = 0
        """How many items this loop was too slow for."""
        self._ready = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            item = self._take()
            if item is not None:
                return item
            if self._ended:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()

    def close(self) -> None:
        """Takes nothing more. What waits can still be read."""
        self.end(None)

    def end(self, failure: Exception | None) -> None:
        """For the room: nothing more comes; iteration ends, or raises ``failure``, after what waits."""
        if not self._ended:
            self._ended, self._failure = True, failure
            self._ready.set()

    def _take(self) -> T | None:
        raise NotImplementedError


class FrameStream(Stream[F]):
    """Frames in the order of arrival. Each stream of the room has its own limit, so that pictures never push out voices."""

    def __init__(self, wants: Callable[[Frame], TypeGuard[F]]) -> None:
        super().__init__()
        self._wants = wants
        self._queues: dict[int, deque[F]] = {}
        self._lost: dict[int, int] = {}
        # One turn per waiting frame. When a frame is dropped for a newer one of its stream, its turn stays.
        self._turns: deque[int] = deque()

    def put(self, frame: Frame) -> None:
        """For the room: a frame has come."""
        if self._ended or not self._wants(frame):
            return
        queue = self._queues.get(frame.stream)
        if queue is None:
            queue = self._queues[frame.stream] = deque()
        if len(queue) >= _limit(frame):
            lost = queue.popleft()
            self.dropped += 1
            self._lost[frame.stream] = self._lost.get(frame.stream, 0) + 1 + lost.dropped_before
        else:
            self._turns.append(frame.stream)
        queue.append(frame)
        self._ready.set()

    def forget(self, stream: int) -> None:
        """For the room: no more frames of that stream will come."""
        if not self._queues.get(stream):
            self._queues.pop(stream, None)
            self._lost.pop(stream, None)

    def _take(self) -> F | None:
        if not self._turns:
            return None
        stream = self._turns.popleft()
        frame = self._queues[stream].popleft()
        lost = self._lost.pop(stream, 0)
        return replace(frame, dropped_before=frame.dropped_before + lost) if lost else frame


def _limit(frame: Frame) -> int:
    if isinstance(frame, VideoFrame):
        return MAX_PICTURES
    if isinstance(frame, EncodedFrame) and frame.source in ("camera", "screen"):
        return MAX_ENCODED
    return MAX_AUDIO


class EventStream(Stream[Event]):
    """Events in order."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Event] = deque()

    def put(self, event: Event) -> None:
        """For the room: something has happened."""
        if self._ended:
            return
        if len(self._queue) >= MAX_EVENTS:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(event)
        self._ready.set()

    def _take(self) -> Event | None:
        return self._queue.popleft() if self._queue else None
