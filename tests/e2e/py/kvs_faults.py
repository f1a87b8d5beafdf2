"""What ends producers of PutMedia, by real clients: `kvs_faults.py URL ACCESS_KEY SECRET`.

The server has `store.max_fragment_ms = 5000`, `store.max_stream_bytes = 60000`, `store.max_total_bytes = 150000` and `store.every_track = true`. curl sends the beginning of a stream and then nothing: it hears
`IDLE` and is ended after half a minute. Meanwhile documents and deeds cause each error that those of `kvs_tools.py` cannot.
"""

import json
import struct
import subprocess
import sys
import threading
import time

from kvs import BLOCK, Producer, Rig, cluster, element, header, lines, refused, step

TOTAL = 150_000


def errors(acks: list[dict]) -> list[tuple]:
    return [(a["ErrorId"], a["ErrorCode"]) for a in acks if a["EventType"] == "ERROR"]


def kinds(acks: list[dict]) -> list[str]:
    return [a["EventType"] for a in acks]


def silence(rig: Rig, result: dict) -> None:
    """A second of sound by curl, whose input stays open (`-T .`: it is not waited for). Says when each line came, and how curl ended."""
    curl = rig.curl("silent", time.time(), "ABSOLUTE", "--no-buffer", "-T", ".")
    began = 0.0
    process = subprocess.Popen(curl, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(header("c") + cluster(int(time.time() * 1000), bytes(16 * BLOCK)))
    process.stdin.flush()
    told = result["lines"] = []
    for line in process.stdout:
        # The first line says that what was sent has come.
        began = began if told else time.monotonic()
        told.append((time.monotonic() - began, json.loads(line)["EventType"]))
        if told[-1][1] == "PERSISTED":
            break
    # The response has ended here, and the connection with it; curl itself waits for the end of its input.
    result["ended"] = time.monotonic() - began
    process.stdin.close()
    result["rest"], result["code"] = process.stdout.read(), process.wait(timeout=10)


def too_long(rig: Rig) -> None:
    """Blocks of one cluster over more than five seconds."""
    now = int(time.time() * 1000)
    data = header("c") + cluster(now, bytes(BLOCK))
    for at in range(64, 6_400, 64):
        data += element(b"\xa3", b"\x81" + struct.pack(">h", at) + b"\x80" + bytes(64))
    producer = rig.producer("long")
    producer.send(data)
    producer.end()
    acks = lines(producer.response())
    assert errors(acks) == [(4002, "MAX_FRAGMENT_DURATION_REACHED")] and "PERSISTED" not in kinds(acks), acks
    listed = rig.data("kinesis-video-archived-media", "long", "LIST_FRAGMENTS").list_fragments(StreamName="long")
    assert listed["Fragments"] == []
    step("4002: a fragment that lasts too long is not kept")


def one_sided(rig: Rig) -> None:
    """Two tracks, of which the second fragment has one: the first is kept."""
    now = int(time.time() * 1000)
    block = element(b"\xa3", b"\x82\x00\x00\x80" + bytes(BLOCK))
    producer = rig.producer("sides")
    producer.send(header("c", tracks=2) + cluster(now, bytes(BLOCK)) + block + cluster(now + 1000, bytes(BLOCK)))
    producer.end()
    acks = lines(producer.response())
    assert errors(acks) == [(4011, "FRAMES_MISSING_FOR_TRACK")], acks
    assert [a["FragmentTimecode"] for a in acks if a["EventType"] == "PERSISTED"] == [now], acks
    step("4011: a fragment in which a track has no frame")


def deleted(rig: Rig) -> None:
    """The stream goes while it is written."""
    now = int(time.time() * 1000)
    producer = rig.producer("gone")
    producer.send(header("c") + cluster(now, bytes(BLOCK)))
    response = producer.response()
    assert json.loads(response.readline())["EventType"] == "BUFFERING"
    rig.control.delete_stream(StreamARN=rig.control.describe_stream(StreamName="gone")["StreamInfo"]["StreamARN"])
    try:
        producer.send(cluster(now + 1000, bytes(BLOCK)))
        producer.end()
    except OSError:
        pass  # It has ended already.
    acks = lines(response)
    assert errors(acks) == [(4507, "STREAM_DELETED")] and "PERSISTED" not in kinds(acks), acks
    step("4507: the stream was deleted under its producer")


def full(rig: Rig) -> None:
    """A quota: the fragment finds no room, and the session goes on."""
    now = int(time.time() * 1000)
    producer = rig.producer("full")
    producer.send(header("c") + b"".join(cluster(now + i * 2000, bytes(30 * BLOCK)) for i in range(4)))
    producer.end()
    acks = lines(producer.response())
    assert errors(acks) == [(5001, "ARCHIVAL_ERROR")] * kinds(acks).count("ERROR") and 1 <= kinds(acks).count("ERROR") <= 3, acks
    assert kinds(acks).count("RECEIVED") == 4 and kinds(acks).count("PERSISTED") == 4 - kinds(acks).count("ERROR"), acks
    assert rig.metrics()["store_failed_quota_total"] == kinds(acks).count("ERROR")
    step("5001: what finds no room is told, fragment by fragment, and counted")


def pushed_out(rig: Rig) -> None:
    """The same producer comes a third time, where two have room: its first connection ends."""
    first = rig.producer("back")
    first.send(header("c") + cluster(int(time.time() * 1000), bytes(BLOCK)))
    response = first.response()
    assert json.loads(response.readline())["EventType"] == "BUFFERING"
    more = [rig.producer("back") for _ in range(2)]
    for producer in more:
        producer.send(header("c"))
    acks = lines(response)
    assert errors(acks) == [(4000, "STREAM_READ_ERROR")] and "PERSISTED" in kinds(acks), acks
    for producer in more:
        producer.end()
        producer.response().read()
    step("4000: the oldest connection makes room for who is back")


def whole_store_full(rig: Rig) -> None:
    """All streams together have as much as may be, to the byte: no producer is let in."""
    now, names = int(time.time() * 1000), ("rest-1", "rest-2", "rest-3")
    for name in names:
        rig.control.create_stream(StreamName=name, DataRetentionInHours=1)
    empty = cluster(now, b"") + element(b"\xa3", b"\x81\x00\x00\x80")
    for name, most in ((names[0], 50_000), (names[1], 60_000)):
        free = TOTAL - int(rig.metrics()["store_bytes"])
        size = min(free, most)
        producer = rig.producer(name)
        producer.send(header("c") + cluster(now, b"") + element(b"\xa3", b"\x81\x00\x00\x80" + bytes(size - len(empty))))
        producer.end()
        acks = lines(producer.response())
        assert kinds(acks)[-1] == "PERSISTED", (size, acks)
    assert size == free, (size, free)
    producer = rig.producer(names[2])
    producer.end()
    response = producer.response()
    got = (response.status, response.getheader("x-amzn-ErrorType"))
    assert got[0] == 400 and got[1].startswith("ClientLimitExceededException:"), got
    step("ClientLimitExceededException: the store is full")


def refusals(rig: Rig) -> None:
    """What is refused before there are acknowledgements."""

    def status(expected: tuple, **more) -> None:
        producer = Producer(rig.url, rig.key, rig.secret, more.pop("stream", "long"), more=more)
        producer.end()
        response = producer.response()
        response.read()
        got = (response.status, response.getheader("x-amzn-ErrorType").split(":")[0])
        assert got == expected, (more, got)

    invalid = (400, "InvalidArgumentException")
    status((404, "ResourceNotFoundException"), stream="nobody")
    status(invalid, **{"x-amzn-stream-arn": "arn:aws:kinesisvideo:us-east-1:000000000000:stream/long/1"})
    status(invalid, **{"x-amzn-fragment-acknowledgment-required": "2"})
    refused("ResourceNotFoundException", 404, rig.control.get_data_endpoint, StreamName="nobody", APIName="PUT_MEDIA")
    step("refusals of PutMedia by name")


def main() -> None:
    rig = Rig(*sys.argv[1:4])
    for name in ("silent", "long", "sides", "gone", "full", "back"):
        rig.control.create_stream(StreamName=name, DataRetentionInHours=1)
    result: dict = {}
    silent = threading.Thread(target=silence, args=(rig, result), daemon=True)
    silent.start()
    for part in (too_long, one_sided, deleted, full, pushed_out, refusals):
        part(rig)
    silent.join(timeout=45)
    assert not silent.is_alive(), "it is still connected"
    told = [kind for _, kind in result["lines"]]
    idle = [round(at) for at, kind in result["lines"] if kind == "IDLE"]
    assert told[0] == "BUFFERING" and told[-2:] == ["RECEIVED", "PERSISTED"] and len(idle) >= 2 and not result["rest"], result
    assert all(8 <= b - a <= 14 for a, b in zip([0, *idle], idle)), result
    assert 29 <= result["ended"] <= 40, result
    step(f"curl, silent: IDLE after {idle} s, ended after {result['ended']:.1f} s by what was complete (curl says {result['code']})")
    whole_store_full(rig)
    print(json.dumps({"event": "done", "idle": idle, "ended": result["ended"]}), flush=True)


if __name__ == "__main__":
    main()
