"""An S3-compatible server (moto's), and a line to it that can be bad in every way a network and a busy store are."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler

import boto3
from front import Front

BUCKET = "antiphon-test"
ACCESS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


class Moto:
    """A server of its own, on a free port."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        found = next(filter(None, (re.search(r"http://[\d.:]+", line) for line in self.process.stderr)))
        # Its log of requests would fill the pipe.
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.url = found[0]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Bucket(Moto):
    """One with a bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.client = boto3.client("s3", endpoint_url=self.url, **ACCESS)
        self.client.create_bucket(Bucket=BUCKET)

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def objects(self) -> dict[str, bytes]:
        return {key: self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in self.keys()}


def settings(url: str, **more: str) -> dict[str, str]:
    """The variables of a server whose streams are in the bucket behind `url`."""
    names = {"ENDPOINT": url, "BUCKET": BUCKET, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "ALLOW_HTTP": "true", **more}
    return {f"S3_{name}": value for name, value in names.items()}


DENIED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Line(Front):
    """Carries requests to the bucket. `mode`: `good`; `bad`, in which one of three is cut before or after it arrived, late, answered with 503,
    or its answer is cut short; `dark`, in which nothing is ever answered; `denied`, in which all is answered with 403. Whatever the mode,
    an object whose key ends with `refused` is not written: 403."""

    def __init__(self, upstream: str, seed: int):
        self.refused: str | None = None
        self.mode, self.met = "good", dict.fromkeys(("before", "after", "late", "busy", "short", "dark", "denied"), 0)
        self.random, self.lock = random.Random(seed), threading.Lock()
        super().__init__(upstream)

    def fault(self) -> str:
        with self.lock:
            kind = self.mode
            if kind == "bad":
                kind = self.random.choice(("before", "after", "late", "busy", "short")) if self.random.random() < 1 / 3 else "good"
            if kind != "good":
                self.met[kind] += 1
            return kind

    def relay(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        kind = self.fault()
        if kind == "good" and handler.command == "PUT" and self.refused and handler.path.endswith(self.refused):
            kind = "denied"
        if kind == "dark":
            return self.hang(handler)
        if kind == "before":
            return self.cut(handler)
        if kind in ("busy", "denied"):
            return self.answer(handler, 503 if kind == "busy" else 403, [], BUSY if kind == "busy" else DENIED)
        if kind == "late":
            self.closed.wait(0.7)
        try:
            answer = self.ask(handler, body)
        except OSError:  # The test is over.
            return self.cut(handler)
        if kind == "after":
            return self.cut(handler)
        self.answer(handler, *answer, short=kind == "short")
