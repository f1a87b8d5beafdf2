"""A bot that echoes what it hears on the topic `question` on the topic `answer`, to who asked."""

import asyncio

from antiphon import connect
from program import arguments, main, say


async def work() -> None:
    args = arguments()
    async with connect(args.url, args.room, token=args.token, name="oracle") as room:
        questions = await room.listen("question")
        say("ready", id=room.id)
        async with asyncio.timeout(args.seconds):
            async for question in questions:
                await room.publish("answer", question.text.upper(), lossy=question.lossy, to=[question.sender])


main(work)
