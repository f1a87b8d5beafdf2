"""Antiphon: join a call from Python.

Each participant's voice and picture arrive as numpy arrays while they happen; what the program pushes is heard and
seen by everybody::

    async with antiphon.connect("http://localhost:7700", "demo", name="Echo", audio="sendrecv") as room:
        async for frame in room.audio():
            await room.microphone.push(frame.samples)
"""

from .connection import connect
from .errors import (
    AntiphonError,
    BadRequestError,
    ClosedError,
    ConflictError,
    ConnectError,
    ConnectionLostError,
    DrainingError,
    ForbiddenError,
    InternalError,
    NoCommonCodecError,
    NotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    RoomFullError,
    TokenExpiredError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedCodecError,
)
from .events import (
    Closed,
    DataRefused,
    DominantChanged,
    Draining,
    Event,
    Flushed,
    KeyframeNeeded,
    LayersWanted,
    LayerWish,
    MarkPlayed,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    QueueChanged,
    RecordingChanged,
    ScreenStarted,
    ScreenStopped,
    ServerError,
    StreamEnded,
    StreamStarted,
    StreamStats,
    StreamUnavailable,
)
from .frames import AudioFrame, EncodedFrame, Frame, FrameError, Speaker, VideoFrame
from .outputs import AudioOutput, VideoOutput
from .room import Room
from .roster import Participant, Track
from .session import Audio, MediaSession, Participants, Top, Video
from .streams import EventStream, FrameStream
from .topics import Message, MessageStream

__version__ = "0.1.0"

__all__ = [
    "AntiphonError",
    "Audio",
    "AudioFrame",
    "AudioOutput",
    "BadRequestError",
    "Closed",
    "ClosedError",
    "ConflictError",
    "ConnectError",
    "ConnectionLostError",
    "DataRefused",
    "DominantChanged",
    "Draining",
    "DrainingError",
    "EncodedFrame",
    "Event",
    "EventStream",
    "Flushed",
    "ForbiddenError",
    "Frame",
    "FrameError",
    "FrameStream",
    "InternalError",
    "KeyframeNeeded",
    "LayerWish",
    "LayersWanted",
    "MarkPlayed",
    "MediaSession",
    "Message",
    "MessageStream",
    "NoCommonCodecError",
    "NotFoundError",
    "OverloadedError",
    "Participant",
    "ParticipantJoined",
    "ParticipantLeft",
    "ParticipantUpdated",
    "Participants",
    "ProtocolError",
    "QueueChanged",
    "RateLimitedError",
    "RecordingChanged",
    "Room",
    "RoomFullError",
    "ScreenStarted",
    "ScreenStopped",
    "ServerError",
    "Speaker",
    "StreamEnded",
    "StreamStarted",
    "StreamStats",
    "StreamUnavailable",
    "TokenExpiredError",
    "Top",
    "TooLargeError",
    "Track",
    "UnauthenticatedError",
    "UnsupportedCodecError",
    "Video",
    "VideoFrame",
    "VideoOutput",
    "connect",
]
