"""Fragments of the largest size by curl: `kvs_large.py URL ACCESS_KEY SECRET`.

The server has `store.max_fragment_bytes` as it is by default, 50 MB. All of each is really sent, in a cluster that does not say how long it is.
Prints `{"event": "done", "took_s": ...}`.
"""

import hashlib
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvs import BLOCK, Rig, cluster, element, header, step

LARGEST = 50_000_000
# A key frame as large as they come.
FRAME = 1_000_000
HEAD = len(element(b"\xa3", bytes(4)))


def fragment(timecode: int, size: int, frame: Callable[[int], bytes]) -> bytes:
    """A cluster of frames that has `size` bytes in all."""
    out, at = bytearray(cluster(timecode, b"")), 0
    while len(out) < size:
        # The last takes what is left, which is too little for another by itself at most.
        left = size - len(out)
        whole = left if left < FRAME + 2 * HEAD else FRAME
        out += element(b"\xa3", b"\x81" + struct.pack(">h", at) + b"\x80" + frame(whole - HEAD))
        at += 40
    assert len(out) == size
    return bytes(out)


def sent(rig: Rig, *fragments: bytes) -> list[dict]:
    """By curl, in one document; what it was told."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.mkv"
        path.write_bytes(header("c") + b"".join(fragments))
        curl = subprocess.run(rig.curl("large", time.time(), "ABSOLUTE", "-T", str(path)), capture_output=True, timeout=60)
    return [json.loads(line) for line in curl.stdout.splitlines()]


def said(acks: list[dict], timecode: int) -> list[str]:
    """What became of one fragment."""
    return [a.get("ErrorCode") or a["EventType"] for a in acks if a["FragmentTimecode"] == timecode]


def listed(rig: Rig) -> dict[str, int]:
    client = rig.data("kinesis-video-archived-media", "large", "LIST_FRAGMENTS")
    return {f["FragmentNumber"]: f["FragmentSizeInBytes"] for f in client.list_fragments(StreamName="large")["Fragments"]}


def as_large_as_may_be(rig: Rig, now: int) -> None:
    large, small = fragment(now, LARGEST, random.Random(1).randbytes), cluster(now + 10_000, bytes(BLOCK))
    acks = sent(rig, large, small)
    for timecode in (now, now + 10_000):
        assert said(acks, timecode) == ["BUFFERING", "RECEIVED", "PERSISTED"], acks
    number = next(a["FragmentNumber"] for a in acks if a["FragmentTimecode"] == now)
    assert listed(rig)[number] == LARGEST, listed(rig)
    client = rig.data("kinesis-video-archived-media", "large", "GET_MEDIA_FOR_FRAGMENT_LIST")
    body = client.get_media_for_fragment_list(StreamName="large", Fragments=[number])["Payload"].read()
    assert hashlib.sha256(body[-LARGEST:]).digest() == hashlib.sha256(large).digest(), len(body)
    step(f"{LARGEST} bytes are kept, and are the same when they come back")


def one_byte_more(rig: Rig, now: int) -> None:
    """What came before it is kept, and nothing of it."""
    before = listed(rig)
    acks = sent(rig, cluster(now, bytes(BLOCK)), fragment(now + 1000, LARGEST + 1, bytes))
    assert said(acks, now) == ["BUFFERING", "RECEIVED", "PERSISTED"], acks
    assert said(acks, now + 1000) == ["BUFFERING", "MAX_FRAGMENT_SIZE_REACHED"], acks
    assert [a["ErrorId"] for a in acks if a["EventType"] == "ERROR"] == [4001], acks
    assert len(listed(rig)) == len(before) + 1
    step(f"4001: {LARGEST + 1} bytes")


def main() -> None:
    rig, began = Rig(*sys.argv[1:4]), time.monotonic()
    rig.control.create_stream(StreamName="large", DataRetentionInHours=1)
    now = int(time.time() * 1000) - 60_000
    as_large_as_may_be(rig, now)
    one_byte_more(rig, now + 20_000)
    print(json.dumps({"event": "done", "took_s": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
