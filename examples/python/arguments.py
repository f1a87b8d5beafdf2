"""What all examples are told on the command line, and how they end: by --seconds, by Ctrl-C, or with the room."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import antiphon


@dataclass
class Arguments:
    url: str
    room: str
    name: str
    token: str | None
    out: Path


def run(main: Callable[[Arguments], Awaitable[None]], name: str, doc: str | None) -> None:
    """Parses the command line and runs an example."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("url", nargs="?", default="http://localhost:7700", help="the server")
    parser.add_argument("room", nargs="?", default="demo")
    parser.add_argument("--name", default=name, help="shown to others")
    parser.add_argument("--token", help="by default ANTIPHON_TOKEN, or a guest's")
    parser.add_argument("--seconds", type=float, help="end by itself after this time")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for files")
    given = parser.parse_args()
    arguments = Arguments(given.url, given.room, given.name, given.token, given.out)
    try:
        asyncio.run(_limited(main(arguments), given.seconds))
    except KeyboardInterrupt:
        print("interrupted")
    except antiphon.AntiphonError as e:
        sys.exit(f"{e.error_code}: {e}")


async def _limited(work: Awaitable[None], seconds: float | None) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        print(f"{seconds:g} s are over")


def file_name(participant: antiphon.Participant) -> str:
    """A name of a file for somebody: letters and digits of their name, and their number, which is theirs alone."""
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in participant.name)[:40]
    return f"{letters or 'someone'}-{participant.key}"
