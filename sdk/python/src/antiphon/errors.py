"""Typed errors. What the server says as ``{"error": {"code", "message"}}`` is raised as the class of its code."""

from __future__ import annotations

from typing import ClassVar


class AntiphonError(Exception):
    """Anything that went wrong. ``code`` is the server's word, or one of ours; ``message`` says what to do."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or type(self).code
        """The word the server used: that of the class, or for a code this version does not know, that code."""


class UnauthenticatedError(AntiphonError):
    """No token, or one that does not verify."""

    code = "unauthenticated"


class TokenExpiredError(AntiphonError):
    """The token has expired."""

    code = "token_expired"


class ForbiddenError(AntiphonError):
    """The token is for another room, or lacks the grant."""

    code = "forbidden"


class BadRequestError(AntiphonError):
    """The server did not understand a message of ours, or it broke a rule."""

    code = "bad_request"


class TooLargeError(AntiphonError):
    """A message over its limit."""

    code = "too_large"


class NotFoundError(AntiphonError):
    """No such room, participant or stream."""

    code = "not_found"


class ConflictError(AntiphonError):
    """The state does not allow it now."""

    code = "conflict"


class RoomFullError(AntiphonError):
    """The room has as many participants as it may."""

    code = "room_full"


class RateLimitedError(AntiphonError):
    """Too many requests or messages."""

    code = "rate_limited"


class OverloadedError(AntiphonError):
    """The server is busy, or has reached a limit of its own."""

    code = "overloaded"


class DrainingError(AntiphonError):
    """The server is stopping: join elsewhere."""

    code = "draining"


class UnsupportedCodecError(AntiphonError):
    """This server cannot decode or encode that codec."""

    code = "unsupported_codec"


class NoCommonCodecError(AntiphonError):
    """None of the offered codecs is spoken on both sides."""

    code = "no_common_codec"


class InternalError(AntiphonError):
    """A fault of the server."""

    code = "internal"


class ConnectError(AntiphonError, ConnectionError):
    """The server was not reached, or what answered is not an Antiphon server."""

    code = "connect"


class ConnectionLostError(AntiphonError, ConnectionError):
    """The connection broke off without a goodbye. There is no automatic reconnect: connect again."""

    code = "connection_lost"


class ClosedError(AntiphonError):
    """The room was left, by us or by the server; nothing more can be sent."""

    code = "closed"


class ProtocolError(AntiphonError):
    """The server sent a message that this version does not understand."""

    code = "protocol"


_SERVER_ERRORS: dict[str, type[AntiphonError]] = {
    kind.code: kind
    for kind in (
        UnauthenticatedError,
        TokenExpiredError,
        ForbiddenError,
        BadRequestError,
        TooLargeError,
        NotFoundError,
        ConflictError,
        RoomFullError,
        RateLimitedError,
        OverloadedError,
        DrainingError,
        UnsupportedCodecError,
        NoCommonCodecError,
        InternalError,
    )
}


def from_code(code: str, message: str) -> AntiphonError:
    """The error class of a code; plain :class:`AntiphonError` for one that this version does not know."""
    return _SERVER_ERRORS.get(code, AntiphonError)(message, code=code)
