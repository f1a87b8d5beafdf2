"""A key server: moto's KMS, and a line to it that says what moto does not.

moto neither looks at signatures nor at what state a key is in. The line verifies each signature by botocore's own signer, asks moto (`DescribeKey`) what a
key is, and answers as Amazon's API reference says for one that is disabled, will be deleted, signs, or is another than the one that encrypted. It can also
refuse, be busy, hang, and be gone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from bucket import Moto
from front import Front

REGION, ACCESS_KEY, SECRET = "us-east-1", "AKIDOFKEYS", "the secret of the key server's client"
BAD_STATES = {"Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException"}


class KeyServer(Front):
    """`mode` of all keys: `good`, `denied`, `busy`, `dark` (nothing is ever answered)."""

    def __init__(self) -> None:
        self.moto = Moto()
        self.kms = boto3.client("kms", endpoint_url=self.moto.url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
        self.mode = "good"
        self.denied: set[str] = set()
        self.asked: list[tuple[str, dict]] = []
        super().__init__(self.moto.url)

    def stop(self) -> None:
        super().stop()
        self.moto.stop()

    def new(self, usage: str = "ENCRYPT_DECRYPT", spec: str = "SYMMETRIC_DEFAULT") -> str:
        return self.kms.create_key(KeyUsage=usage, KeySpec=spec)["KeyMetadata"]["Arn"]

    def settings(self, **more: str) -> dict[str, str]:
        names = {"ENDPOINT": self.url, "ACCESS_KEY_ID": ACCESS_KEY, "SECRET_ACCESS_KEY": SECRET, "ALLOW_HTTP": "true", "TIMEOUT_S": "1", **more}
        return {f"KMS_{name}": value for name, value in names.items()}

    def relay(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        ask = json.loads(body)
        self.asked.append((handler.headers["X-Amz-Target"].split(".")[1], ask))
        if self.mode == "dark":
            return self.hang(handler)
        refused = self.refusal(handler, body, ask)
        if refused:
            content = json.dumps({"__type": refused, "message": f"{refused}, says the line"}).encode()
            return self.answer(handler, 400, [("Content-Type", "application/x-amz-json-1.1")], content)
        self.answer(handler, *self.ask(handler, body))

    def refusal(self, handler: BaseHTTPRequestHandler, body: bytes, ask: dict) -> str | None:
        if not signed(handler, body):
            return "InvalidSignatureException"
        if self.mode == "busy":
            return "ThrottlingException"
        try:
            key = self.kms.describe_key(KeyId=ask["KeyId"])["KeyMetadata"]
        except self.kms.exceptions.NotFoundException:
            return "NotFoundException"
        if self.mode == "denied" or key["Arn"] in self.denied:
            return "AccessDeniedException"
        if key["KeyState"] in BAD_STATES:
            return BAD_STATES[key["KeyState"]]
        if key["KeyUsage"] != "ENCRYPT_DECRYPT":
            return "InvalidKeyUsageException"
        # moto's ciphertexts begin with the id of their key; it says AccessDenied where Amazon tells that this is another.
        blob = base64.b64decode(ask.get("CiphertextBlob", ""))
        return "IncorrectKeyException" if blob and not blob.startswith(key["KeyId"].encode()) else None


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
