"""Getting in: the URL, the token, the WebSocket, the first messages."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Generator
from types import TracebackType
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from . import fields
from .errors import AntiphonError, ConnectError, ProtocolError, UnauthenticatedError
from .fields import Object
from .frames import MAX_MESSAGE_BYTES
from .room import PROTOCOL, Room
from .session import Audio, MediaSession, Video
from .words import Direction

TOKEN_VARIABLE = "ANTIPHON_TOKEN"
MAX_WAITING_MESSAGES = 8
"""Messages assembled before the reader takes them; with raw 1080p RGB that is 50 MB."""
MAX_ANSWER_BYTES = 65_536
"""A token or an error is far smaller."""


class connect:
    """Joins a room as a bot: ``async with connect(url, room, ...) as room:`` or ``room = await connect(...)``.

    ``url`` is the server's, e.g. ``http://localhost:7700``. ``audio``, ``camera``, ``screen`` and ``screen_audio``
    say what to get and give; a bare direction such as ``"sendrecv"`` takes the defaults of :class:`Audio` and
    :class:`Video`, and what is left out is inactive.

    The token is ``token``, or the environment's ``ANTIPHON_TOKEN``, or is asked from the server as a guest's,
    which open rooms such as ``demo`` give to anybody.

    Raises the typed error of a refusal, or :class:`ConnectError` where nobody answers.
    """

    def __init__(
        self,
        url: str,
        room: str,
        *,
        name: str | None = None,
        token: str | None = None,
        audio: Audio | Direction | None = None,
        camera: Video | Direction | None = None,
        screen: Video | Direction | None = None,
        screen_audio: Audio | Direction | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._http, self._ws = _addresses(url, room)
        self._name = name
        self._token = token or os.environ.get(TOKEN_VARIABLE) or None
        self._session = MediaSession(_audio(audio), _video(camera), _video(screen), _audio(screen_audio))
        self._timeout = timeout
        self._room: Room | None = None

    def __await__(self) -> Generator[object, None, Room]:
        return self._connect().__await__()

    async def __aenter__(self) -> Room:
        self._room = await self._connect()
        return self._room

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._room is not None:
            await self._room.close()

    async def _connect(self) -> Room:
        try:
            room = await asyncio.wait_for(self._join(), self._timeout)
        except asyncio.TimeoutError:
            raise ConnectError(f"{self._http} did not answer within {self._timeout:g} s") from None
        room.begin()
        return room

    async def _join(self) -> Room:
        token = self._token
        if token is None:
            url = self._http + "/guest-token"
            token = await asyncio.to_thread(_guest_token, url, self._name, self._timeout)
        socket = await self._dial(token)
        try:
            start: Object = {"type": "start", "protocol": PROTOCOL, "session": self._session.to_json()}
            if self._name is not None:
                start["name"] = self._name
            await socket.send(json.dumps(start))
            room = Room(socket, self._session, await _started(socket))
        except BaseException:
            await socket.close()
            raise
        try:
            await room.ready()
        except BaseException:
            await room.close()
            raise
        return room

    async def _dial(self, token: str) -> ClientConnection:
        try:
            # No compression: it would cost more than the media. The limit on size is that of the protocol.
            return await dial(
                self._ws,
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=MAX_WAITING_MESSAGES,
                open_timeout=self._timeout,
            )
        except InvalidStatus as e:
            raise _refusal(self._ws, e.response.status_code, bytes(e.response.body or b"")) from None
        except (OSError, InvalidHandshake) as e:
            raise ConnectError(f"cannot reach {self._ws}: {e}") from None


async def _started(socket: ClientConnection) -> Object:
    try:
        first = await socket.recv()
    except ConnectionClosed as e:
        raise ConnectError(f"the server closed the connection at once: {e}") from None
    message = fields.parse_object(first)
    kind = fields.text(message, "type")
    if kind == "error" and (error := fields.error(message)) is not None:
        raise error
    if kind != "started":
        raise ProtocolError(f"the server's first message is {kind!r}, not 'started'")
    return message


def _addresses(url: str, room: str) -> tuple[str, str]:
    """The room's HTTP address, and the bot's WebSocket address."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    schemes = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"the server's address is like http://localhost:7700, not {url!r}")
    http, ws = schemes[parts.scheme]
    path = f"{parts.path.rstrip('/')}/v1/rooms/{quote(room, safe='')}"
    return urlunsplit((http, parts.netloc, path, "", "")), urlunsplit((ws, parts.netloc, path + "/bot", "", ""))


def _audio(given: Audio | Direction | None) -> Audio | None:
    return Audio(given) if isinstance(given, str) else given


def _video(given: Video | Direction | None) -> Video | None:
    return Video(given) if isinstance(given, str) else given


def _guest_token(url: str, name: str | None, timeout: float) -> str:
    """Asks the server for a token; blocks."""
    body = json.dumps({"name": name} if name is not None else {}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            answer = fields.parse_object(response.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as e:
        with e:
            error = _refusal(url, e.code, e.read(MAX_ANSWER_BYTES))
        if error.error_code in ("forbidden", "unauthenticated"):
            hint = f"{error} (this room takes no guests: give token=..., or set {TOKEN_VARIABLE})"
            raise type(error)(hint, code=error.error_code) from None
        raise error from None
    except OSError as e:  # URLError and time-outs are OSErrors
        raise ConnectError(f"cannot reach {url}: {getattr(e, 'reason', e)}") from None
    return fields.text(answer, "token")


def _refusal(url: str, status: int, body: bytes) -> AntiphonError:
    """The typed error in a response's body, or the best guess by its status."""
    try:
        error = fields.error(fields.parse_object(body))
    except ProtocolError:
        error = None
    if error is not None:
        return error
    if status == 401:
        return UnauthenticatedError(f"{url} wants a token")
    return ConnectError(f"{url} answered {status}: is this an Antiphon server?")
