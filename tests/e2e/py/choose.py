"""An unrelated stack plays by WHEP and chooses one encoding after the other: which size comes of each."""

import asyncio
import json
import urllib.request

from http_sdp import delete, post_sdp
from aiortc import RTCPeerConnection, RTCSessionDescription
from program import arguments, main, say

# So many pictures in a row of one size.
STEADY = 10


def choose(url: str, token: str, selection: dict[str, str]) -> int:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(selection).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status


async def work() -> None:
    args = arguments(("--who", {"required": True}), ("--encodings", {"nargs": "+"}), ("--heights", {"nargs": "+", "type": int}))
    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    tracks = []
    pc.on("track", tracks.append)
    await pc.setLocalDescription(await pc.createOffer())
    answer, resource = await post_sdp(f"{args.url}/whep/{args.room}/{args.who}", args.token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    say("ready", resource=resource)

    async def settle(height: int) -> None:
        steady = 0
        while steady < STEADY:
            frame = await tracks[0].recv()
            steady = steady + 1 if frame.height == height else 0

    await tracks[0].recv()
    for encoding, height in zip(args.encodings, args.heights, strict=True):
        status = await asyncio.to_thread(choose, f"{resource}/layer", args.token, {"encodingId": encoding})
        await asyncio.wait_for(settle(height), args.seconds)
        say("chosen", encoding=encoding, height=height, status=status)
    say("left", status=await delete(resource, args.token))
    await pc.close()


main(work)
