"""Streams in a bucket: `kvs_bucket.py BINARY plain|faults`, with a server whose `[s3]` names moto's.

`plain`: made, written, read, read again after a restart; two servers on one bucket do not overwrite each other's records; scrubbed; deleted.
`faults`: a bad line between server and bucket, while a producer goes on; then nothing is answered, then everything is refused, then one object is, then the
server is killed in the dark: all that was PERSISTED comes back byte for byte, at the end from the bucket alone. Prints `{"event": "done", ...}`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bucket import Bucket, Line, settings
from kvs import Rig, cluster, header, lines, parse, refused, step
from kvs_kill import BLOCKS, Server, check, pcm_of

STEP_S = 0.05


started: list[Server] = []


def start(binary: str, data: str, more: dict[str, str]) -> Server:
    """A server that ends with this program, whatever happens."""
    started.append(Server(binary, data, more=more))
    return started[-1]


def until(what: str, look: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(STEP_S)


def store_says(what: str, binary: str, data: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`antiphon store WHAT`, beside a server or without."""
    env = {**os.environ, **{f"ANTIPHON_{k}": v for k, v in {"STORE_ENABLED": "true", **variables}.items()}}
    return subprocess.run([binary, "store", what, "--data", data], capture_output=True, text=True, env=env)


def scrub(binary: str, data: str, variables: dict[str, str]) -> str:
    """What `antiphon store scrub` says, which has to be that all is well."""
    done = store_says("scrub", binary, data, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tells_nothing(files: dict[str, bytes], pcm: bytes) -> None:
    """Neither names nor contents have the contact, or what was said."""
    assert len(files) > 5, files.keys()
    for secret in (b"contact-1", pcm[:32], pcm[700:732]):
        found = [name for name, content in files.items() if secret in content or secret in name.encode()]
        assert not found, (secret, found)


def store_all(rig: Rig, times: list[int]) -> None:
    producer = rig.producer("s")
    producer.send(header("contact-1"))
    for timecode in times:
        producer.send(cluster(timecode, pcm_of(timecode)))
    producer.end()
    acks = lines(producer.response())
    assert [a["FragmentTimecode"] for a in acks if a["EventType"] == "PERSISTED"] == times, acks


def earliest(rig: Rig) -> bytes:
    media = rig.data("kinesis-video-media", "s", "GET_MEDIA")
    return parse(media.get_media(StreamName="s", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read())[1]


def plain(binary: str, bucket: Bucket, data: str, other_data: str) -> dict:
    variables = {**settings(bucket.url), "STORE_IDLE_CLOSE_MS": "50"}
    server = start(binary, data, variables)
    server.rig.control.create_stream(StreamName="s", DataRetentionInHours=24)
    refused("ResourceInUseException", 400, server.rig.control.create_stream, StreamName="s")
    first = int(time.time() * 1000) - 60_000
    times = [first + i * BLOCKS * 64 for i in range(20)]
    pcm = b"".join(pcm_of(timecode) for timecode in times)
    store_all(server.rig, times)
    assert earliest(server.rig) == pcm
    tells_nothing(bucket.objects(), pcm_of(times[7]))
    assert not (Path(data) / "store").exists(), "the streams are in the bucket, not in the folder"
    server.kill()
    server = start(binary, data, variables)
    assert earliest(server.rig) == pcm
    step("read again after a kill")
    shutil.copy(Path(data) / "store.key", other_data)
    other = start(binary, other_data, variables)
    version = server.rig.control.describe_stream(StreamName="s")["StreamInfo"]["Version"]
    server.rig.control.update_stream(StreamName="s", CurrentVersion=version, MediaType="a/a")
    late = other.rig.control
    refused("VersionMismatchException", 400, late.update_stream, StreamName="s", CurrentVersion=version, MediaType="b/b")
    assert late.describe_stream(StreamName="s")["StreamInfo"]["MediaType"] == "a/a", "it has learned what the other wrote"
    refused("ResourceInUseException", 400, late.create_stream, StreamName="s")
    other.kill()
    step("two servers on one bucket")
    assert scrub(binary, data, variables).startswith("1 streams, 20 fragments,")
    arn = server.rig.control.describe_stream(StreamName="s")["StreamInfo"]["StreamARN"]
    server.rig.control.delete_stream(StreamARN=arn)
    assert scrub(binary, data, variables).startswith("0 streams, 0 fragments,")
    left = [key for key in bucket.keys() if "/f/" in key or "/hdr/" in key]
    assert not left, left
    server.kill()
    return {}


class Producing:
    """A producer that goes on until it is told to end: what it sent, what it was told."""

    def __init__(self, rig: Rig, first: int, stream: str = "s"):
        self.producer, self.next = rig.producer(stream), first
        self.sent: list[int] = []
        self.promised: dict[str, int] = {}
        self.errors: list[dict] = []
        self.ending = threading.Event()
        self.producer.send(header("contact-1"))
        self.response = self.producer.response()
        self.threads = [threading.Thread(target=self.send, daemon=True), threading.Thread(target=self.listen, daemon=True)]
        for thread in self.threads:
            thread.start()

    def send(self) -> None:
        try:
            while not self.ending.wait(0.05):
                self.producer.send(cluster(self.next, pcm_of(self.next)))
                self.sent.append(self.next)
                self.next += BLOCKS * 64
            self.producer.end()
        except OSError:
            pass  # The server was killed.

    def listen(self) -> None:
        try:
            while line := self.response.readline():
                ack = json.loads(line)
                if ack["EventType"] == "PERSISTED":
                    self.promised[ack["FragmentNumber"]] = ack["FragmentTimecode"]
                elif ack["EventType"] == "ERROR":
                    self.errors.append(ack)
        except (OSError, ValueError):
            pass

    def join(self) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def goes_on(self) -> None:
        """Waits until ten more fragments were promised."""
        wanted = len(self.promised) + 10
        until("more fragments are PERSISTED", lambda: len(self.promised) >= wanted)


def metric(server: Server, name: str) -> float:
    return server.rig.metrics()[f"store_{name}"]


def bad_line(server: Server, line: Line, first: int) -> Producing:
    """Every fault while one producer goes on: not a fragment fails."""
    producing = Producing(server.rig, first)
    producing.goes_on()
    line.mode = "bad"
    until("the line was bad in each way", lambda: all(line.met[kind] >= 2 for kind in ("before", "after", "late", "busy", "short")))
    line.mode = "dark"
    until("the spool is used", lambda: metric(server, "away") == 1 and metric(server, "spooled") > 0)
    producing.goes_on()
    line.mode = "good"
    until("the spool is empty", lambda: metric(server, "away") == 0 and metric(server, "spooled") == 0)
    step("a bad line, then a dark one")
    line.mode = "denied"
    until("what the bucket refuses is spooled, and said", lambda: metric(server, "away") == 1 and metric(server, "refused") == 1)
    producing.goes_on()
    line.mode = "good"
    until("the spool is empty again", lambda: metric(server, "away") == 0 and metric(server, "spooled") == 0)
    step("credentials that had expired")
    producing.join()
    assert producing.errors == [], producing.errors
    assert list(producing.promised.values()) == producing.sent, "each fragment that was sent is PERSISTED"
    return producing


def one_refused(binary: str, data: str, server: Server, line: Line, variables: dict[str, str], first: int) -> Producing:
    """The bucket refuses one object for good: all others go there, it is said which, and nothing of it is lost."""
    producing = Producing(server.rig, first)
    producing.goes_on()
    line.mode = "dark"
    until("the spool is used", lambda: metric(server, "away") == 1 and metric(server, "spooled") > 5)
    line.refused = sorted(path.name for path in (Path(data) / "spool").glob("v1/*/*/f/*/*") if "#" not in path.name)[1]
    line.mode = "good"
    until("all but one are in the bucket", lambda: metric(server, "away") == 0 and metric(server, "spooled") == 1)
    producing.goes_on()
    until("it is set aside", lambda: metric(server, "set_aside") == 1)
    assert metric(server, "away") == 0 and metric(server, "spooled") == 1
    looked = store_says("check", binary, data, variables)
    assert looked.returncode != 0 and line.refused in looked.stdout + looked.stderr, looked
    check(server.rig, producing.promised.copy())
    line.refused = None
    until("it is in the bucket, too", lambda: metric(server, "spooled") == 0 and metric(server, "set_aside") == 0)
    producing.join()
    assert producing.errors == [] and list(producing.promised.values()) == producing.sent, producing.errors
    step("one object that was refused for good, and then not")
    return producing


def faults(binary: str, bucket: Bucket, data: str, other_data: str) -> dict:
    line = Line(bucket.url, seed=7)
    # Two seconds instead of a minute, after which a bucket that does not answer counts as away.
    variables = settings(line.url, TIMEOUT_S="2")
    server = start(binary, data, variables)
    server.rig.control.create_stream(StreamName="s", DataRetentionInHours=24)
    first = int(time.time() * 1000) - 3_600_000
    producing = bad_line(server, line, first)
    promised = dict(producing.promised)
    check(server.rig, promised)
    producing = one_refused(binary, data, server, line, variables, producing.next)
    promised.update(producing.promised)
    again = Producing(server.rig, producing.next)
    again.goes_on()
    line.mode = "dark"
    until("the spool is used", lambda: metric(server, "away") == 1 and metric(server, "spooled") > 5)
    server.kill()
    again.join()
    spooled = len(list((Path(data) / "spool").glob("v1/*/*/f/*/*")))
    assert spooled > 5, spooled
    folder = Path(data) / "spool"
    tells_nothing({str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}, pcm_of(again.sent[-2]))
    promised.update(again.promised)
    line.mode = "good"
    server = start(binary, data, variables)
    check(server.rig, promised)
    until("the spool is empty", lambda: metric(server, "spooled") == 0)
    check(server.rig, promised)
    step(f"killed in the dark, with {spooled} fragments in the spool")
    server.kill()
    # The bucket alone, by a good line: nothing of the other folder but its key.
    shutil.copy(Path(data) / "store.key", other_data)
    alone = settings(bucket.url)
    server = start(binary, other_data, alone)
    check(server.rig, promised)
    server.kill()
    assert scrub(binary, other_data, alone).startswith("1 streams, ")
    line.stop()
    return {"persisted": len(promised), "met": line.met}


def main() -> None:
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as other_data:
        bucket = Bucket()
        try:
            done = {"plain": plain, "faults": faults}[sys.argv[2]](sys.argv[1], bucket, data, other_data)
        finally:
            for server in started:
                server.kill()
            bucket.stop()
    print(json.dumps({"event": "done", **done}), flush=True)


if __name__ == "__main__":
    main()
