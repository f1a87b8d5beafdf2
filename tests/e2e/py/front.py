"""An HTTP server of the test's before another one: what passes it may be looked at, changed, refused, or lost."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Front:
    """On a free port of its own, which it keeps. `relay` says what becomes of a request."""

    def __init__(self, upstream: str):
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.closed = threading.Event()
        self.port = 0
        self.open()

    def open(self) -> None:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self) -> None:
                front.relay(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = take

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

    def relay(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server behind says: status, headers, content."""
        far = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            far.request(handler.command, handler.path, body, dict(handler.headers))
            answer = far.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            far.close()

    def answer(self, handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes, short: bool = False) -> None:
        """Answers; `short`: breaks off in the middle."""
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

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Who asked hears nothing; the connection stays as it is until they give up."""
        handler.connection.settimeout(60)
        try:
            handler.connection.recv(1)
        except OSError:
            pass
        self.cut(handler)

    def cut(self, handler: BaseHTTPRequestHandler) -> None:
        """Breaks the connection."""
        handler.close_connection = True
        try:
            handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
