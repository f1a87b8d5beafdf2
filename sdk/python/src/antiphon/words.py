"""The words of the protocol, as literal types: a type checker refuses a misspelt one."""

from __future__ import annotations

from typing import Literal

Source = Literal["microphone", "camera", "screen", "screen_audio"]
"""What a track comes from."""

AudioSource = Literal["microphone", "screen_audio"]
VideoSource = Literal["camera", "screen"]

Direction = Literal["sendrecv", "recvonly", "sendonly", "inactive"]
"""Which way a modality flows, seen from the bot."""

PixelFormat = Literal["i420", "nv12", "rgb24", "bgr24", "rgba"]
"""Layout of a raw picture; rows are tight, planes follow each other."""

VideoForm = Literal["i420", "nv12", "rgb24", "bgr24", "rgba", "encoded"]
"""How received video comes."""

AudioForm = Literal["pcm", "encoded"]
"""How received audio comes."""

Mix = Literal["dominant", "all"]
"""Whom a mix holds: the four most dominant speakers, or everybody; never the bot itself."""

AudioCodec = Literal["opus", "pcmu", "pcma", "g722"]
VideoCodec = Literal["vp8", "h264", "vp9", "av1"]
Codec = Literal["opus", "pcmu", "pcma", "g722", "vp8", "h264", "vp9", "av1"]

# In the order of their wire numbers (docs/reference/frame-protocol.md).
SOURCES: tuple[Source, ...] = ("microphone", "camera", "screen", "screen_audio")
PIXEL_FORMATS: tuple[PixelFormat, ...] = ("i420", "nv12", "rgb24", "bgr24", "rgba")
AUDIO_CODECS: tuple[AudioCodec, ...] = ("opus", "pcmu", "pcma", "g722")
VIDEO_CODECS: tuple[VideoCodec, ...] = ("vp8", "h264", "vp9", "av1")


def picture_bytes(pixel_format: PixelFormat, width: int, height: int) -> int:
    """Bytes of a picture of ``width`` x ``height`` pixels."""
    if pixel_format in ("i420", "nv12"):
        return width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
    return width * height * (4 if pixel_format == "rgba" else 3)
