"""Kills a server with SIGKILL while it stores a stream, again and again: `kvs_kill.py BINARY KILLS [SEED]`.

After each start everything that was ever acknowledged as PERSISTED has to be listed, and numbers have to go up only; what this run of the
server promised has to come back byte for byte, and some of what earlier ones did, after the last start all of it (to read all each time
would be most of the test's time). A second stream is a call that is journaled: what a live reader had seen a quarter of a second before the
kill has to be there too, once and in order, whether its fragment was stored or open. Prints
`{"event": "done", "kills": n, "persisted": n, "salvaged": n, "due": n, "blocks": n, "lost_ms": [...]}`: `due` open fragments had been seen for so long
that they had to be salvaged; `lost_ms`: how long before each kill the first frame came that is lost.
"""

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from kvs import BLOCK, Rig, cluster, header, parse

# A quarter of a second is what is promised; the other is for a machine on which others work: the reader may be the one that was let wait.
LIMIT_MS = 250 + 250
# Fragments of earlier runs that are read after each start.
EARLIER = 50
KEY, SECRET = "AKIDTEST", "a secret of this test only"
BLOCKS = 4


class Server:
    def __init__(self, binary: str, data: str, journal: str = "contacts", more: dict[str, str] | None = None):
        names = {"STORE_ENABLED": "true", "KVS_ACCESS_KEY_ID": KEY, "KVS_SECRET_ACCESS_KEY": SECRET, "DEMO_ENABLED": "false", "STORE_JOURNAL": journal, **(more or {})}
        env = {**os.environ, **{f"ANTIPHON_{k}": v for k, v in names.items()}}
        args = [binary, "serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--shards", "1", "--data", data]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, f"the server did not start:\n{self.said()}"
        self.url = found[0]
        self.rig = Rig(self.url + "/kvs", KEY, SECRET)

    def said(self) -> str:
        """The end of its log."""
        self.log.seek(0)
        return "".join(self.log.readlines()[-10:])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def pcm_of(timecode: int) -> bytes:
    return random.Random(timecode).randbytes(BLOCKS * BLOCK)


def produce(rig: Rig, first: int, promised: dict[str, int], stop: threading.Event, stream: str = "s", pause_s: float = 0.005) -> None:
    """Sends fragments until the connection breaks; notes what was promised meanwhile."""
    producer = rig.producer(stream)
    producer.send(header("c"))
    response = producer.response()

    def listen() -> None:
        try:
            while line := response.readline():
                ack = json.loads(line)
                if ack["EventType"] == "PERSISTED":
                    promised[ack["FragmentNumber"]] = ack["FragmentTimecode"]
        except (OSError, ValueError):
            pass  # The server is gone; a line may be cut.

    listener = threading.Thread(target=listen)
    listener.start()
    timecode = first
    try:
        while not stop.is_set():
            producer.send(cluster(timecode, pcm_of(timecode)))
            timecode += BLOCKS * 64
            time.sleep(pause_s)
    except OSError:
        pass
    listener.join()


MARK = b"BLOCK OF A CALL:"


