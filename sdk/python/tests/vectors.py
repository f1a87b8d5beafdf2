"""The checked-in test vectors of the frame protocol, and frames made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[3] / "docs" / "reference" / "frame-vectors.json"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(PATH.read_text())


def message(name: str, *, stream: int | None = None, sequence: int | None = None) -> bytes:
    """The message of a vector, with another stream or sequence number if given."""
    for vector in VECTORS["frames"]:
        if vector["name"] == name:
            raw = bytearray.fromhex(vector["message"])
            if stream is not None:
                raw[4:8] = stream.to_bytes(4, "little")
            if sequence is not None:
                raw[12:16] = sequence.to_bytes(4, "little")
            return bytes(raw)
    raise KeyError(name)
