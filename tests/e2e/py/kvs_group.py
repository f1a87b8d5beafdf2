"""Kills a server with SIGKILL while fragments of many streams are made durable together: `kvs_group.py BINARY KILLS [SEED]`.

After each start everything that was acknowledged as PERSISTED is listed and comes back byte for byte, and nothing that was cut off lies about. (A kill
leaves what was not synced: the order of syncs, names and acknowledgements is for the unit tests.)
Prints `{"event": "done", "kills": n, "persisted": n, "grouped": n, "syncs": n}`, or `{"event": "done", "cannot": reason}` on a file
system where each is synced by itself.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from kvs_kill import Server, check, produce

STREAMS = [f"s{i}" for i in range(24)]
# As rarely as fragments come that may wait for others.
PAUSE_S = 0.55
# A file system in memory is not synced so.
FOLDER = "/var/tmp"
SYSTEMS = ("ext2/ext3", "xfs")


def one(server: Server, first: int, promised: dict[str, dict[str, int]], alive_s: float) -> tuple[int, int]:
    """Producers of all streams, and a kill among them; how many fragments were grouped, and in how many syncs."""
    stop, new = threading.Event(), {stream: {} for stream in STREAMS}
    producers = []
    for stream in STREAMS:
        producers.append(threading.Thread(target=produce, args=(server.rig, first, new[stream], stop, stream, PAUSE_S)))
        producers[-1].start()
        time.sleep(PAUSE_S / len(STREAMS))
    time.sleep(alive_s)
    metrics = server.rig.metrics()
    server.kill()
    stop.set()
    for producer in producers:
        producer.join()
    for stream in STREAMS:
        promised[stream].update(new[stream])
    return int(metrics["store_grouped_total"]), int(metrics["store_group_syncs_total"])


def main() -> None:
    binary, kills = sys.argv[1], int(sys.argv[2])
    system = subprocess.run(["stat", "-f", "-c", "%T", FOLDER], check=True, capture_output=True, text=True).stdout.strip()
    if system not in SYSTEMS:
        print(json.dumps({"event": "done", "cannot": f"{FOLDER} is {system}"}), flush=True)
        return
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    promised: dict[str, dict[str, int]] = {stream: {} for stream in STREAMS}
    grouped = syncs = 0
    with tempfile.TemporaryDirectory(dir=FOLDER) as data:
        start = lambda: Server(binary, data, "off", {"STORE_GROUP_SYNC_FROM": "1"})  # noqa: E731
        server = start()
        for stream in STREAMS:
            server.rig.control.create_stream(StreamName=stream, DataRetentionInHours=24)
        first = int(time.time() * 1000) - 3_600_000
        for i in range(kills):
            counts = one(server, first + i * 60_000, promised, rng.uniform(0.6, 1.8))
            grouped, syncs = grouped + counts[0], syncs + counts[1]
            server = start()
            for stream in STREAMS:
                check(server.rig, promised[stream], stream)
            left = [path.name for path in Path(data).rglob("*#*")]
            assert not left, left
        server.kill()
        looked = subprocess.run([binary, "store", "scrub", "--data", data], capture_output=True, text=True)
        assert looked.returncode == 0, looked.stdout + looked.stderr
    done = {"kills": kills, "persisted": sum(map(len, promised.values())), "grouped": grouped, "syncs": syncs}
    print(json.dumps({"event": "done", **done}), flush=True)


if __name__ == "__main__":
    main()
