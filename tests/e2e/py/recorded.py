"""A bot in a recorded room: it speaks a tone, says what it hears of recordings, and consents when the test says so."""

import asyncio
import math
import struct

from antiphon import Audio, RecordingChanged, connect
from program import arguments, main, say


async def speak(room, hertz: float) -> None:
    at = 0
    while True:
        samples = [int(9000 * math.sin(2 * math.pi * hertz * (at + i) / 16000)) for i in range(1600)]
        at += len(samples)
        await room.microphone.push(struct.pack(f"<{len(samples)}h", *samples), sample_rate=16000)


async def work() -> None:
    args = arguments(("--hertz", {"type": float, "default": 1200}))
    async with connect(args.url, args.room, token=args.token, name="bot", audio=Audio("sendonly", sample_rate=16000)) as room:
        say("joined", id=room.id)
        speaking = asyncio.create_task(speak(room, args.hertz))
        asked = None
        async for event in room.events():
            if isinstance(event, RecordingChanged):
                say("recording", recording=event.recording, state=event.state, consent=event.consent)
                if event.consent and event.state != "stopped" and asked != event.recording:
                    asked = event.recording
                    await room.consent_to_recording(True)
        speaking.cancel()


main(work)
