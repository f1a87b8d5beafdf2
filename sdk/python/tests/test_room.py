"""A session from beginning to end, against a server in this process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import antiphon
from antiphon.connection import TOKEN_VARIABLE
from antiphon.streams import MAX_AUDIO, MAX_PICTURES

from fake_server import Json, Peer, fake, info, run
from vectors import message


async def wait_for_leaving(peer: Peer) -> None:
    await peer.gone()


def connect(url: str, **more: object) -> antiphon.connect:
    return antiphon.connect(url, "demo", token="t0", **more)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_hears_sees_and_knows_who() -> None:
    async def script(peer: Peer) -> None:
        await peer.frame(message("pcm_16k_mono_one_speaker"))
        await peer.frame(message("picture_rgb24_4x2", stream=8))
        await peer.frame(message("encoded_h264", stream=9))
        await peer.frame(message("mix_sixteen_speakers", stream=10))
        await peer.say("closed", reason="room_closed")
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            assert (room.id, room.key, room.name, room.epoch_us) == ("pa_me", 9, "demo", 1_000_000)
            ann = room.participants["pa_ann"]
            assert ann.tracks["microphone"].codec == "opus" and room.me.is_bot
            frames = [frame async for frame in room.frames()]
            assert [type(f) for f in frames] == [
                antiphon.AudioFrame,
                antiphon.VideoFrame,
                antiphon.EncodedFrame,
                antiphon.AudioFrame,
            ]
            assert [f.participant for f in frames] == [ann, ann, ann, None]
            voice = frames[0]
            assert isinstance(voice, antiphon.AudioFrame)
            assert voice.speakers == (antiphon.Speaker(ann, 30),)
            assert voice.samples.dtype == np.int16 and not voice.samples.flags.owndata
            assert room.left == "room_closed" and room.malformed == 0
            with pytest.raises(antiphon.ClosedError, match="room_closed"):
                await room.stats()

    run(test())


def test_start_says_what_was_asked_for() -> None:
    seen: list[Json] = []

    async def script(peer: Peer) -> None:
        seen.append(peer.start)
        await peer.gone()

    async def test() -> None:
        audio = antiphon.Audio("sendrecv", mixed="dominant", participants=antiphon.Top(3))
        camera = antiphon.Video(form="nv12", height=720, participants=["pa_ann"])
        async with fake(script) as server:
            async with connect(server.url, name="Echo", audio=audio, camera=camera, screen="recvonly"):
                pass
            assert server.requests[0].path == "/v1/rooms/demo/bot"

    run(test())
    start = seen[0]
    assert (start["type"], start["protocol"], start["name"]) == ("start", 1, "Echo")
    assert start["session"]["audio"] == {
        "direction": "sendrecv",
        "sample_rate": 16000,
        "form": "pcm",
        "unmixed": True,
        "mixed": "dominant",
        "participants": {"top": 3},
    }
    assert start["session"]["camera"]["height"] == 720
    assert start["session"]["camera"]["participants"] == {"ids": ["pa_ann"]}
    assert start["session"]["screen"]["form"] == "rgb24"
    assert "screen_audio" not in start["session"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: antiphon.Audio(sample_rate=44_100),
        lambda: antiphon.Audio(participants=[f"pa_{i}" for i in range(257)]),
        lambda: antiphon.Video(height=721),
        lambda: antiphon.Video(max_frame_rate=0),
        lambda: antiphon.Video(send_bitrate=1),
        lambda: antiphon.Top(-1),
    ],
)
def test_a_mistake_in_the_session_is_found_where_it_is_made(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_the_roster_follows_and_participants_stay_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.text()
        await peer.say("participant_joined", seq=6, participant=info(11, "cyd"))
        await peer.say("participant_updated", seq=7, participant={**info(3, "ann"), "name": "Ann!"})
        await peer.say("dominant", participants=["pa_ann", "pa_bob"], history=["pa_bob"])
        await peer.say("screen_started", seq=8, participant="pa_bob")
        await peer.say("participant_left", seq=9, participant="pa_bob", reason="left")
        form = {"picture": {"pixel_format": "rgb24"}}
        await peer.say("stream_started", stream=5, participant="pa_ann", source="camera", form=form)
        error = {"code": "unsupported_codec", "message": "no AV1 here"}
        await peer.say("stream_unavailable", participant="pa_cyd", source="camera", error=error)
        layer = {"layer": 0, "active": True, "max_height": 360}
        await peer.say("layers", source="camera", layers=[layer])
        await peer.say("draining", deadline_s=30)
        await peer.say("closed", reason="draining")
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            ann, bob = room.participants["pa_ann"], room.participants["pa_bob"]
            events = room.events()
            going = asyncio.create_task(room.microphone.mute())
            seen = [event async for event in events]
            cyd = room.participants["pa_cyd"]
            assert seen[:5] == [
                antiphon.ParticipantJoined(cyd),
                antiphon.ParticipantUpdated(ann),
                antiphon.DominantChanged((ann, bob), (bob,)),
                antiphon.ScreenStarted(bob),
                antiphon.ParticipantLeft(bob, "left"),
            ]
            assert seen[5] == antiphon.StreamStarted(5, ann, "camera", pixel_format="rgb24")
            unavailable = seen[6]
            assert isinstance(unavailable, antiphon.StreamUnavailable)
            assert isinstance(unavailable.error, antiphon.UnsupportedCodecError)
            assert seen[7] == antiphon.LayersWanted("camera", (antiphon.LayerWish(0, True, max_height=360),))
            assert seen[8:] == [antiphon.Draining(30), antiphon.Closed("draining")]
            assert ann.name == "Ann!" and room.dominant == (ann,)
            assert list(room.participants) == ["pa_ann", "pa_me", "pa_cyd"] and not bob.present
            with pytest.raises(antiphon.ClosedError):
                await going

    run(test())


def test_what_is_no_frame_is_skipped_and_counted() -> None:
    async def script(peer: Peer) -> None:
        await peer.frame(b"")
        await peer.frame(b"\x01\x01\x00")
        await peer.socket.send("not json")
        await peer.socket.send("[]")
        await peer.say("news_from_the_future", x=1)
        await peer.say("participant_joined", seq="six")
        await peer.frame(message("pcm_16k_mono_one_speaker"))
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            assert len([f async for f in room.frames()]) == 1
            assert room.malformed == 6

    run(test())


def test_a_slow_loop_loses_its_own_frames_and_learns_how_many() -> None:
    extra = 30

    async def script(peer: Peer) -> None:
        for i in range(MAX_AUDIO + extra):
            await peer.frame(message("pcm_16k_mono_one_speaker", sequence=i))
        for i in range(10):
            await peer.frame(message("picture_rgb24_4x2", stream=8, sequence=i))
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            slow, quick = room.frames(), room.audio()
            heard = [f.sequence async for f in quick]
            assert heard == list(range(MAX_AUDIO + extra)) and quick.dropped == 0
            kept = [f async for f in slow]
            voices = [f for f in kept if isinstance(f, antiphon.AudioFrame)]
            pictures = [f for f in kept if isinstance(f, antiphon.VideoFrame)]
            assert [f.sequence for f in voices] == list(range(extra, MAX_AUDIO + extra))
            assert [f.sequence for f in pictures] == list(range(10 - MAX_PICTURES, 10))
            assert [f.dropped_before for f in (voices[0], voices[1], pictures[0])] == [extra, 0, 10 - MAX_PICTURES]
            assert slow.dropped == extra + 10 - MAX_PICTURES

    run(test())


def test_iterators_filter() -> None:
    async def script(peer: Peer) -> None:
        await peer.frame(message("pcm_16k_mono_one_speaker"))
        await peer.frame(message("mix_sixteen_speakers", stream=8))
        await peer.frame(message("pcm_48k_stereo", stream=9))
        await peer.frame(message("picture_rgba_3x3", stream=10))
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            ann, bob = room.participants["pa_ann"], room.participants["pa_bob"]
            mix, voices = room.audio(mixed=True), room.audio(source="microphone", mixed=False)
            of_bob, pictures = room.frames(participant=bob), room.video(participant=ann)
            assert [f.stream async for f in mix] == [8]
            assert [f.stream async for f in voices] == [7]
            assert [f async for f in of_bob] == []
            assert [f.pixels.shape async for f in pictures] == [(3, 3, 4)]

    run(test())


def test_speaks_and_shows() -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(5):
            got.append(await peer.binary())
        mark = await peer.text()
        assert mark == {"type": "mark", "name": "end", "source": "microphone"}
        played = {"name": "end", "source": "microphone", "sample": 320, "flushed": False, "media_us": 7}
        await peer.say("mark_played", **played)
        flush = await peer.text()
        assert (flush["type"], flush["source"]) == ("flush", "microphone")
        await peer.say("flushed", id=flush["id"], source="microphone", played=320, discarded=80)
        await peer.gone()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            await room.microphone.push(np.zeros(320, np.int16))
            await room.microphone.push(np.array([0.0, 1.0, -2.0, 0.5], np.float32), sample_rate=48_000)
            await room.screen_audio.push(b"\x01\x00\x02\x00")
            await room.camera.push(np.zeros((2, 4, 3), np.uint8)[:, ::-1])
            await room.screen.push_encoded(b"\x00\x00\x00\x01\x65", codec="h264", key=True)
            played = await room.microphone.mark("end")
            assert (played.sample, played.flushed) == (320, False)
            flushed = await room.microphone.flush()
            assert (flushed.played, flushed.discarded, room.microphone.queued_ms) == (320, 80, 0)
            with pytest.raises(TypeError, match="uint8"):
                await room.camera.push(np.zeros((2, 2, 3)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            with pytest.raises(ValueError, match="shape"):
                await room.microphone.push(np.zeros((2, 3), np.int16))
            with pytest.raises(ValueError, match="44100"):
                await room.microphone.push(b"", sample_rate=44_100)
            with pytest.raises(ValueError, match="128"):
                await room.microphone.mark("x" * 129)

    run(test())
    assert [m[1] for m in got] == [1, 1, 1, 2, 4]
    assert [m[2] for m in got] == [0, 0, 3, 1, 2]
    assert np.frombuffer(got[1][56:], "<i2").tolist() == [0, 32767, -32767, 16384]
    assert int.from_bytes(got[1][48:52], "little") == 48_000
    assert (got[3][44], len(got[3])) == (2, 56 + 24)


def test_long_speech_is_sent_ahead_by_two_seconds_and_a_flush_ends_it() -> None:
    samples = 0

    async def script(peer: Peer) -> None:
        nonlocal samples
        while isinstance(received := await peer.socket.recv(), bytes):
            samples += (len(received) - 56) // 2
        flush = json.loads(received)
        await peer.say("flushed", id=flush["id"], source="microphone", played=0, discarded=samples)
        await peer.gone()

    async def test() -> None:
        async with fake(script) as server, connect(server.url, audio="sendonly") as room:
            minute = asyncio.create_task(room.microphone.push(np.zeros(60 * 16_000, np.int16)))
            while room.microphone.queued_ms < 1_950:
                await asyncio.sleep(0)
            assert not minute.done()
            await room.microphone.flush()
            await minute

    run(test())
    assert samples <= 2.2 * 16_000


def test_a_full_queue_at_the_server_holds_pushes() -> None:
    order: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.say("queue", source="microphone", queued_ms=30_000, state="high")
        await peer.text()  # after this the bot knows
        await peer.say("reply", id=1)
        await peer.text()
        order.append("low")
        await peer.say("queue", source="microphone", queued_ms=200, state="low")
        await peer.say("reply", id=2)
        await peer.binary()
        order.append("pushed")
        await peer.gone()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            await room.microphone.mute(False)
            push = asyncio.create_task(room.microphone.push(np.zeros(320, np.int16)))
            await asyncio.sleep(0)
            assert not push.done()
            await room.camera.mute()
            await push

    run(test())
    assert order[0] == "low"


def test_update_changes_the_session_or_raises() -> None:
    async def script(peer: Peer) -> None:
        update = await peer.answer("update")
        assert list(update["session"]) == ["camera"]
        refused = await peer.text()
        await peer.say("reply", id=refused["id"], error={"code": "forbidden", "message": "not granted"})
        stats = await peer.text()
        counts = {"stream": 7, "received": 9, "delivered": 8, "dropped_slow": 1, "dropped_rate": 0}
        await peer.say(
            "stats", id=stats["id"], streams=[{**counts, "dropped_undecodable": 0, "gaps": 2, "queued": 0}]
        )
        await peer.gone()

    async def test() -> None:
        async with fake(script) as server, connect(server.url, audio="recvonly") as room:
            await room.update(camera=antiphon.Video(height=360))
            assert room.session.camera == antiphon.Video(height=360) and room.session.audio == antiphon.Audio()
            with pytest.raises(antiphon.ForbiddenError, match="not granted"):
                await room.update(camera=antiphon.Video("sendrecv"))
            assert room.session.camera == antiphon.Video(height=360)
            [stats] = await room.stats()
            assert (stats.received, stats.dropped_slow, stats.gaps) == (9, 1, 2)

    run(test())


def test_errors_of_the_session() -> None:
    async def script(peer: Peer) -> None:
        await peer.say("error", error={"code": "bad_request", "message": "no such field"}, fatal=False)
        await peer.say("error", error={"code": "rate_limited", "message": "slower"}, fatal=True)
        await peer.socket.close(4429, "slower")

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            events, frames = room.events(), room.frames()
            with pytest.raises(antiphon.RateLimitedError, match="slower"):
                async for event in events:
                    assert isinstance(event, antiphon.ServerError)
            with pytest.raises(antiphon.RateLimitedError):
                async for _ in frames:
                    pass
            with pytest.raises(antiphon.RateLimitedError):
                await room.microphone.push(b"\0\0")
            with pytest.raises(antiphon.RateLimitedError):
                await room.wait_closed()

    run(test())


def test_a_broken_connection_raises() -> None:
    async def script(peer: Peer) -> None:
        await peer.text()
        peer.socket.transport.abort()

    async def test() -> None:
        async with fake(script) as server, connect(server.url) as room:
            frames = room.frames()
            with pytest.raises(antiphon.ConnectionLostError):
                await room.microphone.mark()
            with pytest.raises(antiphon.ConnectionLostError):
                await anext(frames)
            assert room.closed

    run(test())


def test_leaving_ends_iterators() -> None:
    async def test() -> None:
        async with fake(wait_for_leaving) as server:
            room = await connect(server.url)
            listening = asyncio.create_task(anext(room.frames(), None))
            await asyncio.sleep(0)
            await room.close()
            await room.close()
            assert await listening is None
            assert await anext(room.events(), None) is None

    run(test())


def test_refusals_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with fake(wait_for_leaving) as server:
            with pytest.raises(antiphon.UnauthenticatedError, match="no such token"):
                await antiphon.connect(server.url, "demo", token="other")
            monkeypatch.setenv(TOKEN_VARIABLE, "t0")
            async with antiphon.connect(server.url, "demo"):
                pass
        refusal = (503, {"error": {"code": "room_full", "message": "32 bots are in this room"}})
        async with fake(wait_for_leaving, refuse=refusal) as server:
            with pytest.raises(antiphon.RoomFullError, match="32 bots"):
                await connect(server.url)
        with pytest.raises(antiphon.ConnectError, match="cannot reach"):
            await connect(server.url)

    run(test())
    with pytest.raises(ValueError, match="localhost:7700"):
        antiphon.connect("ftp://x", "demo")


def test_a_guest_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is plain HTTP, so another server gives the token; the WebSocket is not reached here."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    asked: list[tuple[str, Json]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            open_room = "/open/" in self.path
            error = {"error": {"code": "forbidden", "message": "Room closed is not open to guests."}}
            body = json.dumps({"token": "guest", "expires_in": 3600} if open_room else error).encode()
            self.send_response(200 if open_room else 403)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            asked.append((self.headers["Authorization"], {}))
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            with pytest.raises(antiphon.ConnectError, match="404"):
                run(_join(url, "open"))
            with pytest.raises(antiphon.ForbiddenError, match="ANTIPHON_TOKEN"):
                run(_join(url, "closed"))
        finally:
            server.shutdown()
            thread.join()
    assert asked == [
        ("/v1/rooms/open/guest-token", {"name": "Echo"}),
        ("Bearer guest", {}),
        ("/v1/rooms/closed/guest-token", {"name": "Echo"}),
    ]


async def _join(url: str, room: str) -> antiphon.Room:
    return await antiphon.connect(url, room, name="Echo")
