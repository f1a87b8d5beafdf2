"""The frame protocol, against the vectors that all SDKs read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from antiphon.frames import (
    AudioFrame,
    EncodedFrame,
    Frame,
    FrameError,
    VideoFrame,
    parse_frame,
    write_encoded_video,
    write_pcm,
    write_picture,
)
from antiphon.roster import Participant

from vectors import VECTORS, message


def someone(key: int) -> Participant:
    return Participant(f"pa_{key}", key)


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def describe_format(frame: Frame) -> dict[str, object]:
    if isinstance(frame, AudioFrame):
        count = frame.samples.shape[0]
        return {"kind": "pcm", "sample_rate": frame.sample_rate, "channels": frame.channels, "samples": count}
    if isinstance(frame, VideoFrame):
        return {
            "kind": "picture",
            "pixel_format": frame.format,
            "width": frame.width,
            "height": frame.height,
            "source_width": frame.source_width,
            "source_height": frame.source_height,
        }
    if frame.source in ("camera", "screen"):
        return {"kind": "encoded_video", "codec": frame.codec, "width": frame.width, "height": frame.height}
    rate = {"sample_rate": frame.sample_rate, "channels": frame.channels}
    return {"kind": "encoded_audio", "codec": frame.codec, **rate}


def payload(frame: Frame) -> bytes:
    if isinstance(frame, AudioFrame):
        return frame.samples.tobytes()
    return frame.data.tobytes()


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=named)
def test_a_good_message_reads_as_the_vector_says(vector: dict[str, Any]) -> None:
    frame = parse_frame(bytes.fromhex(vector["message"]), someone)
    header = vector["header"]
    assert describe_format(frame) == header["format"]
    assert payload(frame).hex() == vector["payload"]
    for name in ("source", "stream", "sequence", "capture_estimated", "dropped_before"):
        assert getattr(frame, name) == header[name], name
    for name in ("capture_us", "arrival_us", "media_us"):
        assert getattr(frame, name) == int(header[name]), name
    assert (frame.participant.key if frame.participant is not None else 0) == header["participant"]
    assert frame.gap == header["gap"]
    if isinstance(frame, AudioFrame):
        heard = [{"participant": s.participant.key, "level": s.level} for s in frame.speakers]
        assert (heard, frame.silence, frame.mixed) == (header["speakers"], header["silence"], header["mixed"])
    if isinstance(frame, EncodedFrame):
        assert frame.key == header["key"]


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=named)
def test_a_bad_message_is_refused_as_the_vector_says(vector: dict[str, Any]) -> None:
    with pytest.raises(FrameError) as caught:
        parse_frame(bytes.fromhex(vector["message"]), someone)
    assert {"kind": caught.value.kind, **caught.value.details} == vector["error"]


# Bots do not send encoded audio.
WRITTEN = [v for v in VECTORS["frames"] if v["canonical"] and v["header"]["format"]["kind"] != "encoded_audio"]


@pytest.mark.parametrize("vector", WRITTEN, ids=named)
def test_what_is_written_has_the_bytes_of_the_vector(vector: dict[str, Any]) -> None:
    header, kind, body = vector["header"], vector["header"]["format"], bytes.fromhex(vector["payload"])
    source, sequence, capture = header["source"], header["sequence"], int(header["capture_us"])
    if kind["kind"] == "pcm":
        samples = np.frombuffer(body, "<i2").reshape(-1, kind["channels"])
        samples = samples if kind["channels"] == 2 else samples[:, 0]
        made = write_pcm(source, sequence, capture, kind["sample_rate"], samples)
    elif kind["kind"] == "picture":
        size = (kind["width"], kind["height"])
        made = write_picture(source, sequence, capture, kind["pixel_format"], *size, np.frombuffer(body, np.uint8))
    elif kind["kind"] == "encoded_video":
        size = (kind["width"], kind["height"])
        made = write_encoded_video(source, sequence, capture, kind["codec"], *size, header["key"], body)
    else:
        raise AssertionError(f"nothing writes {kind['kind']}")
    expected = bytearray.fromhex(vector["message"])
    head = 56 + 8 * len(header["speakers"])
    # What only the server fills: flags but `key`, stream, participant, other clocks, drops, speakers, source size.
    expected[3] &= 4
    expected[4:12] = bytes(8)
    expected[24:44] = bytes(20)
    expected[46] = 0
    if kind["kind"] == "picture":
        expected[52:56] = expected[48:52]
    assert made == bytes(expected[:56] + expected[head:])


def test_pixels_and_planes_are_views() -> None:
    rgb = parse_frame(message("picture_rgb24_4x2"), someone)
    assert isinstance(rgb, VideoFrame)
    assert rgb.pixels.shape == (2, 4, 3)
    assert rgb.pixels.base is not None and not rgb.pixels.flags.writeable
    assert [p.shape for p in rgb.planes] == [(2, 4, 3)]
    i420 = parse_frame(message("picture_i420_3x3"), someone)
    assert isinstance(i420, VideoFrame)
    assert [p.shape for p in i420.planes] == [(3, 3), (2, 2), (2, 2)]
    assert int(i420.planes[2][-1, -1]) == 9 + 8 - 1
    with pytest.raises(ValueError, match="planes"):
        i420.pixels
    nv12 = parse_frame(message("picture_nv12_3x3"), someone)
    assert isinstance(nv12, VideoFrame)
    assert [p.shape for p in nv12.planes] == [(3, 3), (2, 2, 2)]
