"""Readers over real sockets that read nothing, beside one producer: `kvs_stalled.py URL ACCESS_KEY SECRET`.

The server has `store.reader_timeout_s = 5`. The producer sends at the pace of real time, half of the time alone and half of it beside the readers:
each PERSISTED comes as fast as before, all that was sent is stored, and comes live to one who reads. Prints
`{"event": "done", "alone_ms": ..., "beside_ms": ...}`: how long after the end of a fragment its PERSISTED came, as a rule, in both halves.
"""

import datetime
import hashlib
import json
import random
import socket
import statistics
import struct
import sys
import threading
import time
import urllib.parse

from kvs import Rig, authorization, cluster, element, header, parse, stamp_of, step
from kvs_bucket import until

READERS = 16
# Half a megabyte a second, as a camera sends: what the sockets of readers hold is full within a fragment or two.
FRAME, FRAME_S = 32 << 10, 0.064
FRAMES, FRAGMENTS = 3, 11
# The least that a socket may hold that nobody reads; and the least of a segment, by which the server's kernel says how much it holds.
RECEIVE_BYTES, SEGMENT_BYTES = 2048, 536


class Feed:
    """A producer that sends fragments in time."""

    def __init__(self, rig: Rig):
        self.rng, self.first, self.due = random.Random(8), int(time.time() * 1000), time.monotonic()
        self.sent, self.timecodes, self.numbers = b"", [], []
        # By timecode: when a fragment ended, and when it was PERSISTED.
        self.ended: dict[int, float] = {}
        self.stored: dict[int, float] = {}
        self.producer = rig.producer("s")
        self.producer.send(header("c"))
        self.response = self.producer.response()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self) -> None:
        while line := self.response.readline():
            ack = json.loads(line)
            if ack["EventType"] == "PERSISTED":
                self.stored[ack["FragmentTimecode"]] = time.monotonic()
                self.numbers.append(ack["FragmentNumber"])

    def fragment(self) -> None:
        """Frame by frame; its first ends the fragment before."""
        timecode = self.first + round(len(self.timecodes) * FRAMES * FRAME_S * 1000)
        for i in range(FRAMES):
            # Nothing waits for it: it is the pace of who speaks.
            time.sleep(max(0.0, self.due - time.monotonic()))
            self.due += FRAME_S
            frame = self.rng.randbytes(FRAME)
            self.sent += frame
            if i == 0:
                self.over()
            self.producer.send((b"" if i else cluster(timecode, b"")) + element(b"\xa3", b"\x81" + struct.pack(">h", i * 64) + b"\x80" + frame))
        self.timecodes.append(timecode)

    def over(self) -> None:
        if self.timecodes:
            self.ended[self.timecodes[-1]] = time.monotonic()

    def end(self) -> None:
        self.over()
        self.producer.end()
        self.listener.join(timeout=30)
        assert not self.listener.is_alive() and list(self.stored) == self.timecodes, (self.stored, self.timecodes)

    def usual_ms(self, timecodes: list[int]) -> float:
        return round(1000 * statistics.median(self.stored[at] - self.ended[at] for at in timecodes), 1)


def stalled(rig: Rig, selector: str) -> socket.socket:
    """Asks for media, and reads not even what the answer is."""
    url, body = urllib.parse.urlsplit(rig.url), json.dumps({"StreamName": "s", "StartSelector": {"StartSelectorType": selector}}).encode()
    path, stamp = url.path + "/getMedia", stamp_of(datetime.datetime.now(datetime.timezone.utc))
    signed = {"host": url.netloc, "x-amz-date": stamp}
    signature = authorization(rig.key, rig.secret, path, signed, hashlib.sha256(body).hexdigest())
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    reader.settimeout(10)
    reader.connect((url.hostname, url.port))
    fields = {**signed, "authorization": signature, "content-type": "application/json", "content-length": str(len(body))}
    reader.sendall(f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode() + b"\r\n" + body)
    return reader


def rest(reader: socket.socket) -> bytes:
    """What its kernel still has of an answer, up to the end of the connection."""
    got = b""
    try:
        while part := reader.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


def readers_of(rig: Rig) -> tuple[float, float]:
    """How many there are, and how many were cut off."""
    now = rig.metrics()
    return now["store_readers"], now["store_readers_stuck_total"]


def main() -> None:
    rig = Rig(*sys.argv[1:4])
    rig.control.create_stream(StreamName="s", DataRetentionInHours=1)
    feed = Feed(rig)
    payload = rig.data("kinesis-video-media", "s", "GET_MEDIA").get_media(StreamName="s", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"]
    heard: list[bytes] = []
    reading = threading.Thread(target=lambda: heard.append(payload.read()), daemon=True)
    reading.start()
    for _ in range(FRAGMENTS):
        feed.fragment()
    # Half of them fall behind in what is stored, half in what is live.
    readers = [stalled(rig, selector) for selector in ("EARLIEST", "NOW") * (READERS // 2)]
    for _ in range(FRAGMENTS):
        feed.fragment()
    beside = readers_of(rig)
    assert beside == (READERS + 1, 0), f"they were not there all the time: {beside}"
    feed.end()
    # The fragment that was open when they came is of neither half.
    alone_ms, beside_ms = feed.usual_ms(feed.timecodes[: FRAGMENTS - 1]), feed.usual_ms(feed.timecodes[FRAGMENTS + 1 :])
    assert beside_ms <= 5 * alone_ms + 100, (alone_ms, beside_ms)
    step(f"PERSISTED after {alone_ms} ms, beside {READERS} readers that read nothing after {beside_ms} ms")
    archive = rig.data("kinesis-video-archived-media", "s", "GET_MEDIA_FOR_FRAGMENT_LIST")
    kept = archive.get_media_for_fragment_list(StreamName="s", Fragments=feed.numbers)["Payload"].read()
    assert parse(kept)[1] == feed.sent, "what is stored is not what was sent"
    reading.join(timeout=30)
    assert parse(heard[0])[1] == feed.sent, "who reads did not hear all of it"
    until("they are cut off", lambda: readers_of(rig) == (0, READERS), 15)
    for reader in readers:
        got = rest(reader)
        assert got.startswith(b"HTTP/1.1 200 ") and not got.endswith(b"0\r\n\r\n"), (len(got), got[-20:])
    step("each of them was cut off")
    print(json.dumps({"event": "done", "alone_ms": alone_ms, "beside_ms": beside_ms}), flush=True)


if __name__ == "__main__":
    main()
