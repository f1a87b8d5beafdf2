"""What happens in a room, as typed events (:meth:`Room.events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

from .errors import AntiphonError
from .roster import Participant
from .words import AudioCodec, AudioSource, PixelFormat, Source, VideoCodec, VideoSource

LeaveReason = Literal[
    "left", "connection_lost", "removed", "replaced", "draining", "protocol_error", "room_closed"
]  # fmt: skip

RecordingState = Literal["announcing", "recording", "paused", "stopped"]

QueueState = Literal["low", "high", "empty", "overflow"]


@dataclass(frozen=True)
class ParticipantJoined:
    participant: Participant


@dataclass(frozen=True)
class ParticipantUpdated:
    """Name, tracks, mute or presence changed: look at the participant."""

    participant: Participant


@dataclass(frozen=True)
class ParticipantLeft:
    participant: Participant
    reason: LeaveReason


@dataclass(frozen=True)
class ScreenStarted:
    participant: Participant


@dataclass(frozen=True)
class ScreenStopped:
    participant: Participant


@dataclass(frozen=True)
class DominantChanged:
    """Who leads the conversation, in order; ``history`` are earlier leaders, latest first."""

    participants: tuple[Participant, ...]
    history: tuple[Participant, ...]


@dataclass(frozen=True)
class StreamStarted:
    """Frames with this stream number will follow. Exactly one of the last three says what they hold."""

    stream: int
    participant: Participant | None
    source: Source
    sample_rate: int | None = None
    """PCM at this rate."""
    pixel_format: PixelFormat | None = None
    """Raw pictures in this layout."""
    codec: AudioCodec | VideoCodec | None = None
    """Encoded."""


@dataclass(frozen=True)
class StreamStats:
    """Counts of one stream at the server: ``received = delivered + dropped_* + queued``."""

    stream: int
    received: int
    delivered: int
    dropped_slow: int
    """Because the bot was slow."""
    dropped_rate: int
    """Because the bot asked for fewer pictures per second."""
    dropped_undecodable: int
    gaps: int
    """Lost on the way to the server."""
    queued: int


@dataclass(frozen=True)
class StreamEnded:
    """No more frames with this number; its last counts."""

    stats: StreamStats


@dataclass(frozen=True)
class StreamUnavailable:
    """A stream cannot be delivered as asked, e.g. ``error`` is an UnsupportedCodecError."""

    participant: Participant
    source: Source
    error: AntiphonError


@dataclass(frozen=True)
class MarkPlayed:
    """Everything pushed before the mark was played."""

    name: str
    source: AudioSource
    sample: int
    """Number of the first sample after the mark, since the bot began to send."""
    flushed: bool
    """The queue was flushed before the mark was reached."""
    media_us: int


@dataclass(frozen=True)
class Flushed:
    """What became of the queue at a flush."""

    source: AudioSource
    played: int
    """Samples played until then, since the bot began to send."""
    discarded: int
    """Samples thrown away."""


@dataclass(frozen=True)
class QueueChanged:
    """The queue of pushed audio crossed a water mark. ``push`` already waits at ``high`` by itself."""

    source: AudioSource
    queued_ms: int
    state: QueueState


@dataclass(frozen=True)
class KeyframeNeeded:
    """The room needs a keyframe of what the bot sends encoded."""

    source: VideoSource


@dataclass(frozen=True)
class LayerWish:
    """What the room wants of one layer of a track. A limit that is ``None`` is none."""

    layer: int
    active: bool
    max_bitrate: int | None = None
    max_height: int | None = None
    max_frame_rate: int | None = None


@dataclass(frozen=True)
class LayersWanted:
    """What of a track of the bot is watched; what is not need not be drawn and encoded. A bot sends one layer, 0."""

    source: VideoSource
    layers: tuple[LayerWish, ...]


@dataclass(frozen=True)
class ServerError:
    """Something the bot sent was wrong; the session goes on."""

    error: AntiphonError


@dataclass(frozen=True)
class DataRefused:
    """``count`` messages that the bot sent on topics went to nobody; topic and reason are those of the last one."""

    topic: str | None
    count: int
    error: AntiphonError


@dataclass(frozen=True)
class RecordingChanged:
    """The room is recorded, or is about to be, or is not any more; nothing is kept but while it is ``recording``.

    It is acknowledged by itself, unless the room asks for ``consent``: then nothing of the bot is kept, and an announced recording
    does not begin, until :meth:`Room.consent_to_recording`.
    """

    recording: str
    state: RecordingState
    consent: bool


@dataclass(frozen=True)
class Draining:
    """The server stops: come back elsewhere within ``deadline_s`` seconds."""

    deadline_s: int


@dataclass(frozen=True)
class Closed:
    """The last event: the bot is out of the room."""

    reason: LeaveReason


Event = Union[
    ParticipantJoined,
    ParticipantUpdated,
    ParticipantLeft,
    ScreenStarted,
    ScreenStopped,
    DominantChanged,
    StreamStarted,
    StreamEnded,
    StreamUnavailable,
    MarkPlayed,
    QueueChanged,
    KeyframeNeeded,
    LayersWanted,
    ServerError,
    DataRefused,
    RecordingChanged,
    Draining,
    Closed,
]
