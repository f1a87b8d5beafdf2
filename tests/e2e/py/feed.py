"""A camera: 720p at 30 per second, encoded beforehand."""

import synth
from antiphon import Video, connect
from program import arguments, at_rate, main, say


async def work() -> None:
    args = arguments()
    pictures = synth.encode_vp8(1280, 720, 60)
    async with connect(args.url, args.room, token=args.token, name="camera", camera=Video("sendonly")) as room:

        async def push(n: int) -> None:
            data, key = pictures[n % 60]
            await room.camera.push_encoded(data, codec="vp8", key=key, width=1280, height=720)

        say("ready", id=room.id)
        await at_rate(30, push)


main(work)
