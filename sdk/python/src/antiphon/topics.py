"""Messages on topics (docs/reference/data.md): what participants say to each other beside media."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import ProtocolError
from .roster import Participant
from .streams import Stream

KIND = 5
"""The second byte of these binary messages; frames have 1 to 4."""
EVERY_TOPIC = "*"
"""Stands for all topics in a subscription."""
MAX_TOPIC_BYTES = 64
MAX_RECIPIENTS = 16
MAX_PAYLOAD_BYTES = 15 * 1024
MAX_LOSSY_PAYLOAD_BYTES = 1024
MAX_MESSAGES = 1024
"""Messages that wait for a loop; with the largest payload that is 15 MB."""

_VERSION = 1
_LOSSY, _ADDRESSED = 1, 2
_HEAD = struct.Struct("<BBBBB3xII")


@dataclass(frozen=True, slots=True)
class Message:
    """A message that somebody sent on a topic."""

    topic: str
    sender: Participant
    """Who sent it, by the server's word."""
    data: bytes
    lossy: bool
    """It may be lost, and the freshest of a sender and topic wins."""
    addressed: bool
    """It names its recipients, the bot among them."""
    lost_before: int
    """Messages of its kind (lossy or not) that were lost on the way to the bot since the one before."""

    @property
    def text(self) -> str:
        """The payload as UTF-8; what is none is replaced."""
        return self.data.decode(errors="replace")


class MessageStream(Stream[Message]):
    """Messages in order. A loop that is slower than the room loses the oldest, counted in ``dropped``."""

    def __init__(self, topics: Iterable[str]) -> None:
        super().__init__()
        self.topics = frozenset(topics)
        """What is listened to."""
        self._queue: deque[Message] = deque()

    def put(self, message: Message) -> None:
        """For the room: a message has come."""
        if self._ended or not (message.topic in self.topics or EVERY_TOPIC in self.topics):
            return
        if len(self._queue) >= MAX_MESSAGES:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(message)
        self._ready.set()

    def _take(self) -> Message | None:
        return self._queue.popleft() if self._queue else None


def write_message(topic: str, data: bytes, lossy: bool, to: Iterable[Participant]) -> bytes:
    """The bytes of a message to the server; ``ValueError`` where a limit is broken."""
    name = topic.encode()
    keys = [p.key for p in to]
    if not 1 <= len(name) <= MAX_TOPIC_BYTES or topic == EVERY_TOPIC:
        raise ValueError(f"a topic has 1 to {MAX_TOPIC_BYTES} bytes, and is not {EVERY_TOPIC!r}")
    if len(keys) > MAX_RECIPIENTS:
        raise ValueError(f"a message has at most {MAX_RECIPIENTS} recipients")
    limit = MAX_LOSSY_PAYLOAD_BYTES if lossy else MAX_PAYLOAD_BYTES
    if len(data) > limit:
        raise ValueError(f"the message has {len(data)} bytes, more than {limit}")
    head = _HEAD.pack(_VERSION, KIND, _LOSSY if lossy else 0, len(name), len(keys), 0, 0)
    return head + struct.pack(f"<{len(keys)}I", *keys) + name + data


def parse_message(message: bytes, who: Callable[[int], Participant]) -> Message:
    """Reads a binary message of kind :data:`KIND`; ``who`` gives the participant with a number."""
    if len(message) < _HEAD.size:
        raise ProtocolError("a message on a topic ends before its header does")
    version, _kind, flags, size, _recipients, sender, lost = _HEAD.unpack_from(message)
    start = _HEAD.size + size
    if version != _VERSION or len(message) < start:
        raise ProtocolError("a message on a topic that this version does not understand")
    topic = message[_HEAD.size : start].decode(errors="replace")
    return Message(topic, who(sender), message[start:], bool(flags & _LOSSY), bool(flags & _ADDRESSED), lost)
