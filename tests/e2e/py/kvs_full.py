"""A disk that is full: `kvs_full.py BINARY`. A server keeps its streams on a small tmpfs in a mount namespace of this process, and who
may not make one makes it in a user namespace of its own.

Until the disk is full fragments are PERSISTED, then they fail with 5001 while the connection goes on; readers of live media notice
nothing. With room again it goes on; what was promised is there. Prints `{"event": "done", ...}`, or `{"event": "cannot"}` where such
a namespace may not be made.
"""

import ctypes
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from kvs import cluster, header, parse
from kvs_kill import Server, pcm_of

CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x4000, 1 << 18
SIZE = 2 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


def good(result: int) -> None:
    """What a call into the C library says that went well."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_user() -> None:
    """Makes us root of a user namespace, which may mount within it."""
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    good(LIBC.unshare(CLONE_NEWUSER))
    # Without this the groups may not be mapped (user_namespaces(7)).
    Path("/proc/self/setgroups").write_text("deny")
    for name, outside in ids.items():
        Path(f"/proc/self/{name}").write_text(f"0 {outside} 1")


def own_mounts(folder: str) -> None:
    """Mounts a small tmpfs that nobody else sees."""
    try:
        good(LIBC.unshare(CLONE_NEWNS))
    except PermissionError:
        own_user()
        good(LIBC.unshare(CLONE_NEWNS))
    good(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    good(LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={SIZE}".encode()))


class Live:
    """Reads the stream live, beside what is stored of it."""

    def __init__(self, rig):
        self.rig, self.got = rig, b""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        media = self.rig.data("kinesis-video-media", "s", "GET_MEDIA")
        payload = media.get_media(StreamName="s", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"]
        while part := payload.read(4096):
            self.got += part


def run(binary: str, data: str) -> dict:
    server = Server(binary, data)
    server.rig.control.create_stream(StreamName="s", DataRetentionInHours=24)
    producer = server.rig.producer("s")
    producer.send(header("c"))
    response = producer.response()
    promised: dict[str, int] = {}
    refused = later = 0
    live = Live(server.rig)
    timecode = int(time.time() * 1000) - 3_600_000
    filler = Path(data) / "filler"

    def fragment() -> dict:
        """Sends one, and waits for what became of the one before it."""
        nonlocal timecode
        producer.send(cluster(timecode, pcm_of(timecode)))
        timecode += 256
        while True:
            ack = json.loads(response.readline())
            if ack["EventType"] in ("PERSISTED", "ERROR"):
                return ack

    first = timecode - 256
    producer.send(cluster(first, pcm_of(first)))
    deadline = time.time() + 60
    while not live.got:
        assert time.time() < deadline, "nothing comes to the live reader"
        time.sleep(0.01)
    deadline = time.time() + 60
    while refused < 5:
        assert time.time() < deadline, f"{len(promised)} promised, and the disk is not full"
        if len(promised) == 20 and not filler.exists():
            # All but some blocks, so that it need not take thousands of fragments.
            free = os.statvfs(data)
            filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 64 * 1024)))
        ack = fragment()
        if ack["EventType"] == "PERSISTED":
            promised[ack["FragmentNumber"]] = ack["FragmentTimecode"]
        else:
            assert (ack["ErrorId"], ack["ErrorCode"]) == (5001, "ARCHIVAL_ERROR"), ack
            refused += 1
    metrics = server.rig.metrics()
    assert metrics["store_failing"] == 1 and metrics["store_failed_full_total"] >= 5, metrics
    filler.unlink()
    sent = timecode
    while later < 5:
        ack = fragment()
        assert ack["EventType"] == "PERSISTED", ack
        promised[ack["FragmentNumber"]] = ack["FragmentTimecode"]
        later += 1
    assert server.rig.metrics()["store_failing"] == 0
    producer.end()
    response.read()
    live.thread.join(30)
    # Each fragment was seen, those that found no room too.
    seen = parse(live.got)[1]
    for at in range(first, timecode - 256, 256):
        assert pcm_of(at) in seen, f"the live reader has not seen {at}, of {first} to {timecode}; the disk had room again at {sent}"
    numbers = sorted(promised)
    client = server.rig.data("kinesis-video-archived-media", "s", "LIST_FRAGMENTS")
    for again in (False, True):
        if again:
            server.kill()
            server = Server(binary, data)
            client = server.rig.data("kinesis-video-archived-media", "s", "LIST_FRAGMENTS")
        payload = client.get_media_for_fragment_list(StreamName="s", Fragments=numbers)["Payload"].read()
        assert parse(payload)[1] == b"".join(pcm_of(promised[n]) for n in numbers), "what comes back is not what was sent"
    server.kill()
    return {"event": "done", "persisted": len(promised), "refused": refused}


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        try:
            own_mounts(data)
        except OSError as e:
            print(json.dumps({"event": "done", "cannot": str(e)}), flush=True)
            return
        try:
            print(json.dumps(run(sys.argv[1], data)), flush=True)
        finally:
            LIBC.umount2(data.encode(), 2)


if __name__ == "__main__":
    main()
