"""A bot's place in a room."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeGuard, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from . import fields
from .errors import AntiphonError, ClosedError, ConnectionLostError, NotFoundError, ProtocolError
from .events import (
    Closed,
    DataRefused,
    DominantChanged,
    Draining,
    Event,
    KeyframeNeeded,
    LayersWanted,
    LayerWish,
    LeaveReason,
    MarkPlayed,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    QueueChanged,
    QueueState,
    RecordingChanged,
    RecordingState,
    ScreenStarted,
    ScreenStopped,
    ServerError,
    StreamEnded,
    StreamStarted,
    StreamStats,
    StreamUnavailable,
)
from .fields import Object
from .frames import AudioFrame, EncodedFrame, Frame, Pixels, VideoFrame, parse_frame
from .outputs import AudioOutput, VideoOutput
from .roster import Participant, Roster
from .session import Audio, MediaSession, Video
from .streams import EventStream, F, FrameStream
from .topics import KIND as TOPIC_KIND
from .topics import Message, MessageStream, parse_message, write_message
from .words import AudioSource, Codec, PixelFormat, Source, VideoSource

logger = logging.getLogger("antiphon")

PROTOCOL = 1
NORMAL_CLOSE = (1000, 1001)
MAX_MARK_BYTES = 128
MAX_MARKS = 1000
"""Marks that may wait to be played: far more than a speech has sentences."""


class Room:
    """A place in a room, as :func:`antiphon.connect` gives it. All methods belong to one event loop."""

    def __init__(self, socket: ClientConnection, session: MediaSession, started: Object) -> None:
        self.id = fields.text(started, "participant")
        """The bot's own participant id."""
        self.key = fields.integer(started, "key")
        """The bot's own number in frame headers."""
        self.name = fields.text(started, "room")
        """The room's name."""
        self.epoch_us = fields.integer(started, "epoch_us")
        """When ``media_us`` was 0: us since the Unix epoch, on the server's clock."""
        self.session = session
        """What the bot gets and gives now."""
        self.recording: str | None = None
        """What is being recorded of this room, if anything is."""
        self._acknowledging: set[asyncio.Future[None]] = set()
        self.dominant: tuple[Participant, ...] = ()
        """Who leads the conversation, in order."""
        self.left: LeaveReason | None = None
        """Why the server let the bot go, once it has."""
        self.malformed = 0
        """Messages of the server that this version did not understand, and skipped."""
        self.microphone = AudioOutput(self, "microphone")
        self.screen_audio = AudioOutput(self, "screen_audio")
        self.camera = VideoOutput(self, "camera")
        self.screen = VideoOutput(self, "screen")
        self._socket = socket
        self._roster = Roster()
        self._frame_streams: weakref.WeakSet[FrameStream[Any]] = weakref.WeakSet()
        self._event_streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._message_streams: weakref.WeakSet[MessageStream] = weakref.WeakSet()
        self._topics: frozenset[str] = frozenset()
        self._ids = itertools.count(1)
        self._requests: dict[int, asyncio.Future[Object]] = {}
        self._marks: dict[str, asyncio.Future[MarkPlayed]] = {}
        self._failure: Exception | None = None
        self._ended = False
        self._rostered = asyncio.Event()
        self._begun = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="antiphon reader")

    async def __aenter__(self) -> Room:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Room {self.name!r}, {len(self.participants)} participants>"

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Everybody by id, the bot included; it changes as people come and go."""
        return self._roster.by_id

    @property
    def me(self) -> Participant:
        """The bot itself."""
        return self._roster.at(self.key)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._ended

    # What comes.

    def frames(
        self, *, source: Source | None = None, participant: Participant | None = None
    ) -> FrameStream[Frame]:
        """All frames from now on, as they arrive; or only those of one source or participant."""

        def wanted(frame: Frame) -> TypeGuard[Frame]:
            return _of(frame, source, participant)

        return self._open(FrameStream(wanted))

    def audio(
        self,
        *,
        source: AudioSource | None = None,
        participant: Participant | None = None,
        mixed: bool | None = None,
    ) -> FrameStream[AudioFrame]:
        """Raw audio only. ``mixed=True`` is the mix alone, ``mixed=False`` the participants alone."""

        def wanted(frame: Frame) -> TypeGuard[AudioFrame]:
            if not isinstance(frame, AudioFrame) or (mixed is not None and frame.mixed != mixed):
                return False
            return _of(frame, source, participant)

        return self._open(FrameStream(wanted))

    def video(
        self, *, source: VideoSource | None = None, participant: Participant | None = None
    ) -> FrameStream[VideoFrame]:
        """Raw pictures only."""

        def wanted(frame: Frame) -> TypeGuard[VideoFrame]:
            return isinstance(frame, VideoFrame) and _of(frame, source, participant)

        return self._open(FrameStream(wanted))

    def encoded(
        self, *, source: Source | None = None, participant: Participant | None = None
    ) -> FrameStream[EncodedFrame]:
        """Encoded frames only. After a frame with ``dropped_before`` wait for a ``key`` one, or ask for it."""

        def wanted(frame: Frame) -> TypeGuard[EncodedFrame]:
            return isinstance(frame, EncodedFrame) and _of(frame, source, participant)

        return self._open(FrameStream(wanted))

    def events(self) -> EventStream:
        """What happens from now on; what was before is in ``participants`` and ``dominant``."""
        stream = EventStream()
        self._event_streams.add(stream)
        if self._ended:
            stream.end(self._failure)
        return stream

    async def listen(self, *topics: str) -> MessageStream:
        """Messages that others send on these topics from now on (``"*"``: on all); for ``async for``.

        The server goes on sending what any stream of this room has asked for, and the bot ignores what no stream wants.
        """
        stream = MessageStream(topics)
        self._message_streams.add(stream)
        wanted = self._topics | stream.topics
        if wanted != self._topics:
            await self.request({"type": "topics", "topics": sorted(wanted)})
            self._topics |= wanted
        if self._ended:
            stream.end(self._failure)
        return stream

    # What goes.

    async def publish(
        self, topic: str, data: bytes | str, *, lossy: bool = False, to: Iterable[Participant] = ()
    ) -> None:
        """Sends a message to those who listen to a topic, or to those of them in ``to``; text goes as UTF-8.

        ``lossy``: lost rather than late, at most 1,024 bytes (else 15,360). Raises ``ValueError`` over a limit; what
        the server refuses (the rate, the grant) is told by the event :class:`DataRefused`.
        """
        payload = data.encode() if isinstance(data, str) else data
        await self._send(write_message(topic, payload, lossy, to))

    async def update(
        self,
        *,
        audio: Audio | None = None,
        camera: Video | None = None,
        screen: Video | None = None,
        screen_audio: Audio | None = None,
    ) -> None:
        """Changes the session: each modality given replaces the old one; ``Audio("inactive")`` ends one."""
        changed = MediaSession(audio, camera, screen, screen_audio)
        await self.request({"type": "update", "session": changed.to_json()})
        old = self.session
        self.session = MediaSession(
            audio or old.audio, camera or old.camera, screen or old.screen, screen_audio or old.screen_audio
        )

    async def consent_to_recording(self, agreed: bool = True) -> None:
        """Answers, for whoever the bot speaks for, a recording that asks for consent (:class:`RecordingChanged`)."""
        if self.recording is None:
            raise NotFoundError("nothing is being recorded now")
        await self.request(
            {"type": "acknowledge_recording", "recording": self.recording, "consent": agreed}
        )

    async def stats(self) -> list[StreamStats]:
        """Counts of every stream at the server, now."""
        reply = await self.request({"type": "stats"})
        return [_stats(s) for s in fields.objects(reply, "streams")]

    async def request_keyframe(self, stream: int | Frame) -> None:
        """Asks the sender of an encoded stream for a keyframe."""
        number = stream if isinstance(stream, int) else stream.stream
        await self.request({"type": "request_keyframe", "stream": number})

    async def close(self) -> None:
        """Leaves. Safe to call twice."""
        self._begun.set()
        await self._socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def wait_closed(self) -> None:
        """Waits until the connection ends; raises what ended it, unless that was a goodbye."""
        await asyncio.shield(self._reader)
        if self._failure is not None:
            raise self._failure

    # For the parts of this package.

    async def ready(self) -> None:
        """Waits for the first roster; then nothing is read before :meth:`begin`."""
        await self._rostered.wait()
        if self._failure is not None:
            raise self._failure

    def begin(self) -> None:
        """Lets the reader go on once the caller awaits something: iterators opened until then miss nothing."""
        asyncio.get_running_loop().call_soon(self._begun.set)

    async def request(self, message: Object) -> Object:
        """Sends a request and waits for its answer; raises the typed error of a refusal."""
        number = next(self._ids)
        answer: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        try:
            await self._send(json.dumps({**message, "id": number}))
            return await answer
        finally:
            self._requests.pop(number, None)

    async def mark(self, source: AudioSource, name: str | None) -> MarkPlayed:
        """Sets a mark and waits for it."""
        name = name if name is not None else f"mark-{next(self._ids)}"
        if len(name.encode()) > MAX_MARK_BYTES:
            raise ValueError(f"a mark's name has at most {MAX_MARK_BYTES} bytes")
        if name in self._marks:
            raise ValueError(f"the mark {name!r} is still waiting: give each its own name")
        if len(self._marks) >= MAX_MARKS:
            raise ValueError(f"{MAX_MARKS} marks are waiting already")
        played: asyncio.Future[MarkPlayed] = asyncio.get_running_loop().create_future()
        self._marks[name] = played
        try:
            await self._send(json.dumps({"type": "mark", "name": name, "source": source}))
            return await played
        finally:
            self._marks.pop(name, None)

    async def send_frame(self, message: bytes) -> None:
        """Sends one binary message; waits while the connection is full."""
        await self._send(message)

    def sample_rate(self, source: AudioSource) -> int:
        """The rate that a source is pushed at by default."""
        part = self.session.audio if source == "microphone" else self.session.screen_audio
        return part.sample_rate if part is not None else Audio.sample_rate

    def pixel_format(self, source: VideoSource, picture: Pixels) -> PixelFormat:
        """The layout that an array probably has."""
        if picture.ndim == 3 and picture.shape[2] == 4:
            return "rgba"
        part = self.session.camera if source == "camera" else self.session.screen
        form = part.form if part is not None else "rgb24"
        if picture.ndim == 2:
            return "nv12" if form == "nv12" else "i420"
        return "bgr24" if form == "bgr24" else "rgb24"

    async def _send(self, message: str | bytes) -> None:
        if self._ended:
            raise self._why_closed()
        try:
            await self._socket.send(message)
        except ConnectionClosed:
            await asyncio.shield(self._reader)
            raise self._why_closed() from None

    def _why_closed(self) -> Exception:
        if self._failure is not None:
            return self._failure
        return ClosedError(f"the room was left ({self.left or 'closed by us'})")

    def _open(self, stream: FrameStream[F]) -> FrameStream[F]:
        self._frame_streams.add(stream)
        if self._ended:
            stream.end(self._failure)
        return stream

    # The reader.

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._socket.recv())
                if self._rostered.is_set():
                    await self._begun.wait()
                # Many messages may stand in the buffer: let the loops take theirs before the next one is put.
                await asyncio.sleep(0)
        except ConnectionClosed as e:
            code = e.rcvd.code if e.rcvd is not None else 1006
            if self._failure is None and code not in NORMAL_CLOSE and self.left is None:
                detail = f": {e.rcvd.reason}" if e.rcvd is not None and e.rcvd.reason else ""
                self._failure = ConnectionLostError(f"the connection broke off (close code {code}{detail})")
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        for frames in list(self._frame_streams):
            frames.end(self._failure)
        for events in list(self._event_streams):
            events.end(self._failure)
        for messages in list(self._message_streams):
            messages.end(self._failure)
        waiting: list[asyncio.Future[Object] | asyncio.Future[MarkPlayed]] = []
        waiting += [*self._requests.values(), *self._marks.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(self._why_closed())
        self.microphone.wake()
        self.screen_audio.wake()
        self._rostered.set()

    def _take(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                self._take_text(message)
            else:
                self._take_binary(message)
        except ProtocolError as e:
            self.malformed += 1
            if self.malformed & (self.malformed - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                logger.warning("skipped a message of the server (%d until now): %s", self.malformed, e)

    def _take_binary(self, message: bytes) -> None:
        if message[1:2] == bytes([TOPIC_KIND]):
            said: Message = parse_message(message, self._roster.at)
            for listener in self._message_streams:
                listener.put(said)
            return
        frame = parse_frame(message, self._roster.at)
        for stream in self._frame_streams:
            stream.put(frame)

    def _take_text(self, text: str) -> None:
        message = fields.parse_object(text)
        kind = fields.text(message, "type")
        if kind == "roster":
            self._roster.snapshot(fields.integer(message, "seq"), fields.objects(message, "participants"))
            self._rostered.set()
        elif kind in ("reply", "flushed", "stats"):
            self._take_answer(message)
        elif kind == "error":
            self._take_error(message)
        else:
            event = self._event(kind, message)
            if isinstance(event, MarkPlayed) and (mark := self._marks.get(event.name)) and not mark.done():
                mark.set_result(event)
            if isinstance(event, QueueChanged):
                (self.microphone if event.source == "microphone" else self.screen_audio).on_queue(event)
            self._emit(event)

    def _take_answer(self, message: Object) -> None:
        answer = self._requests.get(fields.integer(message, "id"))
        if answer is None or answer.done():
            return
        error = fields.error(message)
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(message)

    def _take_error(self, message: Object) -> None:
        error = fields.error(message)
        if error is None:
            raise ProtocolError("an error without an error")
        if fields.boolean(message, "fatal"):
            self._failure = error
        else:
            logger.warning("the server refused a message: %s: %s", error.error_code, error)
            self._emit(ServerError(error))

    def _emit(self, event: Event) -> None:
        for stream in self._event_streams:
            stream.put(event)

    def _event(self, kind: str, message: Object) -> Event:
        if kind.startswith(("participant_", "screen_")):
            return self._roster_event(kind, message)
        if kind.startswith("stream_"):
            return self._stream_event(kind, message)
        if kind == "dominant":
            self.dominant = self._known(fields.texts(message, "participants"))
            return DominantChanged(self.dominant, self._known(fields.texts(message, "history")))
        if kind == "mark_played":
            return MarkPlayed(
                name=fields.text(message, "name"),
                source=cast(AudioSource, fields.text(message, "source")),
                sample=fields.integer(message, "sample"),
                flushed=fields.boolean(message, "flushed"),
                media_us=fields.integer(message, "media_us"),
            )
        if kind == "queue":
            source = cast(AudioSource, fields.text(message, "source"))
            state = cast(QueueState, fields.text(message, "state"))
            return QueueChanged(source, fields.integer(message, "queued_ms"), state)
        if kind == "keyframe_needed":
            return KeyframeNeeded(cast(VideoSource, fields.text(message, "source")))
        if kind == "data_refused":
            error = fields.error(message) or ProtocolError("no reason was given")
            topic = fields.text(message, "topic") if message.get("topic") is not None else None
            return DataRefused(topic, fields.integer(message, "count"), error)
        if kind == "layers":
            wishes = tuple(_layer_wish(layer) for layer in fields.objects(message, "layers"))
            return LayersWanted(cast(VideoSource, fields.text(message, "source")), wishes)
        if kind == "recording":
            return self._recording_event(message)
        if kind == "draining":
            return Draining(fields.integer(message, "deadline_s"))
        if kind == "closed":
            self.left = cast(LeaveReason, fields.text(message, "reason"))
            return Closed(self.left)
        raise ProtocolError(f"unknown message {kind!r}")

    def _recording_event(self, message: Object) -> Event:
        recording, state = fields.text(message, "recording"), fields.text(message, "state")
        consent = fields.boolean(message, "consent")
        if state == "stopped":
            if self.recording == recording:
                self.recording = None
        else:
            known, self.recording = self.recording, recording
            if known != recording and not consent:
                # Answered when it gets there; whoever records waits for that.
                task = asyncio.ensure_future(self._acknowledge(recording))
                self._acknowledging.add(task)
                task.add_done_callback(self._acknowledging.discard)
        return RecordingChanged(recording, cast(RecordingState, state), consent)

    async def _acknowledge(self, recording: str) -> None:
        try:
            await self.request({"type": "acknowledge_recording", "recording": recording})
        except AntiphonError as error:
            logger.info("the recording was not acknowledged: %s", error)

    def _roster_event(self, kind: str, message: Object) -> Event:
        seq = fields.integer(message, "seq")
        if kind in ("participant_joined", "participant_updated"):
            who = self._roster.put(seq, fields.as_object(message.get("participant"), "participant"))
            return ParticipantJoined(who) if kind == "participant_joined" else ParticipantUpdated(who)
        name = fields.text(message, "participant")
        if kind == "participant_left":
            gone = self._roster.remove(seq, name) or Participant(name, 0, present=False)
            self.dominant = tuple(p for p in self.dominant if p is not gone)
            return ParticipantLeft(gone, cast(LeaveReason, fields.text(message, "reason")))
        self._roster.seq = seq
        if kind == "screen_started":
            return ScreenStarted(self._named(name))
        if kind == "screen_stopped":
            return ScreenStopped(self._named(name))
        raise ProtocolError(f"unknown message {kind!r}")

    def _stream_event(self, kind: str, message: Object) -> Event:
        if kind == "stream_ended":
            stats = _stats(fields.as_object(message.get("stats"), "stats"))
            for frames in self._frame_streams:
                frames.forget(stats.stream)
            return StreamEnded(stats)
        source = cast(Source, fields.text(message, "source"))
        if kind == "stream_unavailable":
            error = fields.error(message) or ProtocolError("no reason was given")
            return StreamUnavailable(self._named(fields.text(message, "participant")), source, error)
        if kind != "stream_started":
            raise ProtocolError(f"unknown message {kind!r}")
        stream = fields.integer(message, "stream")
        whose = fields.text(message, "participant") if message.get("participant") is not None else None
        who = self._named(whose) if whose is not None else None
        form = fields.as_object(message.get("form"), "form")
        if "pcm" in form:
            rate = fields.integer(fields.as_object(form["pcm"], "pcm"), "sample_rate")
            return StreamStarted(stream, who, source, sample_rate=rate)
        if "picture" in form:
            layout = fields.text(fields.as_object(form["picture"], "picture"), "pixel_format")
            return StreamStarted(stream, who, source, pixel_format=cast(PixelFormat, layout))
        codec = fields.text(fields.as_object(form.get("encoded"), "encoded"), "codec")
        return StreamStarted(stream, who, source, codec=cast(Codec, codec))

    def _named(self, participant_id: str) -> Participant:
        return self._roster.by_id.get(participant_id) or Participant(participant_id, 0, present=False)

    def _known(self, ids: list[str]) -> tuple[Participant, ...]:
        return tuple(self._roster.by_id[i] for i in ids if i in self._roster.by_id)


def _of(frame: Frame, source: Source | None, participant: Participant | None) -> bool:
    return (source is None or frame.source == source) and (
        participant is None or frame.participant is participant
    )


def _layer_wish(layer: Object) -> LayerWish:
    def limit(name: str) -> int | None:
        return None if layer.get(name) is None else fields.integer(layer, name)

    return LayerWish(
        layer=fields.integer(layer, "layer"),
        active=fields.boolean(layer, "active"),
        max_bitrate=limit("max_bitrate"),
        max_height=limit("max_height"),
        max_frame_rate=limit("max_frame_rate"),
    )


def _stats(counts: Object) -> StreamStats:
    return StreamStats(
        **{name: fields.integer(counts, name) for name in StreamStats.__dataclass_fields__}
    )  # fmt: skip
