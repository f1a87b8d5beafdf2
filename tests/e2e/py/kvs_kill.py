"""Kills a server with SIGKILL while it stores a stream, again and again: `kvs_kill.py BINARY KILLS [SEED]`.

After each start everything that was ever acknowledged as PERSISTED has to be listed and to come back byte for byte, and
numbers have to go up only. Prints `{"event": "done", "kills": n, "persisted": n}`.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from kvs import BLOCK, Rig, cluster, header, parse

KEY, SECRET = "AKIDTEST", "a secret of this test only"
BLOCKS = 4


class Server:
    def __init__(self, binary: str, data: str):
        names = {"STORE_ENABLED": "true", "KVS_ACCESS_KEY_ID": KEY, "KVS_SECRET_ACCESS_KEY": SECRET, "DEMO_ENABLED": "false"}
        env = {**os.environ, **{f"ANTIPHON_{k}": v for k, v in names.items()}}
        args = [binary, "serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--shards", "1", "--data", data]
        self.process = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, "the server did not start"
        self.url = found[0]
        self.rig = Rig(self.url + "/kvs", KEY, SECRET)

    def metrics(self) -> dict[str, float]:
        """Those without labels."""
        text = urllib.request.urlopen(self.url + "/metrics", timeout=10).read().decode()
        return {name: float(value) for name, value in re.findall(r"^antiphon_(\w+) (\S+)$", text, re.MULTILINE)}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def pcm_of(timecode: int) -> bytes:
    return random.Random(timecode).randbytes(BLOCKS * BLOCK)


def produce(rig: Rig, first: int, promised: dict[str, int], stop: threading.Event) -> None:
    """Sends fragments until the connection breaks; notes what was promised meanwhile."""
    producer = rig.producer("s")
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
            time.sleep(0.002)
    except OSError:
        pass
    listener.join()


def check(rig: Rig, promised: dict[str, int]) -> None:
    client = rig.data("kinesis-video-archived-media", "s", "LIST_FRAGMENTS")
    pages = client.get_paginator("list_fragments").paginate(StreamName="s")
    listed = [f["FragmentNumber"] for page in pages for f in page["Fragments"]]
    lost = promised.keys() - set(listed)
    assert not lost, f"{len(lost)} of {len(promised)} promised fragments are lost"
    numbers = sorted(promised)
    for i in range(0, len(numbers), 500):
        some = numbers[i : i + 500]
        payload = client.get_media_for_fragment_list(StreamName="s", Fragments=some)["Payload"].read()
        documents, pcm = parse(payload)
        assert [d["AWS_KINESISVIDEO_FRAGMENT_NUMBER"] for d in documents] == some
        assert pcm == b"".join(pcm_of(promised[n]) for n in some), "what comes back is not what was sent"


def main() -> None:
    binary, kills = sys.argv[1], int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    promised: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as data:
        server = Server(binary, data)
        server.rig.control.create_stream(StreamName="s", DataRetentionInHours=24)
        first = int(time.time() * 1000) - 3_600_000
        for _ in range(kills):
            before, stop = max(promised, default=""), threading.Event()
            new: dict[str, int] = {}
            producer = threading.Thread(target=produce, args=(server.rig, first, new, stop))
            producer.start()
            time.sleep(rng.uniform(0.05, 0.5))
            server.kill()
            stop.set()
            producer.join()
            assert all(number > before for number in new), "a number went back"
            promised.update(new)
            first = max(promised.values(), default=first) + 60_000
            server = Server(binary, data)
            check(server.rig, promised)
        server.kill()
        looked = subprocess.run([binary, "store", "scrub", "--data", data], capture_output=True, text=True)
        assert looked.returncode == 0, looked.stdout + looked.stderr
    print(json.dumps({"event": "done", "kills": kills, "persisted": len(promised)}), flush=True)


if __name__ == "__main__":
    main()
