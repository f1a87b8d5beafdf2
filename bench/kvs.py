#!/usr/bin/env python3
"""How long a frame takes from PutMedia to GetMedia, with as many calls at once as asked for, and what that costs; the same with readers
that never read, and on a server that has just deleted as many streams with all they had. What the runs write stays until the last is over: some
file systems make the next files dearer for minutes after many were removed. Figures and their conditions: docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from server import Server  # noqa: E402

# Aims of issue 4.
MAX_P99_MS, MAX_CORES = 20.0, 1.0
# Readers that read nothing may change nothing: p99 stays within what runs differ by among themselves.
MAX_RATIO, MAX_MORE_MS = 1.5, 2.0
SESSIONS = 500
# Of the load generator.
BLOCK_MS = 64


def journal_less(folder: Path) -> bool:
    """Whether that is ext4 without a journal of its own."""
    device = os.stat(folder).st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    task = Path(f"/sys/fs/ext4/{name}/journal_task")
    return task.exists() and task.read_text().strip() == "<none>"


def ticks() -> tuple[int, int]:
    """Of all processors since the start: what the hypervisor gave to others, and all."""
    with open("/proc/stat") as stat:
        values = [int(value) for value in stat.readline().split()[1:9]]
    return values[7], sum(values)


class Load:
    """One server, and what loads it."""

    def __init__(self, server: Server, args: argparse.Namespace) -> None:
        self._server, self._args = server, args
        issue = [str(args.binaries / "antiphon"), "store", "token", "--data", str(server._data)]
        self._token = json.loads(subprocess.run(issue, check=True, capture_output=True, text=True).stdout)["token"]

    def run(self, *more: str) -> dict:
        server, args = self._server, self._args
        command = [str(args.binaries / "kvsload"), "--url", f"{server.url}/kvs", "--token", self._token, "--pid", str(server.pid)]
        command += ["--sessions", str(args.sessions), "--seconds", str(int(args.seconds)), "--retention", str(args.retention), *more]
        before = ticks()
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        stolen, passed = (now - then for now, then in zip(ticks(), before, strict=True))
        figures["stolen"] = stolen / max(1, passed)
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as response:
            figures["journal"] = dict(re.findall(r"^antiphon_store_journal_(\w+?)(?:_total)? (\d+)$", response.read().decode(), re.MULTILINE))
        return figures


def show(what: str, r: dict) -> None:
    print(
        f"  {what:18} p50 {r['p50_ms']:6.2f} ms   p99 {r['best_window_p99_ms']:6.2f} ms (best of five windows; {r['p99_ms']:.2f} over all)   p99.9 {r['p999_ms']:6.2f} ms   "
        f"{r['cores']:.2f} cores   {r['blocks']:,} blocks, {r['persisted']:,} persisted, {r['failed']} failed, {r['broken']} broken, {r['late']} late   "
        f"{r['stolen']:.1%} of the machine stolen",
        flush=True,
    )
    if r["journal"].get("syncs", "0") != "0":
        print(f"    journal: {', '.join(f'{name} {value}' for name, value in r['journal'].items())}")


def incomplete(args: argparse.Namespace, r: dict) -> str:
    """What of the load did not come through; "": nothing."""
    blocks = args.sessions * 2 * int(args.seconds) * 1000 / BLOCK_MS
    fragments = args.sessions * int(args.seconds) * 1000 / (16 * BLOCK_MS) if args.retention else 0
    parts = {
        f"{r['failed']} fragments failed": r["failed"],
        f"{r['broken']} producers broke": r["broken"],
        f"{r['blocks']:,} of {blocks:,.0f} blocks were read": r["blocks"] < 0.99 * blocks,
        f"{r['persisted']:,} of {fragments:,.0f} fragments were persisted": r["persisted"] < fragments,
    }
    return ", ".join(what for what, missed in parts.items() if missed)


def runs(args: argparse.Namespace, keep: Path) -> tuple[dict, dict]:
    """All runs; gives what the first two showed, for which there are aims."""
    binary, some = args.binaries / "antiphon", args.sessions // 5
    if journal_less(keep):
        print("  the disk is ext4 without a journal: files are dearer to make for minutes after many were removed")
    with Server(binary, keep) as server:
        plain = Load(server, args).run()
    show("", plain)
    with Server(binary, keep) as server:
        stalled = Load(server, args).run("--stalled", str(some))
    show(f"{some} read nothing", stalled)
    with Server(binary, keep) as server:
        load = Load(server, args)
        before = load.run("--delete")
        show("then all deleted", before)
        show(f"{before['deleted']} were deleted", load.run())
    return plain, stalled


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--binaries", type=Path, default=ROOT / "target/release")
    p.add_argument("--sessions", type=int, default=SESSIONS)
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--retention", type=int, default=24, help="hours; 0: nothing is stored")
    p.add_argument("--journal", choices=["off", "contacts", "all"], default="off", help="store.journal; producers here are none of contacts")
    p.add_argument("--keep", type=Path, help="leave what the runs write in this folder")
    args = p.parse_args()
    names = {"STORE_ENABLED": "true", "STORE_MAX_STREAMS": "10000", "DEMO_ENABLED": "false", "LIMITS_CONNECTIONS": "20000", "STORE_JOURNAL": args.journal}
    os.environ.update({f"ANTIPHON_{name}": value for name, value in names.items()})
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    print(f"stored streams: {args.sessions} calls x 2 tracks of 8 kHz PCM, each written and read, retention {args.retention} h, journal {args.journal}")
    if args.keep:
        plain, stalled = runs(args, args.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder:
            plain, stalled = runs(args, Path(folder))
    for what, r in (("", plain), ("with readers that read nothing: ", stalled)):
        if missing := incomplete(args, r):
            print(f"  MISSES the load itself: {what}{missing}")
            return 1
    if args.sessions < SESSIONS or not args.retention:
        print(f"  the aims are for {SESSIONS} calls that are kept")
        return 0
    good = plain["p99_ms"] < MAX_P99_MS and plain["cores"] <= MAX_CORES
    quiet = plain["best_window_p99_ms"]
    unchanged = stalled["best_window_p99_ms"] < max(MAX_RATIO * quiet, quiet + MAX_MORE_MS)
    print(f"  {'meets' if good else 'MISSES'} p99 < {MAX_P99_MS:.0f} ms at {MAX_CORES:.0f} core; stalled readers change "
          f"{'nothing' if unchanged else 'SOMETHING'}")  # fmt: skip
    return 0 if good and unchanged else 1


if __name__ == "__main__":
    sys.exit(main())
