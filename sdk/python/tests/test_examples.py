"""The examples do what they say, against a server in this process."""

from __future__ import annotations

import wave
import zlib
from pathlib import Path

import echo
import level_meter
import numpy as np
import pytest
import snapshots
import speakers_to_wav
from arguments import Arguments

from antiphon.frames import write_pcm, write_picture

from fake_server import Peer, fake, run

PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def from_ann(message: bytes, stream: int, sequence: int, *, key: int = 3, dropped: int = 0) -> bytes:
    """A frame as the server sends it."""
    raw = bytearray(message)
    raw[4:8], raw[8:12] = stream.to_bytes(4, "little"), key.to_bytes(4, "little")
    raw[12:16], raw[32:40] = sequence.to_bytes(4, "little"), (20_000 * sequence).to_bytes(8, "little")
    raw[40:44] = dropped.to_bytes(4, "little")
    return bytes(raw)


def voice(sequence: int, *, key: int = 3, dropped: int = 0) -> bytes:
    message = write_pcm("microphone", 0, 0, 16_000, np.full(320, 1000 + sequence, np.int16))
    return from_ann(message, key, sequence, key=key, dropped=dropped)


def picture(sequence: int) -> bytes:
    return from_ann(write_picture("camera", 0, 0, "rgb24", 4, 2, PICTURE), 100, sequence)


async def goodbye(peer: Peer) -> None:
    await peer.say("closed", reason="room_closed")
    await peer.socket.close()


def arguments(url: str, out: Path) -> Arguments:
    return Arguments(url, "demo", "Example", "t0", out)


def test_echo_answers_a_second_later_and_mirrors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[int] = []

    async def script(peer: Peer) -> None:
        for i in range(60):
            await peer.frame(voice(i))
            await peer.frame(voice(i, key=4))
            await peer.frame(voice(i, key=9))  # a bot: not answered
        for _ in range(10):
            samples = np.frombuffer((await peer.binary())[56:], "<i2")
            assert samples.shape == (320,)
            said.append(int(samples[0]))
        await peer.frame(picture(0))
        shown = np.frombuffer((await peer.binary())[56:], np.uint8).reshape(2, 4, 3)
        assert np.array_equal(shown, PICTURE[:, ::-1])
        await goodbye(peer)

    async def test() -> None:
        async with fake(script) as server:
            await echo.main(arguments(server.url, tmp_path))

    run(test())
    assert said[1:] == [2 * (1000 + i) for i in range(1, 10)]
    assert "heard 180 frames, said 10; saw 1 pictures, showed 1" in capsys.readouterr().out


def test_level_meter_prints_decibels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def script(peer: Peer) -> None:
        loud = write_pcm("microphone", 0, 0, 16_000, np.full(320, -32768, np.int16))
        for i in range(1, 11):
            await peer.frame(from_ann(loud, 1, i))
        await goodbye(peer)

    async def test() -> None:
        async with fake(script) as server:
            await level_meter.main(arguments(server.url, tmp_path))

    run(test())
    assert f"ann |{'#' * 30}|   0.0 dB" in capsys.readouterr().out


def test_speakers_to_wav_keeps_step_over_losses(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.frame(voice(0))
        await peer.frame(voice(3, dropped=2))
        await peer.frame(voice(0, key=4))
        await goodbye(peer)

    async def test() -> None:
        async with fake(script) as server:
            await speakers_to_wav.main(arguments(server.url, tmp_path))

    run(test())
    with wave.open(str(tmp_path / "ann-3.wav"), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 4 * 320)
        samples = np.frombuffer(file.readframes(4 * 320), "<i2")[::320]
        assert samples.tolist() == [1000, 0, 0, 1003]
    assert (tmp_path / "bob-4.wav").exists()


def test_snapshots_are_png(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        assert peer.start["session"]["camera"]["max_frame_rate"] == 1
        await peer.frame(picture(0))
        await goodbye(peer)

    async def test() -> None:
        async with fake(script) as server:
            await snapshots.main(arguments(server.url, tmp_path))

    run(test())
    data = (tmp_path / "ann-3-camera-0001.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    size = int.from_bytes(data[33:37], "big")
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(2, 13)
    assert np.array_equal(rows[:, 1:].reshape(2, 4, 3), PICTURE)
