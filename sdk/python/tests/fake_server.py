"""A server that speaks the bot protocol in this process, on a port of the system's choice.

A test gives a script: a coroutine that gets the connection after ``start`` was answered.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

_SILENT = logging.getLogger("fake_server")
_SILENT.disabled = True

T = TypeVar("T")
Json = dict[str, Any]
Script = Callable[["Peer"], Awaitable[None]]


def info(key: int, name: str, kind: str = "web_rtc") -> Json:
    """A participant as the roster has it."""
    track = {"source": "microphone", "codec": "opus", "muted": False, "layers": 1}
    return {
        "id": f"pa_{name}",
        "key": key,
        "name": name,
        "kind": kind,
        "presence": "connected",
        "tracks": [track],
    }


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection, start: Json) -> None:
        self.socket = socket
        self.start = start

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def frame(self, message: bytes) -> None:
        await self.socket.send(message)

    async def text(self) -> Json:
        """The next message, which must be text."""
        message = await self.socket.recv()
        assert isinstance(message, str), "expected text"
        value: Json = json.loads(message)
        return value

    async def binary(self) -> bytes:
        """The next message, which must be binary."""
        message = await self.socket.recv()
        assert isinstance(message, bytes), "expected a frame"
        return message

    async def answer(self, expected: str) -> Json:
        """Takes a request of that type and answers that it is done."""
        request = await self.text()
        assert request["type"] == expected
        await self.say("reply", id=request["id"])
        return request

    async def gone(self) -> None:
        """Waits for the bot to leave."""
        await self.socket.wait_closed()


class Fake:
    """What the server is and has seen."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.failure: BaseException | None = None


@asynccontextmanager
async def fake(script: Script, *, token: str = "t0", refuse: tuple[int, Json] | None = None) -> AsyncGenerator[Fake, None]:
    """Runs a server; a failure of the script fails the test."""
    state = Fake()

    def process(connection: ServerConnection, request: Request) -> Response | None:
        state.requests.append(request)
        if request.headers.get("Authorization") != f"Bearer {token}":
            return _json(connection, 401, {"error": {"code": "unauthenticated", "message": "no such token"}})
        return _json(connection, *refuse) if refuse is not None else None

    async def handle(socket: ServerConnection) -> None:
        start: Json = json.loads(await socket.recv())
        peer = Peer(socket, start)
        await peer.say("started", protocol=1, participant="pa_me", key=9, room="demo", epoch_us=1_000_000)
        people = [info(3, "ann"), info(4, "bob"), info(9, "me", "bot")]
        await peer.say("roster", seq=5, participants=people)
        try:
            await script(peer)
        except BaseException as e:
            state.failure = e
            raise

    async with serve(
        handle, "127.0.0.1", 0, process_request=process, compression=None, max_size=None, logger=_SILENT
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        state.url = f"http://127.0.0.1:{port}"
        yield state
    if isinstance(state.failure, AssertionError):
        raise state.failure


def _json(connection: ServerConnection, status: int, body: Json) -> Response:
    del connection
    data = json.dumps(body).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data))})
    return Response(status, http.HTTPStatus(status).phrase, headers, data)


def run(test: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine; ten seconds are far more than any needs."""
    return asyncio.run(asyncio.wait_for(test, 10))
