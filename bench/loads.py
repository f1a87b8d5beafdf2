"""The loads of `make bench`, and how one run of each is made: our server, the floor under it, Janus."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import janus
from server import Server

Report = dict[str, Any]
ROOM = 4242
# What a run must show to count at all.
MAX_LOSS_PERCENT = 0.1
# Seconds of a run that the floor plays.
FLOOR_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Load:
    """Publishers and subscribers of each room, and what they do."""

    publishers: int
    subscribers: int
    profile: str = "spread"
    offer: str = "lines"
    rooms: int = 1
    video_kbps: int = 1200
    janus: bool = False

    def arguments(self) -> list[str]:
        rooms = ",".join(self.room_names())
        # One join after the other: two at once wait for each other on two cores, and their POSTs with them.
        return [
            "-p", str(self.publishers), "-s", str(self.subscribers), "--profile", self.profile, "--offer", self.offer,
            "--video-kbps", str(self.video_kbps), "--room", rooms, "--join-concurrency", "1",
        ]  # fmt: skip

    def room_names(self) -> list[str]:
        return [str(ROOM + i) for i in range(self.rooms)]


LOADS = {
    "1x100": Load(1, 100, janus=True),
    "1x100-burst": Load(1, 100, profile="burst"),
    "10x10": Load(10, 10, janus=True),
    "10x10-burst": Load(10, 10, profile="burst"),
    "1x100-web": Load(1, 100, offer="web"),
    "10x10-web": Load(10, 10, offer="web"),
    "1x500": Load(1, 500),
    "1x500-burst": Load(1, 500, profile="burst"),
    # As many as make the server 70 % busy: see `rooms_for`.
    "rooms": Load(10, 10, rooms=3, video_kbps=300),
}


def run(command: list[str], server_pid: int | None = None) -> Report:
    """With the server's process, where it is on this network, it is also told whose receiving buffers were full."""
    before = drops_of_all()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    report: Report = json.loads(done.stdout)
    if server_pid is not None:
        server_s = drops_of(server_pid)
        report["receive_drops"] = {"server": server_s, "generator": drops_of_all() - before - server_s}
    if not report["all_joined"] or report["errors"] or report["loss_pct"] > MAX_LOSS_PERCENT:
        names = ("all_joined", "errors", "first_error", "loss_pct", "dead_peers", "receive_drops")
        raise RuntimeError(f"this run does not count: { {k: report[k] for k in names if k in report} }\n{done.stderr}")
    return report


def drops_of_all() -> int:
    """Datagrams that the kernel has dropped because a socket's buffer was full, IPv4."""
    names, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")]
    return int(values[names.index("RcvbufErrors")])


def drops_of(pid: int) -> int:
    """The same, of the sockets that this process has open."""
    links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(fields[-1]) for fields in lines if fields[9] in inodes)


def sfuload(binaries: Path, name: str, load: Load, seconds: float, pid: int) -> list[str]:
    return [
        str(binaries / "sfuload"), *load.arguments(), "-d", str(seconds), "--server-pid", str(pid), "--label", name,
    ]  # fmt: skip


def ours(binaries: Path, name: str, load: Load, seconds: float) -> Report:
    """One run against a fresh server, with its floors under `floor`."""
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder:
        batches = Path(folder) / "batches"
        with Server(binaries / "antiphon") as server:
            urls = ["--whip-url", f"{server.url}/whip/{{room}}", "--whep-url", f"{server.url}/whep/{{room}}"]
            urls += ["--join-url", f"{server.url}/v1/rooms/{{room}}/participants"]
            token = ["--token", ",".join(server.token(room) for room in load.room_names())]
            command = [*sfuload(binaries, name, load, seconds, server.pid), "--adapter", "whip-whep"]
            report = run([*command, "--screen-line", *urls, *token, "--batches", str(batches)], server.pid)
        report["floor"] = {mode: floor(binaries, batches, mode) for mode in ("gso", "sendmmsg")}
    return report


def floor(binaries: Path, batches: Path, mode: str) -> Report:
    """Encrypt and send alone what the run before has sent."""
    command = [str(binaries / "floor"), str(batches), "--mode", mode, "--seconds", str(FLOOR_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    report: Report = json.loads(done.stdout)
    return report


def theirs(binaries: Path, name: str, load: Load, seconds: float) -> Report:
    with janus.Janus() as server:
        command = [*server.inside, *sfuload(binaries, name, load, seconds, server.pid), "--adapter", "janus"]
        return run([*command, "--janus-url", server.url, "--bind", janus.ADDRESS])


def rooms_for(share: float, report: Report) -> int:
    """How many rooms like the one of `report` take this share of a core."""
    one = float(report["server"]["cpu_pct_of_core"]) / 100 / int(report["rooms"])
    return max(1, round(share / max(one, 1e-3)))
