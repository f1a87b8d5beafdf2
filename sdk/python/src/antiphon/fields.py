"""Reading fields of JSON objects from the network, each checked for its type."""

from __future__ import annotations

import json
from typing import Any, cast

from .errors import AntiphonError, ProtocolError, from_code

Object = dict[str, Any]


def parse_object(text: str | bytes) -> Object:
    """One JSON object."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"not JSON: {e}") from None
    return as_object(value, "message")


def as_object(value: object, name: str) -> Object:
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is not an object")
    return cast(Object, value)


def text(source: Object, name: str) -> str:
    value = source.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is not a text")
    return value


def integer(source: Object, name: str) -> int:
    value = source.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{name} is not a whole number")
    return value


def boolean(source: Object, name: str) -> bool:
    value = source.get(name)
    if not isinstance(value, bool):
        raise ProtocolError(f"{name} is not true or false")
    return value


def objects(source: Object, name: str) -> list[Object]:
    value = source.get(name)
    if not isinstance(value, list):
        raise ProtocolError(f"{name} is not a list")
    return [as_object(item, name) for item in cast("list[object]", value)]


def texts(source: Object, name: str) -> list[str]:
    value = source.get(name)
    if not isinstance(value, list) or not all(isinstance(t, str) for t in cast("list[object]", value)):
        raise ProtocolError(f"{name} is not a list of texts")
    return cast("list[str]", value)


def error(source: Object, name: str = "error") -> AntiphonError | None:
    """The typed error in ``{"error": {"code", "message"}}``; None where there is none."""
    value = source.get(name)
    if value is None:
        return None
    body = as_object(value, name)
    return from_code(text(body, "code"), text(body, "message"))
