"""Messages on topics, against a server in this process."""

from __future__ import annotations

import pytest

import antiphon
from antiphon.topics import MAX_LOSSY_PAYLOAD_BYTES, MAX_MESSAGES, Message, MessageStream

from fake_server import Peer, fake, run


ANN = 3
"""Her number in the roster of the fake server."""


def wire(sender: int, topic: str, data: bytes, *, flags: int = 0, lost: int = 0) -> bytes:
    head = bytes([1, 5, flags, len(topic), 0, 0, 0, 0])
    return head + sender.to_bytes(4, "little") + lost.to_bytes(4, "little") + topic.encode() + data


def test_acknowledges_a_recording_by_itself_and_leaves_consent_to_the_program() -> None:
    answers: list[object] = []

    async def script(peer: Peer) -> None:
        for recording, consent in (("r1", False), ("r2", True)):
            await peer.say("recording", recording=recording, state="announcing", consent=consent)
            request = await peer.answer("acknowledge_recording")
            answers.append((request["recording"], request.get("consent")))
            await peer.say("recording", recording=recording, state="stopped", consent=consent)
        await peer.say("closed", reason="room_closed")
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server:
            async with antiphon.connect(server.url, "demo", token="t0") as room:
                seen = []
                async for event in room.events():
                    if isinstance(event, antiphon.RecordingChanged):
                        seen.append((event.recording, event.state))
                        if event.consent and event.state == "announcing":
                            await room.consent_to_recording()
                assert seen == [(r, s) for r in ("r1", "r2") for s in ("announcing", "stopped")]
                assert room.recording is None
                with pytest.raises(antiphon.NotFoundError):
                    await room.consent_to_recording()
        assert answers == [("r1", None), ("r2", True)]

    run(test())


def test_listens_answers_and_is_told_what_was_refused() -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        request = await peer.answer("topics")
        assert request["topics"] == ["chat"]
        await peer.frame(wire(ANN, "chat", b"hello", flags=3, lost=2))
        await peer.frame(b"\x01\x05\x00")
        await peer.frame(wire(ANN, "other", b"not asked for by any stream"))
        await peer.frame(wire(ANN, "chat", b"bye"))
        got.append(await peer.binary())
        error = {"code": "rate_limited", "message": "wait"}
        await peer.say("data_refused", topic="chat", count=3, error=error)
        await peer.say("closed", reason="room_closed")
        await peer.socket.close()

    async def test() -> None:
        async with fake(script) as server:
            async with antiphon.connect(server.url, "demo", token="t0") as room:
                events = room.events()
                messages = await room.listen("chat")
                first = await anext(messages)
                ann = room.participants["pa_ann"]
                assert first == Message("chat", ann, b"hello", lossy=True, addressed=True, lost_before=2)
                assert (await anext(messages)).text == "bye" and room.malformed == 1
                await room.publish("chat", "hi", lossy=True, to=[ann])
                refused = [e async for e in events if isinstance(e, antiphon.DataRefused)]
                assert [(e.topic, e.count, e.error.error_code) for e in refused] == [("chat", 3, "rate_limited")]
                assert [m async for m in messages] == []
        key = ann.key.to_bytes(4, "little")
        assert got == [b"\x01\x05\x01\x04\x01" + bytes(11) + key + b"chathi"]

    run(test())


def test_limits_are_kept_before_anything_is_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        async with fake(script) as server, antiphon.connect(server.url, "demo", token="t0") as room:
            me = room.me
            for topic, size, to in [("", 1, 0), ("*", 1, 0), ("t" * 65, 1, 0), ("t", 1025, 0), ("t", 1, 17)]:
                with pytest.raises(ValueError):
                    await room.publish(topic, bytes(size), lossy=True, to=[me] * to)
            assert MAX_LOSSY_PAYLOAD_BYTES == 1024

    run(test())


def test_a_slow_loop_loses_the_oldest() -> None:
    async def test() -> None:
        stream = MessageStream(["*"])
        ann = antiphon.Participant("pa_ann", 1)
        for i in range(MAX_MESSAGES + 5):
            stream.put(Message("t", ann, str(i).encode(), False, False, 0))
        assert stream.dropped == 5 and (await anext(stream)).text == "5"

    run(test())