class Call:
    """A call whose blocks have numbers: one fragment that stays open (`long`), or one for every four blocks."""

    def __init__(self, rig: Rig, round_: int, long: bool):
        self.rig, self.round, self.long = rig, round_, long
        self.first = 1_700_000_000_000 + round_ * 60_000
        self.seen: dict[int, float] = {}
        self.stop = threading.Event()
        self.producer = rig.producer("call")
        self.producer.send(header("caller"))
        self.threads = [threading.Thread(target=self.speak), threading.Thread(target=self.listen)]
        for thread in self.threads:
            thread.start()

    def speak(self) -> None:
        block = 0
        try:
            while not self.stop.is_set():
                pcm = (MARK + struct.pack(">II", self.round, block)).ljust(BLOCK, b"x")
                whole = cluster(self.first + block * 64, pcm)
                if block and (self.long or block % 4):
                    within = (block if self.long else block % 4) * 64
                    whole = b"\xa3" + struct.pack(">I", BLOCK + 4 | 1 << 28) + b"\x81" + struct.pack(">h", within) + b"\x80" + pcm
                self.producer.send(whole)
                block += 1
                time.sleep(0.01)
        except OSError:
            pass

    def listen(self) -> None:
        """Notes when it sees which block."""
        after = {"StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": time.time() - 0.5}
        got = b""
        try:
            payload = self.rig.data("kinesis-video-media", "call", "GET_MEDIA").get_media(StreamName="call", StartSelector=after)["Payload"]
            while part := payload.read(64):
                got = got[-64:] + part
                for found in re.finditer(re.escape(MARK) + b"(.{8})", got, re.DOTALL):
                    of, block = struct.unpack(">II", found[1])
                    if of == self.round:
                        self.seen.setdefault(block, time.monotonic())
        except Exception:  # The server is gone, in whatever way its clients say so.
            pass

    def join(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def check(self, rig: Rig, killed: float) -> tuple[int, float]:
        """Blocks that are there, and how many ms before the kill the first was seen that is not."""
        client = rig.data("kinesis-video-archived-media", "call", "LIST_FRAGMENTS")
        pages = client.get_paginator("list_fragments").paginate(StreamName="call", MaxResults=1000)
        listed = [f for page in pages for f in page["Fragments"] if f["ProducerTimestamp"].timestamp() * 1000 >= self.first - 1]
        numbers = sorted(f["FragmentNumber"] for f in listed)
        assert numbers == [f["FragmentNumber"] for f in sorted(listed, key=lambda f: f["ProducerTimestamp"])], "numbers are in time"
        assert len(set(numbers)) == len(numbers) == len({f["ProducerTimestamp"] for f in listed}), "a fragment is there twice"
        pcm = b""
        if numbers:
            media = client.get_media_for_fragment_list(StreamName="call", Fragments=numbers[:1000])
            pcm = parse(media["Payload"].read())[1]
        blocks = [struct.unpack(">II", pcm[at + len(MARK) : at + len(MARK) + 8]) for at in range(0, len(pcm), BLOCK)]
        assert blocks == [(self.round, i) for i in range(len(blocks))], "every block once, in order, none left out"
        lost = min((at for block, at in self.seen.items() if block >= len(blocks)), default=killed)
        return len(blocks), (killed - lost) * 1000


def check_listed(rig: Rig, promised: dict[str, int], stream: str = "s") -> None:
    client = rig.data("kinesis-video-archived-media", stream, "LIST_FRAGMENTS")
    pages = client.get_paginator("list_fragments").paginate(StreamName=stream, MaxResults=1000)
    lost = promised.keys() - {f["FragmentNumber"] for page in pages for f in page["Fragments"]}
    assert not lost, f"{len(lost)} of {len(promised)} promised fragments are lost"


def check_read(rig: Rig, promised: dict[str, int], stream: str = "s") -> None:
    client = rig.data("kinesis-video-archived-media", stream, "GET_MEDIA_FOR_FRAGMENT_LIST")
    numbers = sorted(promised)
    for i in range(0, len(numbers), 500):
        some = numbers[i : i + 500]
        payload = client.get_media_for_fragment_list(StreamName=stream, Fragments=some)["Payload"].read()
        documents, pcm = parse(payload)
        assert [d["AWS_KINESISVIDEO_FRAGMENT_NUMBER"] for d in documents] == some
        assert pcm == b"".join(pcm_of(promised[n]) for n in some), "what comes back is not what was sent"


def check(rig: Rig, promised: dict[str, int], stream: str = "s") -> None:
    check_listed(rig, promised, stream)
    check_read(rig, promised, stream)


def main() -> None:
    binary, kills = sys.argv[1], int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    promised: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as data:
        server = Server(binary, data, "all")
        server.rig.control.create_stream(StreamName="s", DataRetentionInHours=24)
        server.rig.control.create_stream(StreamName="call", DataRetentionInHours=87_600)
        first = int(time.time() * 1000) - 3_600_000
        salvaged, due, blocks, losses = 0, 0, 0, []
        for i in range(kills):
            before, stop = max(promised, default=""), threading.Event()
            new: dict[str, int] = {}
            producer = threading.Thread(target=produce, args=(server.rig, first, new, stop))
            producer.start()
            call = Call(server.rig, i, i % 2 == 0)
            time.sleep(rng.uniform(0.05, 1.0))
            killed = time.monotonic()
            server.kill()
            stop.set()
            producer.join()
            call.join()
            assert all(number > before for number in new), "a number went back"
            earlier = rng.sample(sorted(promised), min(EARLIER, len(promised)))
            promised.update(new)
            first = max(promised.values(), default=first) + 60_000
            server = Server(binary, data, "all")
            check_listed(server.rig, promised)
            check_read(server.rig, new | {number: promised[number] for number in earlier})
            kept, lost_ms = call.check(server.rig, killed)
            assert lost_ms <= LIMIT_MS, f"kill {i}: what a reader saw {lost_ms:.0f} ms before it is lost; then the server said:\n{server.said()}"
            blocks += kept
            losses.append(round(lost_ms))
            # What is promised holds for a fragment that is open for longer.
            due += call.long and (killed - min(call.seen.values(), default=killed)) * 1000 > LIMIT_MS
            salvaged += int(server.rig.metrics()["store_fragments_salvaged_total"])
        check(server.rig, promised)
        server.kill()
        looked = subprocess.run([binary, "store", "scrub", "--data", data], capture_output=True, text=True)
        assert looked.returncode == 0, looked.stdout + looked.stderr
    done = {"kills": kills, "persisted": len(promised), "salvaged": salvaged, "due": due, "blocks": blocks, "lost_ms": losses}
    print(json.dumps({"event": "done", **done}), flush=True)


if __name__ == "__main__":
    main()
