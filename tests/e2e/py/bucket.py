"""An S3-compatible server (moto's), and a line to it that can be bad in every way a network and a busy store are."""

from __future__ import annotations

import http.client
import random
import re
import socket
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

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


def settings(url: str, **more: str) -> dict[str, str]:
    """The variables of a server whose streams are in the bucket behind `url`."""
    names = {"ENDPOINT": url, "BUCKET": BUCKET, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "ALLOW_HTTP": "true", **more}
    return {f"S3_{name}": value for name, value in names.items()}


DENIED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Line:
    """Carries requests to the bucket. `mode`: `good`; `bad`, in which one of three is cut before or after it arrived, late, answered with 503,
    or its answer is cut short; `dark`, in which nothing is ever answered; `denied`, in which all is answered with 403. Whatever the mode,
    an object whose key ends with `refused` is not written: 403."""

    def __init__(self, upstream: str, seed: int):
        self.refused: str | None = None
        self.mode, self.met = "good", dict.fromkeys(("before", "after", "late", "busy", "short", "dark", "denied"), 0)
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.closed = threading.Event()
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def relay(self) -> None:
                line.relay(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fault(self) -> str:
        with self.lock:
            kind = self.mode
            if kind == "bad":
                kind = self.random.choice(("before", "after", "late", "busy", "short")) if self.random.random() < 1 / 3 else "good"
            if kind != "good":
                self.met[kind] += 1
            return kind

    def relay(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        kind = self.fault()
        if kind == "good" and handler.command == "PUT" and self.refused and handler.path.endswith(self.refused):
            kind = "denied"
        if kind == "dark":
            # Who asked hears nothing; the connection stays as it is until they give up.
            handler.connection.settimeout(60)
            try:
                handler.connection.recv(1)
            except OSError:
                pass
        if kind in ("dark", "before"):
            return self.cut(handler)
        if kind in ("busy", "denied"):
            return self.answer(handler, 503 if kind == "busy" else 403, [], BUSY if kind == "busy" else DENIED)
        if kind == "late":
            self.closed.wait(0.7)
        far = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            far.request(handler.command, handler.path, body, dict(handler.headers))
            answer = far.getresponse()
            content, headers = answer.read(), answer.getheaders()
        except OSError:  # The test is over.
            return self.cut(handler)
        finally:
            far.close()
        if kind == "after":
            return self.cut(handler)
        self.answer(handler, answer.status, headers, content, kind == "short")

    def answer(self, handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes, short: bool = False) -> None:
        handler.send_response_only(status)
        ours = {"content-length", "connection", "transfer-encoding"}
        for name, value in headers:
            if name.lower() not in ours:
                handler.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get("content-length") if handler.command == "HEAD" else len(content)
        handler.send_header("Content-Length", str(length))
        head = b"".join(handler._headers_buffer) + b"\r\n"
        handler._headers_buffer = []
        whole = head + (b"" if handler.command == "HEAD" else content)
        handler.wfile.write(whole[: len(whole) - len(content) // 2 - 4] if short else whole)
        if short:
            self.cut(handler)

    def cut(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        try:
            handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def stop(self) -> None:
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()
