"""Writes what each participant says into a WAV file of its own."""

from __future__ import annotations

import wave

import antiphon
from arguments import Arguments, file_name, run

RATE = 16_000


async def main(arguments: Arguments) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    files: dict[antiphon.Participant, wave.Wave_write] = {}
    audio = antiphon.Audio("recvonly", sample_rate=RATE)
    try:
        async with antiphon.connect(
            arguments.url, arguments.room, name=arguments.name, token=arguments.token, audio=audio
        ) as room:
            print(f"in room {room.name} as {room.id}", flush=True)
            async for frame in room.audio(mixed=False):
                if frame.participant is None:
                    continue
                file = files.get(frame.participant)
                if file is None:
                    path = arguments.out / f"{file_name(frame.participant)}.wav"
                    print(f"writes {path}", flush=True)
                    file = files[frame.participant] = wave.open(str(path), "wb")
                    file.setnchannels(frame.channels)
                    file.setsampwidth(2)
                    file.setframerate(frame.sample_rate)
                # What this program was too slow for is filled with silence, so that the files stay in step.
                file.writeframes(bytes(frame.samples.nbytes * frame.dropped_before))
                file.writeframes(frame.samples.tobytes())
    finally:
        for participant, file in files.items():
            print(f"{participant.name}: {file.getnframes() / RATE:.1f} s")
            file.close()


if __name__ == "__main__":
    run(main, "Recorder", __doc__)
