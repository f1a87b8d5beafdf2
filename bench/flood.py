#!/usr/bin/env python3
"""What floods cost a call: junk, STUN with bad integrity, ClientHello, 20,000 datagrams a second each, from one machine.

    bench/flood.py --binaries target/release      # part of `make bench`

A call (sfuload, 1 publisher, some subscribers) runs through each flood: a fifth of the time in quiet, three fifths under it less the last
second, and a fifth from a second after its end on. Then another call joins under the same flood. Printed are the delay by forwarding (p99), loss, the
growth of the server's memory, how many bytes the flooder got back, and what it really sent, without which it fails."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from server import Server  # noqa: E402

Report = dict[str, Any]
ROOM = "flood"
# Datagrams per second, as the aim says; sockets, so that it is not one source.
RATE = 20_000
SOCKETS = 16
KINDS = ("junk", "stun", "client-hello")
# The aims.
MAX_GROWTH_MS, MAX_LOSS_PERCENT, MAX_MEMORY_KB, MAX_ANSWER = 10.0, 0.1, 50_000, 1.5
# Of the rate; with less, nothing is shown of a flood.
MIN_SENT = 0.95
CLIENT_HELLO_BYTES = 160
# Of sfuload: its window has so many parts.
PARTS = 5
# After so long all is as it was.
RECOVERY_S = 1.0
# How long the call that joins under a flood is looked at.
JOINED_S = 3.0


def session(server: Server, token: str) -> tuple[str, tuple[str, int]]:
    """Joins without ever connecting: the user fragment of a session that there is, and where it is."""
    offer = (ROOT / "crates/api/tests/http/offer.sdp").read_bytes()
    request = urllib.request.Request(f"{server.url}/v1/rooms/{ROOM}/participants", data=offer, method="POST")
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/sdp")
    answer = urllib.request.urlopen(request, timeout=10).read().decode()
    ufrag = re.search(r"a=ice-ufrag:(\S+)", answer)
    port = re.search(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+)", answer, re.IGNORECASE)
    assert ufrag and port, answer
    return ufrag[1], ("127.0.0.1", int(port[1]))


def datagram(kind: str, ufrag: str) -> bytes:
    noise = os.urandom
    if kind == "junk":
        return noise(200)
    if kind == "client-hello":
        body = noise(CLIENT_HELLO_BYTES)
        hello = b"\x01" + struct.pack(">I", len(body))[1:] + b"\0\0" + b"\0\0\0" + struct.pack(">I", len(body))[1:] + body
        return b"\x16\xfe\xfd" + bytes(8) + struct.pack(">H", len(hello)) + hello
    name = f"{ufrag}:abcd".encode()
    attributes = struct.pack(">HH", 6, len(name)) + name.ljust(-(-len(name) // 4) * 4, b"\0")
    attributes += struct.pack(">HHI", 0x24, 4, 1) + struct.pack(">HH", 0x25, 0)
    attributes += struct.pack(">HH", 8, 20) + noise(20)
    return struct.pack(">HH", 1, len(attributes)) + b"\x21\x12\xa4\x42" + noise(12) + attributes


class Flood(threading.Thread):
    def __init__(self, kind: str, ufrag: str, to: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.kind, self.ufrag, self.to = kind, ufrag, to
        self.stopped = threading.Event()
        self.tried = self.sent = self.bytes_out = self.bytes_back = 0
        self.seconds = 0.0

    def run(self) -> None:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        for s in sockets:
            s.setblocking(False)
        made = [datagram(self.kind, self.ufrag) for _ in range(512)]
        begin = time.monotonic()
        while not self.stopped.is_set():
            due = int((time.monotonic() - begin) * RATE) - self.sent
            for _ in range(min(due, 400)):
                data = made[self.tried % len(made)]
                self.tried += 1
                try:
                    sockets[self.tried % SOCKETS].sendto(data, self.to)
                except BlockingIOError:
                    continue
                self.sent += 1
                self.bytes_out += len(data)
            for s in sockets:
                self._drain(s)
            time.sleep(0.001)
        self.seconds = time.monotonic() - begin

    @property
    def rate(self) -> float:
        """Datagrams that left, per second."""
        return self.sent / max(self.seconds, 0.001)

    def _drain(self, s: socket.socket) -> None:
        try:
            while True:
                self.bytes_back += len(s.recv(2048))
        except (BlockingIOError, ConnectionRefusedError):
            pass


def call(binaries: Path, server: Server, token: str, args: argparse.Namespace, seconds: float) -> subprocess.Popen[str]:
    urls = ["--whip-url", f"{server.url}/whip/{{room}}", "--whep-url", f"{server.url}/whep/{{room}}"]
    command = [
        str(binaries / "sfuload"), "-p", "1", "-s", str(args.subscribers), "-d", str(seconds), "--warmup", "0.5",
        "--server-pid", str(server.pid), "--room", ROOM, "--adapter", "whip-whep", "--screen-line", "--decrypt-every", "1",
        *urls, "--token", token,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> Report:
    out, log = process.communicate(timeout=300)
    if process.returncode != 0:
        raise RuntimeError(log)
    report: Report = json.loads(out)
    return report


def through(binaries: Path, server: Server, token: str, args: argparse.Namespace, flood: Flood) -> tuple[Report, int]:
    """A call that was there before the flood and is there after it, and by how many kB the server has grown meanwhile."""
    process = call(binaries, server, token, args, args.seconds)
    assert process.stderr is not None
    while "measuring" not in (line := process.stderr.readline()):
        if not line:
            raise RuntimeError("the call did not begin")
    part = args.seconds / PARTS
    time.sleep(part)
    before = rss_kb(server.pid)
    flood.start()
    time.sleep(3 * part - RECOVERY_S)
    grown = rss_kb(server.pid) - before
    flood.stopped.set()
    flood.join()
    return result(process), grown


def rss_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) if found else 0


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--binaries", type=Path, default=ROOT / "target/release")
    p.add_argument("--seconds", type=float, default=20, help="of each call")
    p.add_argument("--subscribers", type=int, default=10)
    args = p.parse_args()
    if args.seconds < 2 * PARTS:
        p.error(f"--seconds: {2 * PARTS} at least")
    failed, flooded = 0, 3 / PARTS - RECOVERY_S / args.seconds
    print(f"floods of {RATE:,} datagrams per second into a call of 1 x {args.subscribers}; p99 of the delay by forwarding, ms, of each fifth")
    with Server(args.binaries / "antiphon") as server:
        token = server.token(ROOM)
        for kind in KINDS:
            ufrag, to = session(server, token)
            flood = Flood(kind, ufrag, to)
            report, memory = through(args.binaries, server, token, args, flood)
            again = Flood(kind, ufrag, to)
            again.start()
            joined = result(call(args.binaries, server, token, args, JOINED_S))
            again.stopped.set()
            again.join()
            # A fifth in which nothing came is as bad as can be.
            quiet, *during, after = (math.inf if us is None else us / 1_000 for us in report["delay_us"]["p99_parts"])
            # The hypervisors stall a core for 100 ms now and then: that is one part's.
            grown, back = statistics.median(during) - quiet, after - quiet
            answer = flood.bytes_back / max(flood.bytes_out, 1)
            rates = flood.rate, again.rate
            fine = (
                min(rates) >= MIN_SENT * RATE and grown <= MAX_GROWTH_MS and back <= MAX_GROWTH_MS and report["loss_pct"] <= MAX_LOSS_PERCENT * flooded
                and memory <= MAX_MEMORY_KB and answer <= MAX_ANSWER and not report["dead_peers"]
                and joined["all_joined"] and joined["loss_pct"] <= MAX_LOSS_PERCENT
            )  # fmt: skip
            failed += not fine
            print(
                f"  {kind:<14} quiet {quiet:.2f}, under it {', '.join(f'{ms:.2f}' for ms in during)}, after it {after:.2f}"
                f"   loss {report['loss_pct']:.3f} %   memory {memory / 1_000:+.1f} MB   bytes back/sent {answer:.2f}"
                f"   sent {rates[0]:,.0f} and {rates[1]:,.0f}/s   who joins under it: loss {joined['loss_pct']:.3f} %"
                f"   {'as aimed' if fine else 'NOT as aimed'}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
