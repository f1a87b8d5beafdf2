"""What the programs beside the browsers have in common: arguments, JSON lines for the test, ending with standard input."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import antiphon


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def arguments(*extra: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    p = argparse.ArgumentParser()
    p.add_argument("url")
    p.add_argument("room")
    p.add_argument("--token")
    p.add_argument("--seconds", type=float, default=10)
    for name, options in extra:
        p.add_argument(name, **options)
    return p.parse_args()


async def stdin_closed() -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    await reader.read()


async def person(room: antiphon.Room, name: str) -> antiphon.Participant:
    """Waits until somebody of this name is in the room."""
    events = room.events()
    while True:
        for who in room.participants.values():
            if who.name == name:
                return who
        await asyncio.wait_for(anext(events), 20)


def main(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs until the work is done or the test closes our standard input."""

    async def run() -> None:
        tasks = {asyncio.create_task(work()), asyncio.create_task(stdin_closed())}
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    asyncio.run(run())


async def at_rate(per_second: float, step: Callable[[int], Awaitable[None]]) -> None:
    """Calls `step(n)` at `per_second`, without drift, for ever."""
    begin, n = time.monotonic(), 0
    while True:
        await step(n)
        n += 1
        await asyncio.sleep(max(0.0, begin + n / per_second - time.monotonic()))
