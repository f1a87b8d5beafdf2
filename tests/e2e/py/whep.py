"""An unrelated stack plays by WHEP: aiortc hears and sees the room, or one participant of it. With `--offered` it is the server that offers."""

import asyncio

import numpy as np
import synth
from http_sdp import delete, post_sdp, request
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from program import arguments, main, say

PICTURES, FRAMES = 30, 100
# Until the sound is at its end after DELETE: less than the server waits for somebody who is silent.
ENDED_S = 5


async def offer(pc: RTCPeerConnection, kinds: list[str], direction: str = "recvonly") -> str:
    for kind in kinds:
        pc.addTransceiver(kind, direction=direction)
    await pc.setLocalDescription(await pc.createOffer())
    return pc.localDescription.sdp


async def ask(pc: RTCPeerConnection, kinds: list[str], path: str, token: str) -> str:
    """Offers, and takes the answer. Gives the resource."""
    answer, resource = await post_sdp(path, token, await offer(pc, kinds))
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return resource


async def be_offered(pc: RTCPeerConnection, way: str, kinds: list[str], path: str, token: str) -> str:
    """Lets the server offer, as it does to who offers nothing (201) or nothing that it could use (406), and answers. Gives the resource."""
    useless = RTCPeerConnection()
    body = await offer(useless, kinds, "sendonly") if way == "counter" else None
    await useless.close()
    offered = await request("POST", path, token, body, 406 if way == "counter" else 201)
    await pc.setRemoteDescription(RTCSessionDescription(offered.body, "offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    answered = await request("PATCH", offered.resource, token, pc.localDescription.sdp, 204)
    if not offered.tag or answered.tag != offered.tag:
        raise RuntimeError(f"the ICE session offered was {offered.tag}, the one answered {answered.tag}")
    return offered.resource


async def work() -> None:
    args = arguments(("--who", {"default": ""}), ("--kind", {"default": ""}), ("--offered", {"choices": ["empty", "counter"]}))
    kinds = [args.kind] if args.kind else ["audio", "video"]
    pc = RTCPeerConnection()
    tracks = {}
    pc.on("track", lambda track: tracks.__setitem__(track.kind, track))
    path = f"{args.url}/whep/{args.room}" + (f"/{args.who}" if args.who else "")
    if args.offered:
        resource = await be_offered(pc, args.offered, kinds, path, args.token)
    else:
        resource = await ask(pc, kinds, path, args.token)
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

    async def end() -> None:
        """Comes to the end of the sound."""
        try:
            while True:
                await tracks["audio"].recv()
        except MediaStreamError:
            pass

    try:
        work = {"audio": listen, "video": look}
        await asyncio.wait_for(asyncio.gather(*(work[kind]() for kind in kinds)), args.seconds)
    finally:
        status = await delete(resource, args.token)
        if args.offered:
            await asyncio.wait_for(end(), ENDED_S)
            await request("GET", resource, args.token, None, 410)
        await pc.close()
        say("left", status=status)


main(work)
