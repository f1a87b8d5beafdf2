#!/usr/bin/env python3
"""Runs every suite of `make test`, and says at the end, alone on a line, how many tests passed and failed.

Each suite's runner prints as it always does; its closing lines are counted here. A suite that fails, or that ran no
test at all, makes the whole run fail. Name suites to run only those: `scripts/run-tests.py rust end`.
A test that is skipped is counted and named at the end, with its reason; with ANTIPHON_SKIPS_FAIL=1 it counts as failed. Not
counted: what another command runs (reason "make ... runs it"), and Rust's `#[ignore]`, which programs of other tests have.
The suite `rust` builds the server that the later ones start; `make test` has built the Rust SDK's program (`make aws`).
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = str(ROOT / "target/venv/bin/python")
# Where everything that the tests need is known to be there, a skipped one is a failure.
SKIPS_FAIL = os.environ.get("ANTIPHON_SKIPS_FAIL") == "1"
# Skipped by design: another command runs it.
ELSEWHERE = re.compile(r"^make \S+ runs it$")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Suite:
    name: str
    command: list[str]
    # Sums every match of its groups over the output: how many passed, how many failed.
    passed: str
    failed: str
    minutes: int
    # How many were skipped, and which line tells of one: its name and the reason.
    skipped: str = r"(?!)(\d+)"
    skip: str = r"(?!)()()"
    folder: Path = ROOT


def cargo_suites() -> list[Suite]:
    cargo_test = r"^test result: \w+\. (\d+) passed"
    cargo_failed = r"^test result: .* (\d+) failed"
    nextest = ["cargo", "nextest", "run", "--workspace", "--locked"]
    plain = ["cargo", "test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--no-fail-fast"]
    rust = (
        Suite("rust", nextest, r"^\s*Summary .* (\d+) passed", r"^\s*Summary .* (\d+) (?:failed|timed out)", 30)
        if shutil.which("cargo-nextest")
        else Suite("rust", plain, cargo_test, cargo_failed, 30)
    )
    docs = ["cargo", "test", "--workspace", "--locked", "--doc", "--no-fail-fast"]
    return [rust, Suite("rust documentation", docs, cargo_test, cargo_failed, 15)]


def typescript_suite() -> Suite:
    closing = r"^\s*Tests\s.*?(\d+) "
    command = ["npm", "run", "--silent", "test"]
    return Suite("typescript", command, closing + "passed", closing + "failed", 5, closing + "(?:skipped|todo)")


def python_suite() -> Suite:
    command = [PYTHON, "-m", "pytest", "-o", "addopts=", "-q", "--color=no", "-p", "no:cacheprovider", "-rs"]
    closing = r"^=*\s*(?:.*, )?(\d+) "
    passed, failed = closing + "passed.* in ", closing + "(?:failed|errors?).* in "
    skip = r"^SKIPPED \[\d+\] (.*?): (.*)"
    return Suite("python", command, passed, failed, 5, closing + "skipped.* in ", skip, ROOT / "sdk/python")


def end_to_end_suite() -> Suite:
    command = ["npm", "run", "--silent", "test", "--workspace", "tests/e2e"]
    passed, failed = r"^(?:#|ℹ) pass (\d+)", r"^(?:#|ℹ) (?:fail|cancelled) (\d+)"
    skip = r"^\s*﹣ (.*?) \([\d.]+ms\)(?: # (.*))?$"
    return Suite("end to end", command, passed, failed, 35, r"^(?:#|ℹ) (?:skipped|todo) (\d+)", skip)


def count(pattern: str, text: str) -> int:
    return sum(int(n) for n in re.findall(pattern, text, re.MULTILINE))


def skips(suite: Suite, text: str) -> list[str]:
    """What was skipped and nothing else runs; one that the suite counts and does not name is one all the same."""
    named = [(name, why or "no reason given") for name, why in re.findall(suite.skip, text, re.MULTILINE)]
    nameless = max(count(suite.skipped, text) - len(named), 0)
    here = [f"{suite.name}: {name}: {why}" for name, why in named if not ELSEWHERE.search(why)]
    return here + [f"{suite.name}: {nameless} that its runner does not name"] * (nameless > 0)


def run(suite: Suite) -> tuple[int, int, list[str]]:
    print(f"\n== {suite.name}: {' '.join(suite.command)}", flush=True)
    env = dict(os.environ, NO_COLOR="1", CARGO_TERM_COLOR="never", FORCE_COLOR="0", VITEST_SKIP_TIME="1")
    started = time.monotonic()
    deadline = started + 60 * suite.minutes
    lines = []
    process = subprocess.Popen(
        ["timeout", "--kill-after=10", str(60 * suite.minutes), *suite.command],
        cwd=suite.folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    for raw in process.stdout:
        line = ANSI.sub("", raw.decode(errors="replace")).rstrip("\n")
        lines.append(line)
        print(line, flush=True)
    code = process.wait()
    text = "\n".join(lines)
    passed, failed = count(suite.passed, text), count(suite.failed, text)
    if time.monotonic() > deadline:
        print(f"{suite.name}: ended after {suite.minutes} minutes", flush=True)
    if code != 0 and failed == 0:
        print(f"{suite.name}: ended with code {code}", flush=True)
        failed = 1
    if passed + failed == 0:
        print(f"{suite.name}: ran no test, which counts as a failure", flush=True)
        failed = 1
    skipped = skips(suite, text)
    failed += len(skipped) if SKIPS_FAIL else 0
    print(f"-- {suite.name}: {passed} of {passed + failed} good, {time.monotonic() - started:.0f} s", flush=True)
    return passed, failed, skipped


def main() -> int:
    suites = [*cargo_suites(), typescript_suite(), python_suite(), end_to_end_suite()]
    wanted = sys.argv[1:]
    chosen = [s for s in suites if not wanted or any(s.name.startswith(w) for w in wanted)]
    if not chosen:
        print(f"no such suite; there are: {', '.join(s.name for s in suites)}")
        return 2
    results = [(suite.name, *run(suite)) for suite in chosen]
    print()
    for name, passed, failed, skipped in results:
        print(f"{name:>20}  {passed:4} passed {failed:4} failed {len(skipped):4} skipped")
    passed, failed = sum(r[1] for r in results), sum(r[2] for r in results)
    skipped = [line for r in results for line in r[3]]
    for line in skipped:
        print(f"skipped{', which fails here' if SKIPS_FAIL else ''}: {line}")
    print(f"\n{passed} passed, {failed} failed" + (f", {len(skipped)} skipped" if skipped else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
