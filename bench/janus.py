"""Debian's Janus for comparison, in a network namespace of its own: it gives no loopback candidates, so there is a
made-up address on a device that leads nowhere. Packets to one's own address go through loopback all the same."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

ADDRESS = "10.213.0.1"
HTTP_PORT = 8088
START_TIMEOUT_S = 15.0
NETWORK = " && ".join([
    "ip link set lo up",
    "ip link add v0 type veth peer name v1",
    f"ip addr add {ADDRESS}/24 dev v0",
    "ip link set v0 up",
    "ip link set v1 up",
])

CONFIG = {
    "janus.jcfg": """
general: { debug_level = 2  server_name = "bench"  admin_secret = "unused" }
media: { rtp_port_range = "20000-40000" }
nat: { ice_lite = true  full_trickle = false }
plugins: { disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so" }
transports: { disable = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so" }
events: { broadcast = false }
""",
    "janus.transport.http.jcfg": f"""
general: {{ json = "compact"  base_path = "/janus"  http = true  port = {HTTP_PORT}  ip = "{ADDRESS}" }}
admin: {{ admin_http = false }}
""",
    "janus.plugin.videoroom.jcfg": "general: { }\n",
}


def missing() -> str | None:
    """Why Janus cannot be run here, if it cannot."""
    if not shutil.which("janus"):
        return "not installed (Debian: apt-get install janus)"
    test = subprocess.run(["unshare", "--net", "sh", "-c", NETWORK], capture_output=True, text=True)
    return f"no network namespace: {test.stderr.strip()}" if test.returncode else None


class Janus:
    """`with Janus() as janus:` gives `janus.pid`, `janus.url` and `janus.inside`, which puts a command beside it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="antiphon-bench-janus-")
        for name, text in CONFIG.items():
            (Path(self._folder.name) / name).write_text(text)
        self._log = open(Path(self._folder.name) / "log", "w+")  # noqa: SIM115
        script = f"{NETWORK} && exec janus -F {self._folder.name}"
        # exec all the way down: the process we started is Janus itself.
        self._process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script], stdout=self._log, stderr=subprocess.STDOUT
        )
        self.pid = self._process.pid
        self.url = f"http://{ADDRESS}:{HTTP_PORT}/janus"
        self.inside = ["nsenter", f"--net=/proc/{self.pid}/ns/net"]
        self._wait_ready()

    def _wait_ready(self) -> None:
        probe = [*self.inside, "python3", "-c", f"import urllib.request as u; u.urlopen('{self.url}/info', timeout=1)"]
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if subprocess.run(probe, capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        self._log.seek(0)
        raise RuntimeError(f"janus did not start:\n{self._log.read()}")

    def __enter__(self) -> Janus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()
