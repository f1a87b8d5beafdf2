"""An unrelated stack plays by WHEP: aiortc hears and sees the room, or one participant of it."""

import asyncio

import numpy as np
import synth
from http_sdp import delete, post_sdp
from aiortc import RTCPeerConnection, RTCSessionDescription
from program import arguments, main, say

PICTURES, FRAMES = 30, 100


async def work() -> None:
    args = arguments(("--who", {"default": ""}), ("--kind", {"default": ""}))
    kinds = [args.kind] if args.kind else ["audio", "video"]
    pc = RTCPeerConnection()
    for kind in kinds:
        pc.addTransceiver(kind, direction="recvonly")
    tracks = {}
    pc.on("track", lambda track: tracks.__setitem__(track.kind, track))
    await pc.setLocalDescription(await pc.createOffer())
    path = f"{args.url}/whep/{args.room}" + (f"/{args.who}" if args.who else "")
    answer, resource = await post_sdp(path, args.token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    say("ready", resource=resource)

    async def listen() -> None:
        heard: list[np.ndarray] = []
        while len(heard) < FRAMES:
            frame = await tracks["audio"].recv()
            samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
            if np.abs(samples).max() > 500:
                heard.append(samples)
        frequency, level = synth.loudest(np.concatenate(heard[-50:]), frame.sample_rate)
        say("heard", frequency=frequency, level=level)

    async def look() -> None:
        last, pictures, backwards, unreadable = None, 0, 0, 0
        while pictures < PICTURES:
            frame = await tracks["video"].recv()
            number = synth.read_number(frame.to_ndarray(format="rgb24"))
            if number is None:
                unreadable += 1
                continue
            pictures += 1
            backwards += last is not None and ((number - last + 0x8000) & 0xFFFF) - 0x8000 < 0
            last = number
        say("seen", pictures=pictures, backwards=backwards, unreadable=unreadable, width=frame.width, height=frame.height)

    try:
        work = {"audio": listen, "video": look}
        await asyncio.wait_for(asyncio.gather(*(work[kind]() for kind in kinds)), args.seconds)
    finally:
        status = await delete(resource, args.token)
        await pc.close()
        say("left", status=status)


main(work)
