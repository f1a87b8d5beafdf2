"""A server of our own for one run: fresh data folder, free ports, ended with the run."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r"^antiphon: listening on (http\S+)")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0


class Server:
    """`with Server(binary) as server:` gives `server.url`, `server.pid`, `server.token(room)`. What it writes goes with it, or
    stays in `keep`."""

    def __init__(self, binary: Path, keep: Path | None = None) -> None:
        self._binary = binary
        self._keep = keep is not None
        self._folder = Path(tempfile.mkdtemp(prefix="antiphon-bench-", dir=keep))
        self._data = self._folder / "data"
        self._log = open(self._folder / "log", "w+")  # noqa: SIM115
        command = [str(binary), "serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--data", str(self._data)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.pid = self._process.pid
        self.url = self._wait_ready()

    def _wait_ready(self) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = self._process.stdout.readline()
            if found := READY.match(line):
                return found.group(1)
            if not line:
                break
        self._log.seek(0)
        raise RuntimeError(f"the server did not start:\n{self._log.read()}")

    def token(self, room: str, grants: str | None = None) -> str:
        command = [str(self._binary), "token", "--data", str(self._data), "--room", room]
        command += ["--grants", grants] if grants else []
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if kind is not None:
            self._log.seek(0)
            print("-- the server's log, last lines:\n" + "".join(self._log.readlines()[-20:]))
        self._log.close()
        if not self._keep:
            shutil.rmtree(self._folder)
