"""What `make bench` prints of a load: figures beside their floors and aims (docs/benchmarks.md)."""

from __future__ import annotations

import statistics
from typing import Any

from loads import Load

Report = dict[str, Any]
# Aims of issue 3.
MAX_FLOORS = 1.6
MAX_US = {"spread": 2.5, "burst": 1.6}
MAX_KB = 80.0
MAX_IDLE_MB = 30.0
MAX_FIRST_MEDIA_MS = 30.0
MAX_DELAY_US = 1_000.0
MAX_CORE_PERCENT_OF_500 = 30.0


def value(report: Report, *path: str) -> float:
    for key in path:
        report = report[key]
    return float(report)  # type: ignore[arg-type]


def median(reports: list[Report], *path: str) -> float:
    return statistics.median(value(r, *path) for r in reports)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):6.2f}   ({min(values):.2f} to {max(values):.2f})"


def aim(met: bool, what: str) -> str:
    return f"   {'meets' if met else 'MISSES'} {what}"


def cost(report: Report) -> float:
    return value(report, "server", "cpu_us_per_forwarded_packet")


def print_load(name: str, load: Load, ours: list[Report], theirs: list[Report]) -> None:
    rate = median(ours, "packets_forwarded_per_s")
    rooms = f"{load.rooms} rooms of " if load.rooms > 1 else ""
    offer = ", the web client's offer" if load.offer == "web" else ""
    print(f"\n{name}: {rooms}{load.publishers} x {load.subscribers}, {load.profile}{offer}; {rate:,.0f} packets per second,"
          f" medians of {len(ours)} runs")  # fmt: skip
    print_costs(load, ours, theirs)
    print_delay(load, ours)
    first = median(ours, "join_ms", "first_media", "p50")
    print(f"  POST to first media, ms           p50 {first:.1f}   to all tracks p50"
          f" {median(ours, 'join_ms', 'all_tracks', 'p50'):.1f}{aim(first <= MAX_FIRST_MEDIA_MS, 'first <= 30')}")  # fmt: skip
    memory = median(ours, "server", "rss_per_subscriber_kb")
    told = aim(memory <= MAX_KB, "80") if (load.publishers, load.offer) == (1, "lines") else ""
    print(f"  memory per subscriber, kB         {memory:6.0f}{told}")
    idle = median(ours, "server", "rss_idle_kb") / 1e3
    print(f"  idle process, MB                  {idle:6.1f}{aim(idle <= MAX_IDLE_MB, '30')}")
    print(f"  other load on the machine, % core {median(ours, 'noise', 'other_cpu_pct_of_core'):6.0f}", flush=True)


def print_costs(load: Load, ours: list[Report], theirs: list[Report]) -> None:
    costs = [cost(r) for r in ours]
    most = MAX_US[load.profile]
    print(f"  CPU per forwarded packet, us      {spread(costs)}{aim(statistics.median(costs) <= most, str(most))}")
    batch = median(ours, "floor", "gso", "packets_per_batch")
    for mode in ("gso", "sendmmsg"):
        values = [value(r, "floor", mode, "cpu_us_per_packet") for r in ours]
        # Each run against its own floor, played right after it: the machine's speed drifts.
        ratio = statistics.median(c / v for c, v in zip(costs, values))
        told = aim(ratio <= MAX_FLOORS, f"{MAX_FLOORS}") if mode == "gso" else ""
        print(f"    floor, {mode:<8} ({batch:4.1f} a batch) {spread(values)}   we need {ratio:.2f} times that{told}")
    if theirs:
        values = [cost(r) for r in theirs]
        ratio = statistics.median(costs) / statistics.median(values)
        print(f"    Janus                           {spread(values)}   we need {ratio:.2f} times that")
    print(f"    the load generator's own        {spread([value(r, 'loader', 'cpu_us_per_packet') for r in ours])}")
    share = median(ours, "server", "cpu_pct_of_core")
    told = aim(share <= MAX_CORE_PERCENT_OF_500, "30") if load.subscribers >= 500 else ""
    print(f"  server, % of a core               {share:6.0f}{told}")


def print_delay(load: Load, ours: list[Report]) -> None:
    p99 = min(value(r, "delay_us", "p99_best_part") for r in ours)
    # One publisher: who is served last waits for the others, each with all its packets of the wake-up.
    each = median(ours, "floor", "gso", "packets_per_batch") * statistics.median(cost(r) for r in ours)
    fan_out = load.subscribers * each if load.publishers == 1 else 0.0
    most = MAX_DELAY_US + fan_out
    print(f"  delay by forwarding, us           p50 {median(ours, 'delay_us', 'p50'):.0f}   p99 {p99:.0f} (best window)"
          f"{aim(p99 <= most, f'{most:.0f}')}")  # fmt: skip
