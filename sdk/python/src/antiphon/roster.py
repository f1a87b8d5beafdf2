"""Who is in the room: one snapshot, then deltas. A participant stays the same object for as long as it is known."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from . import fields
from .fields import Object
from .words import Codec, Source

ParticipantKind = Literal["web_rtc", "whip", "whep", "bot"]
Presence = Literal["connected", "reconnecting"]

MAX_GONE = 256
"""How many who left are still known by number: frames of theirs may be on the way."""


@dataclass(frozen=True)
class Track:
    """One published track."""

    source: Source
    codec: Codec
    muted: bool
    layers: int


@dataclass(eq=False)
class Participant:
    """Somebody in the room. Compares by identity; its fields follow the roster."""

    id: str
    """Stable id; empty while the roster has not told us yet."""
    key: int
    """Number in this room, as in frame headers."""
    name: str = ""
    kind: ParticipantKind = "web_rtc"
    presence: Presence = "connected"
    held: bool = False
    """On hold: it gets nothing of the others, and they get nothing of it."""
    tracks: dict[Source, Track] = field(default_factory=lambda: {})
    present: bool = True
    """False after leaving."""

    @property
    def is_bot(self) -> bool:
        return self.kind == "bot"

    def __repr__(self) -> str:
        return f"<Participant {self.name or self.id or self.key!r} ({self.kind})>"

    def _update(self, info: Object) -> None:
        self.id = fields.text(info, "id")
        self.name = fields.text(info, "name")
        self.kind = cast(ParticipantKind, fields.text(info, "kind"))
        self.presence = cast(Presence, fields.text(info, "presence"))
        self.held = info.get("held") is True
        tracks = (
            Track(
                source=cast(Source, fields.text(t, "source")),
                codec=cast(Codec, fields.text(t, "codec")),
                muted=fields.boolean(t, "muted"),
                layers=fields.integer(t, "layers"),
            )
            for t in fields.objects(info, "tracks")
        )
        self.tracks = {t.source: t for t in tracks}
        self.present = True


class Roster:
    """Participants by id and by number, kept by the server's snapshot and deltas."""

    def __init__(self) -> None:
        self.seq = 0
        self._by_id: dict[str, Participant] = {}
        self._by_key: dict[int, Participant] = {}
        self._gone: OrderedDict[int, Participant] = OrderedDict()

    @property
    def by_id(self) -> Mapping[str, Participant]:
        return self._by_id

    def at(self, key: int) -> Participant:
        """Whoever has this number. Frames race the roster: an unknown number gets a participant without a name."""
        found = self._by_key.get(key) or self._gone.get(key)
        if found is None:
            found = Participant(id="", key=key, present=False)
            self._remember(found)
        return found

    def snapshot(self, seq: int, infos: list[Object]) -> None:
        """Everybody, as of ``seq``."""
        self.seq = seq
        present = [self._put(info) for info in infos]
        kept = {p.key for p in present}
        for key in [k for k in self._by_key if k not in kept]:
            self._drop(self._by_key[key])

    def put(self, seq: int, info: Object) -> Participant:
        """Somebody came or changed."""
        self.seq = seq
        return self._put(info)

    def remove(self, seq: int, participant_id: str) -> Participant | None:
        """Somebody went."""
        self.seq = seq
        found = self._by_id.get(participant_id)
        if found is not None:
            self._drop(found)
        return found

    def _put(self, info: Object) -> Participant:
        key = fields.integer(info, "key")
        found = self._by_key.get(key) or self._gone.pop(key, None) or Participant(id="", key=key)
        found._update(info)  # pyright: ignore[reportPrivateUsage] (one module)
        self._by_key[key] = found
        self._by_id[found.id] = found
        return found

    def _drop(self, participant: Participant) -> None:
        participant.present = False
        self._by_id.pop(participant.id, None)
        self._by_key.pop(participant.key, None)
        self._remember(participant)

    def _remember(self, participant: Participant) -> None:
        self._gone[participant.key] = participant
        while len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)
