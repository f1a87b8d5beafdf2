"""What a bot wants to get and give: its media session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Union

from .fields import Object
from .words import AudioForm, Direction, Mix, VideoForm


SAMPLE_RATES = (8_000, 16_000, 24_000, 48_000)
HEIGHTS = (180, 360, 540, 720, 1080)
BITRATES = range(30_000, 20_000_001)
MAX_LISTED = 256
"""Participants that a session may list by id."""


@dataclass(frozen=True)
class Top:
    """Only the ``count`` most dominant participants."""

    count: int

    def __post_init__(self) -> None:
        _require(0 <= self.count <= 255, "Top counts at most 255")


Participants = Union[Literal["all"], Top, Sequence[str]]
"""Whose media: ``"all"``, ``Top(3)``, or a list of participant ids."""


def _require(right: bool, message: str) -> None:
    # Here, where the caller's mistake is; the server would end the connection over it.
    if not right:
        raise ValueError(message)


def _check(wanted: Participants) -> None:
    if isinstance(wanted, str):
        _require(wanted == "all", 'participants is "all", Top(n), or a list of participant ids')
    elif not isinstance(wanted, Top):
        _require(len(wanted) <= MAX_LISTED, f"at most {MAX_LISTED} participants are listed")


def _participants(wanted: Participants) -> object:
    if isinstance(wanted, Top):
        return {"top": wanted.count}
    return wanted if isinstance(wanted, str) else {"ids": list(wanted)}


@dataclass(frozen=True)
class Audio:
    """Voices (or the sound of screens) to hear, and one to speak with.

    ``unmixed`` gives one stream per participant, ``mixed`` one stream of all others besides; both work at once.
    ``sample_rate`` is 8000, 16000, 24000 or 48000: of what is received, and by default of what is pushed.
    """

    direction: Direction = "recvonly"
    sample_rate: int = 16_000
    form: AudioForm = "pcm"
    unmixed: bool = True
    mixed: Mix | None = None
    participants: Participants = "all"

    def __post_init__(self) -> None:
        _require(self.sample_rate in SAMPLE_RATES, f"sample_rate is one of {SAMPLE_RATES}")
        _check(self.participants)

    def to_json(self) -> Object:
        out: Object = {
            "direction": self.direction,
            "sample_rate": self.sample_rate,
            "form": self.form,
            "unmixed": self.unmixed,
            "participants": _participants(self.participants),
        }
        if self.mixed is not None:
            out["mixed"] = self.mixed
        return out


@dataclass(frozen=True)
class Video:
    """Cameras (or screens) to see, and one to show.

    ``height`` (180, 360, 540, 720, 1080) scales what is received, keeping its shape; None leaves it as sent.
    ``send_codec`` is what pushed pictures are encoded in for the room; VP8 reaches every browser.
    """

    direction: Direction = "recvonly"
    form: VideoForm = "rgb24"
    height: int | None = None
    max_frame_rate: int = 30
    participants: Participants = "all"
    send_codec: Literal["vp8", "h264"] = "vp8"
    send_bitrate: int | None = None

    def __post_init__(self) -> None:
        _require(self.height is None or self.height in HEIGHTS, f"height is one of {HEIGHTS}, or None")
        _require(1 <= self.max_frame_rate <= 30, "max_frame_rate is 1 to 30")
        right = self.send_bitrate is None or self.send_bitrate in BITRATES
        _require(right, f"send_bitrate is {BITRATES.start} to {BITRATES.stop - 1}, or None")
        _check(self.participants)

    def to_json(self) -> Object:
        out: Object = {
            "direction": self.direction,
            "form": self.form,
            "max_frame_rate": self.max_frame_rate,
            "participants": _participants(self.participants),
            "send_codec": self.send_codec,
        }
        if self.height is not None:
            out["height"] = self.height
        if self.send_bitrate is not None:
            out["send_bitrate"] = self.send_bitrate
        return out


@dataclass(frozen=True)
class MediaSession:
    """All four modalities; None is inactive."""

    audio: Audio | None = None
    camera: Video | None = None
    screen: Video | None = None
    screen_audio: Audio | None = None

    def to_json(self) -> Object:
        parts = {
            "audio": self.audio,
            "camera": self.camera,
            "screen": self.screen,
            "screen_audio": self.screen_audio,
        }
        return {name: part.to_json() for name, part in parts.items() if part is not None}
