"""A bot that waits until the server says that it stops."""

from antiphon import Audio, Draining, connect
from program import arguments, main, say


async def work() -> None:
    args = arguments()
    async with connect(args.url, args.room, token=args.token, name="witness", audio=Audio("recvonly")) as room:
        say("ready", id=room.id)
        async for event in room.events():
            if isinstance(event, Draining):
                say("draining", deadline_s=event.deadline_s)


main(work)
