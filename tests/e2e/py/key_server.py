"""A key server: moto's KMS, and a line to it that says what moto does not.

moto neither looks at signatures nor at what state a key is in. The line verifies each signature by botocore's own signer, asks moto (`DescribeKey`) what a
key is, and answers as Amazon's API reference says for one that is disabled, will be deleted, or signs. It can also refuse, be busy, hang, and be gone.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from bucket import Moto

REGION, ACCESS_KEY, SECRET = "us-east-1", "AKIDOFKEYS", "the secret of the key server's client"
BAD_STATES = {"Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException"}


class KeyServer:
    """`mode` of all keys: `good`, `denied`, `busy`, `dark` (nothing is ever answered)."""

    def __init__(self) -> None:
        self.moto = Moto()
        self.kms = boto3.client("kms", endpoint_url=self.moto.url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
        self.upstream = urllib.parse.urlsplit(self.moto.url).netloc
        self.mode, self.closed = "good", threading.Event()
        self.denied: set[str] = set()
        self.asked: list[tuple[str, dict]] = []
        self.port = 0
        self.open()

    def open(self) -> None:
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                line.relay(self)

            def log_message(self, *_: object) -> None:
                pass

        # The port that it had: its clients know no other.
        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Nobody listens there any more."""
        self.server.shutdown()
        self.server.server_close()

    def stop(self) -> None:
        self.closed.set()
        self.close()
        self.moto.stop()

    def new(self, usage: str = "ENCRYPT_DECRYPT", spec: str = "SYMMETRIC_DEFAULT") -> str:
        return self.kms.create_key(KeyUsage=usage, KeySpec=spec)["KeyMetadata"]["Arn"]

    def settings(self, **more: str) -> dict[str, str]:
        names = {"ENDPOINT": self.url, "ACCESS_KEY_ID": ACCESS_KEY, "SECRET_ACCESS_KEY": SECRET, "ALLOW_HTTP": "true", "TIMEOUT_S": "1", **more}
        return {f"KMS_{name}": value for name, value in names.items()}

    def relay(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        ask = json.loads(body)
        self.asked.append((handler.headers["X-Amz-Target"].split(".")[1], ask))
        if self.mode == "dark":
            self.closed.wait(60)
            handler.close_connection = True
            return
        refused = self.refusal(handler, body, ask)
        if refused:
            status, kind = refused
            return self.answer(handler, status, json.dumps({"__type": kind, "message": f"{kind}, says the line"}).encode())
        far = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            far.request("POST", "/", body, dict(handler.headers))
            answer = far.getresponse()
            self.answer(handler, answer.status, answer.read())
        finally:
            far.close()

    def refusal(self, handler: BaseHTTPRequestHandler, body: bytes, ask: dict) -> tuple[int, str] | None:
        if not signed(handler, body):
            return 400, "InvalidSignatureException"
        if self.mode == "busy":
            return 400, "ThrottlingException"
        try:
            key = self.kms.describe_key(KeyId=ask["KeyId"])["KeyMetadata"]
        except self.kms.exceptions.NotFoundException:
            return 400, "NotFoundException"
        if self.mode == "denied" or key["Arn"] in self.denied:
            return 400, "AccessDeniedException"
        if key["KeyState"] in BAD_STATES:
            return 400, BAD_STATES[key["KeyState"]]
        return None if key["KeyUsage"] == "ENCRYPT_DECRYPT" else (400, "InvalidKeyUsageException")

    def answer(self, handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/x-amz-json-1.1")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def signed(handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """Whether the signature is the one that botocore makes."""
    given = dict(part.strip().split("=", 1) for part in handler.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(","))
    headers = {name: handler.headers[name] for name in given["SignedHeaders"].split(";")}
    needed = {"host", "x-amz-date", "x-amz-target", "content-type"} <= headers.keys()
    if not needed or hashlib.sha256(body).hexdigest() != handler.headers["x-amz-content-sha256"]:
        return False
    request = AWSRequest("POST", f"http://{handler.headers['Host']}/", headers=headers, data=body)
    request.context["timestamp"] = handler.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET), "kms", REGION)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return expected == given["Signature"] and given["Credential"].startswith(f"{ACCESS_KEY}/")
