"""Shapes that a producer's document may have, by name, each right or wrong: `kvs_shapes.py URL ACCESS_KEY SECRET TOKEN`.

What is right is PERSISTED and comes back byte for byte; what is wrong has its error, and what was complete before it is kept. Another producer sends
a fragment into another stream after each of them. TOKEN (grant `admin`) reads voices as WAV files, by the names of their tracks.
"""

import json
import random
import struct
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from kvs import BLOCK, NAMES, Rig, cluster, element, header, lines, step

FROM, TO = b"\x11\x11" * (BLOCK // 2), b"\x22\x22" * (BLOCK // 2)
NOISE = random.Random(7).randbytes(BLOCK)
MS = 64
EBML, TRACKS, TAGS = b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67"


def block(track: int, relative: int, pcm: bytes) -> bytes:
    return element(b"\xa3", bytes([0x80 | track]) + struct.pack(">h", relative) + b"\x80" + pcm)


def tags(name: bytes, value: bytes) -> bytes:
    simple = element(b"\x67\xc8", element(b"\x45\xa3", name) + element(b"\x44\x87", value))
    return element(TAGS, element(b"\x73\x73", simple))


@dataclass
class Shape:
    """What is sent: a head, and fragments of which the last is not kept if there is an error."""

    head: bytes
    fragments: list[bytes]
    error: tuple[int, str] | None = None
    # Bytes of a piece; 0: all at once.
    pieces: int = 0
    # Of fragments that come back otherwise than they were sent: what comes.
    back: dict[int, bytes] = field(default_factory=dict)


INVALID = (4006, "INVALID_MKV_DATA")


def both(t: int, names: tuple[bytes, ...]) -> bytes:
    """A block of each track, each with the voice of its name."""
    voices = {NAMES[0]: FROM, NAMES[1]: TO}
    return cluster(t, b"") + b"".join(block(number, 0, voices[name]) for number, name in enumerate(names, 1))


def tracks(t: int) -> dict[str, Shape]:
    swapped = NAMES[::-1]
    head, other = header("swapped", 2), header("swapped", 2, swapped)
    again = other[other.index(TRACKS) : other.index(TAGS)]
    return {
        "tracks in their order": Shape(head, [both(t, NAMES), both(t + MS, NAMES)]),
        "swapped tracks: the numbers of the connection before, the other way round": Shape(other, [both(t + 2 * MS, swapped)]),
        "swapped tracks: other Tracks between two fragments": Shape(
            head, [both(t + 3 * MS, NAMES), both(t + 4 * MS, NAMES) + again + both(t + 5 * MS, swapped)], INVALID
        ),
        "swapped tracks: another head between two fragments": Shape(
            head, [both(t + 4 * MS, NAMES), both(t + 5 * MS, NAMES) + other + both(t + 6 * MS, swapped)], INVALID
        ),
        "swapped tracks: blocks of numbers that the head has not": Shape(
            header("one"), [cluster(t, NOISE), cluster(t + MS, b"") + block(2, 0, NOISE)], (4010, "TRACK_NUMBER_MISMATCH")
        ),
    }


def short(t: int) -> dict[str, Shape]:
    head, whole = header("short"), cluster(t, NOISE)
    return {
        "short block: its head only": Shape(head, [whole + block(1, MS, b"") + block(1, MS, NOISE)]),
        "short block: half a sample": Shape(head, [cluster(t + 2 * MS, NOISE) + block(1, MS, b"\x01") + block(1, 2 * MS, NOISE)]),
        "short block: all there is in a fragment": Shape(head, [cluster(t + 5 * MS, b"") + block(1, 0, b"")]),
        "short block: less than its head": Shape(head, [cluster(t + 6 * MS, NOISE), cluster(t + 7 * MS, b"") + element(b"\xa3", b"\x81\x00\x00")], INVALID),
        "short block: no byte": Shape(head, [cluster(t + 8 * MS, NOISE), cluster(t + 9 * MS, b"") + element(b"\xa3", b"")], INVALID),
    }


def tails(t: int) -> dict[str, Shape]:
    head, tail = header("tail"), tags(b"Turn", b"7")
    bare = head[: head.index(TAGS)]
    cut = cluster(t + 3 * MS, NOISE)
    return {
        "missing tail tags: the last fragment has none": Shape(head, [cluster(t, NOISE) + tail, cluster(t + MS, NOISE)]),
        "missing tail tags: there are none at all": Shape(bare, [cluster(t + 2 * MS, NOISE)]),
        "missing tail tags: they are cut off": Shape(head, [cut + tail[:-3]], back={0: cut}),
        "missing tail tags: they are no tags": Shape(head, [cluster(t + 4 * MS, NOISE), cluster(t + 5 * MS, NOISE) + element(TAGS, b"\xff" * 9)], INVALID),
    }


def wide(ident: bytes, data: bytes) -> bytes:
    """An element whose size has eight bytes, as one producer SDK writes all of them."""
    return ident + struct.pack(">Q", len(data) | 1 << 56) + data


def others(t: int) -> dict[str, Shape]:
    head, magic = header("other"), EBML + NOISE[4:]
    unknown = element(b"\x42\xf0", b"unknown")
    eight = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + wide(b"\xe7", (t + 2 * MS).to_bytes(8, "big")) + wide(b"\xa3", b"\x81\x00\x00\x80" + NOISE)
    return {
        "a document's magic within PCM": Shape(head, [cluster(t, magic)]),
        "unknown elements in a cluster": Shape(head, [cluster(t + MS, NOISE) + unknown + block(1, MS, NOISE)]),
        "sizes of eight bytes": Shape(head, [eight]),
        "byte by byte": Shape(head, [cluster(t + 3 * MS, NOISE)], pieces=1),
    }


def put(rig: Rig, shape: Shape) -> list[dict]:
    producer, data = rig.producer("shapes"), shape.head + b"".join(shape.fragments)
    size = shape.pieces or len(data)
    for at in range(0, len(data), size):
        producer.send(data[at : at + size])
    producer.end()
    return lines(producer.response())


def check(rig: Rig, archive, name: str, shape: Shape) -> None:
    acks = put(rig, shape)
    kept = shape.fragments[: -1 if shape.error else None]
    errors = [(a["ErrorId"], a["ErrorCode"]) for a in acks if a["EventType"] == "ERROR"]
    assert errors == ([shape.error] if shape.error else []), (name, acks)
    numbers = [a["FragmentNumber"] for a in acks if a["EventType"] == "PERSISTED"]
    assert len(numbers) == len(kept), (name, acks)
    for i, (number, sent) in enumerate(zip(numbers, kept)):
        body = archive.get_media_for_fragment_list(StreamName="shapes", Fragments=[number])["Payload"].read()
        assert body.startswith(shape.head) and body.endswith(shape.back.get(i, sent)), name


class Beside:
    """A producer of another stream, which nothing of this may disturb."""

    def __init__(self, rig: Rig):
        rig.control.create_stream(StreamName="beside", DataRetentionInHours=1)
        self.producer, self.sent = rig.producer("beside"), 0
        self.producer.send(header("beside") + cluster(1000, NOISE))
        self.response = self.producer.response()

    def fragment(self) -> None:
        """Sends one; the one before is stored."""
        self.sent += 1
        self.producer.send(cluster(1000 + self.sent * MS, NOISE))
        while (ack := json.loads(self.response.readline()))["EventType"] != "PERSISTED":
            assert ack["EventType"] != "ERROR", ack
        assert ack["FragmentTimecode"] == 1000 + (self.sent - 1) * MS, ack


def voice(rig: Rig, token: str, contact: str, track: str) -> bytes:
    """The samples of a contact's track, by its name."""
    url = urllib.parse.urlsplit(rig.url)
    asked = urllib.request.Request(f"{url.scheme}://{url.netloc}/v1/contacts/{contact}/audio.wav?track={track}", headers={"Authorization": f"Bearer {token}"})
    return urllib.request.urlopen(asked, timeout=10).read()[44:]


def main() -> None:
    rig, token = Rig(*sys.argv[1:4]), sys.argv[4]
    rig.control.create_stream(StreamName="shapes", DataRetentionInHours=1)
    archive = rig.data("kinesis-video-archived-media", "shapes", "GET_MEDIA_FOR_FRAGMENT_LIST")
    beside, now, count = Beside(rig), int(time.time() * 1000) - 60_000, 0
    for i, kind in enumerate((tracks, short, tails, others)):
        for name, shape in kind(now + i * 1000).items():
            check(rig, archive, name, shape)
            beside.fragment()
            count += 1
    # All that was kept of them, whichever number each had.
    assert voice(rig, token, "swapped", "from") == FROM * 5 and voice(rig, token, "swapped", "to") == TO * 5
    # Each at its time, and silence where too little came.
    said = b"".join(NOISE if i in (0, 1, 2, 4, 6, 8) else bytes(BLOCK) for i in range(9))
    assert voice(rig, token, "short", "from") == said
    step(f"{count} shapes of documents, each kept or refused; the producer beside them noticed nothing")
    print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
