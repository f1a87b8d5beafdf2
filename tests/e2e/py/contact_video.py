"""Reads a contact with its camera, live from its start fragment, and decodes each fragment by itself with PyAV:
`contact_video.py URL ACCESS_KEY SECRET STREAM_ARN START_FRAGMENT`.

Prints `{"event": "fragment", ...}` for each fragment as soon as the next one begins; `{"event": "read", ...}` when the live response has ended;
and `{"event": "archive", ...}` with what GetImages and GetClip give of it.
"""

import base64
import io
import json
import sys
from datetime import datetime, timezone

import av
import numpy as np
from botocore.exceptions import ClientError
from kvs import Rig
from synth import read_number

# Our documents begin alike: the EBML head, and how long it is.
HEAD = b"\x1a\x45\xdf\xa3\x10\x00\x00"
LOUD = 2000


def say(event: str, **fields) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Document:
    """One fragment: its pictures as `[ms, frame number, width, height, key]`, its sound as `[ms, bytes]`."""

    def __init__(self, data: bytes):
        self.pictures, self.sound, self.codec = [], [], None
        with av.open(io.BytesIO(data), format="matroska") as opened:
            self.tracks = [stream.metadata.get("title") for stream in opened.streams]
            keys = {}
            for packet in opened.demux():
                if packet.stream.type == "audio":
                    if packet.size > 0:
                        self.sound.append((packet.pts, bytes(packet)))
                    continue
                self.codec = packet.stream.codec_context.name
                keys[packet.pts] = packet.is_keyframe
                # Some decoders give a picture some packets later, and the last ones for an empty packet.
                for frame in packet.decode():
                    number = read_number(frame.to_ndarray(format="rgb24"))
                    self.pictures.append([frame.pts, number, frame.width, frame.height, keys[frame.pts]])


def onset(sound: list[tuple[int, bytes]]) -> int | None:
    """When it is loud for the first time."""
    for at, pcm in sound:
        loud = np.flatnonzero(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) > LOUD)
        if loud.size:
            return at + int(loud[0]) // 8
    return None


def images(archived, arn: str, pictures: list) -> list:
    """Some moments as images: what was on the screen then, and what each shows."""
    got = []
    for picture in pictures[10 :: max(1, len(pictures) // 5)][:5]:
        # In the middle of its time, where the next ones do not come sooner: a busy page makes up for pictures it is late with.
        at = picture[0] + 10
        wanted = [number for since, number, *_ in pictures if since <= at][-1]
        moment = {"StartTimestamp": datetime.fromtimestamp(at / 1000, timezone.utc), "EndTimestamp": datetime.fromtimestamp(at / 1000 + 1, timezone.utc)}
        page = archived.get_images(StreamARN=arn, ImageSelectorType="PRODUCER_TIMESTAMP", Format="PNG", SamplingInterval=3000, MaxResults=1, **moment)
        [image] = page["Images"]
        if "Error" in image:
            got.append([wanted, image["Error"]])
            continue
        with av.open(io.BytesIO(base64.b64decode(image["ImageContent"]))) as opened:
            got.append([wanted, read_number(next(opened.decode(video=0)).to_ndarray(format="rgb24"))])
    return got


def clip(archived, arn: str, pictures: list) -> str:
    """What GetClip says of it."""
    at = [datetime.fromtimestamp(p[0] / 1000, timezone.utc) for p in (pictures[0], pictures[-1])]
    selector = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": at[0], "EndTimestamp": at[1]}}
    try:
        archived.get_clip(StreamARN=arn, ClipFragmentSelector=selector)["Payload"].read()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "a file"


def main() -> None:
    url, key, secret, arn, start = sys.argv[1:6]

    rig = Rig(url, key, secret)
    endpoint = rig.control.get_data_endpoint(StreamARN=arn, APIName="GET_MEDIA")["DataEndpoint"]
    selector = {"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": start}
    payload = rig.client("kinesis-video-media", endpoint).get_media(StreamARN=arn, StartSelector=selector)["Payload"]
    rest, documents = b"", []

    def take(data: bytes) -> None:
        document = Document(data)
        documents.append(document)
        size = document.pictures[-1][2:4] if document.pictures else None
        say("fragment", tracks=document.tracks, codec=document.codec, pictures=len(document.pictures), size=size)

    while chunk := payload._raw_stream.read1(65536):
        *whole, rest = (rest + chunk).split(HEAD)
        for data in filter(None, whole):
            take(HEAD + data)
    take(HEAD + rest)
    pictures = [picture for document in documents for picture in document.pictures]
    sound = [block for document in documents for block in document.sound]
    starts = [document.pictures[0][4] for document in documents if document.pictures]
    say("read", pictures=pictures, keyed=starts, sound=[[at, len(pcm)] for at, pcm in sound], onset=onset(sound))
    archived = rig.client("kinesis-video-archived-media", rig.control.get_data_endpoint(StreamARN=arn, APIName="GET_IMAGES")["DataEndpoint"])
    say("archive", images=images(archived, arn, pictures), clip=clip(archived, arn, pictures))


if __name__ == "__main__":
    main()
