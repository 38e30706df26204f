"""What stands on the board: entries, whose they are, and what a log says about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import JsonValue

from blackboard import events
from blackboard.errors import BadInput
from blackboard.events import Author, Erasure, Event, Link
from blackboard.types import type_name

State = Literal["live", "leased", "retracted", "taken", "expired", "erased"]
ENDS: Mapping[str, State] = {"entry.retracted": "retracted", "entry.taken": "taken", "entry.erased": "erased"}
FACTS = "entry."
"""How the types of the events about entries begin."""
PUBLIC = "public"
_SCOPES = ("session", "tenant", "group")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_REMEDY = "Use public, or run:ID, session:NAME, tenant:NAME or group:NAME, the name in lower-case letters, digits, '.', '_', '-'."


def owner_of(scope: str) -> str:
    """What the keys and the ids of a scope's entries are named by: a run's id, or a name with a colon in it.

    Raises:
        BadInput: there is no such scope.
    """
    kind, _, name = scope.partition(":")
    if scope == PUBLIC:
        return "public:"
    if (kind == "run" and _RUN.match(name)) or (kind in _SCOPES and re.match(type_name, name)):
        return name if kind == "run" else scope
    raise BadInput("scope", scope, _REMEDY)


def scope_of(owner: str) -> str:
    """The scope whose entries' ids begin so."""
    return PUBLIC if owner == "public:" else owner if ":" in owner else f"run:{owner}"


def owner_of_entry(entry_id: str) -> str:
    """The part of an entry's id that says in which scope it is.

    Raises:
        BadInput: it is no id of an entry.
    """
    owner, found, name = entry_id.partition("/e/")
    if not found or not re.match(r"[0-9a-f]{24}\Z", name) or " " in owner:
        raise BadInput("entry", entry_id, "Pass the id of an entry, as post() returns it.")
    return owner


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it was at one position of its log."""

    id: str
    topic: str
    version: int
    """1 when it was posted, one more with each fact about it."""
    content: JsonValue
    """A :class:`~blackboard.blobs.Blob` where a large one was not loaded."""
    confidence: float
    author: Author
    """Of what it says, not of its retraction."""
    position: str
    """Of the fact that has what it says; sorts as text."""
    posted: str
    """Of the first fact about it."""
    state: State = "live"
    links: tuple[Link, ...] = ()
    taint: tuple[str, ...] = ()
    expires_at: float | None = None
    """End of its time to live, in seconds since the epoch on the server's clock."""
    supersedes: str | None = None
    """Position of the fact it was amended from."""
    erased: Erasure | None = None
    """Who had it erased and when, where the fact with what it says was."""
    fence: int | None = None
    """Names the lease under which somebody holds it, or held it before it was taken for good."""
    leased_until: float | None = None
    """When that lease lapses unless it is renewed, in seconds since the epoch on the server's clock."""
    says: int | None = field(default=None, compare=False)
    """Version that said what it says, where leases came after."""
    changed: str = field(default="", compare=False)
    """Of the last fact about it."""

    @property
    def counts(self) -> bool:
        """Whether what it says holds: it is live, or will be again unless whoever holds it takes it for good."""
        return self.state in ("live", "leased")

    @property
    def said_version(self) -> int:
        """Version that said what it says; leases are counted as versions and say nothing."""
        return self.says or self.version

    @property
    def attributes(self) -> dict[str, JsonValue]:
        """What conditions may ask beside the content."""
        return {
            "@confidence": self.confidence, "@author": self.author.name, "@kind": self.author.kind,
            "@taint": list(self.taint), "@version": self.version,
        }  # fmt: skip

    def record(self) -> dict[str, JsonValue]:
        """The entry as plain JSON, without what says nothing."""
        said: dict[str, JsonValue] = {
            "id": self.id, "topic": self.topic, "version": self.version, "state": self.state, "content": self.content,
            "confidence": self.confidence, "author": self.author.model_dump(mode="json", exclude_none=True),
            "links": [link.model_dump(mode="json") for link in self.links], "taint": list(self.taint),
            "position": self.position, "posted": self.posted, "expires_at": self.expires_at, "supersedes": self.supersedes,
            "erased": None if self.erased is None else self.erased.model_dump(mode="json", exclude_none=True),
            "fence": self.fence, "leased_until": self.leased_until,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value not in (None, [])}


def told(event: Event, before: Entry | None) -> Entry | None:
    """The entry after a fact about it; None for a retraction of what is not known.

    Args:
        before: the entry as it was; None when the fact is the first of it that is known.
    """
    data = event.data
    if isinstance(event, events.EntryPosted | events.EntryAmended):
        return Entry(
            id=event.subject, topic=data.topic, version=data.version, content=data.content, confidence=data.confidence,
            author=data.author, position=event.sequence,
            posted=before.posted if before else getattr(data, "posted", "") or event.sequence,
            links=data.links, taint=data.taint, expires_at=_seconds(data.expires_ms),
            supersedes=getattr(data, "supersedes", None), changed=event.sequence, erased=data.erased,
        )  # fmt: skip
    if before is None:
        return None
    if isinstance(event, events.EntryLeased | events.EntryReturned):
        until = _seconds(getattr(data, "until_ms", None))
        return replace(
            before, version=data.version, changed=event.sequence, fence=getattr(data, "fence", None), leased_until=until,
            says=before.said_version,
        )  # fmt: skip
    if (state := ENDS.get(event.kind)) is None:
        return before
    assert isinstance(data, events.EntryFactData)
    return replace(
        before, state=state, version=data.version, changed=event.sequence,
        content=None if state == "erased" else before.content, fence=getattr(data, "fence", None), leased_until=None,
    )  # fmt: skip


@dataclass(slots=True)
class Fold:
    """The entries of a scope after some of its facts, in the order they were posted."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    topics: dict[str, int] = field(default_factory=dict[str, int])
    """Version of each topic."""
    now: float = 0.0
    """When the last of the facts was written, in seconds since the epoch on the server's clock."""

    def apply(self, log: Iterable[Event]) -> Fold:
        """Go on by some events; those that are not about entries are passed over."""
        for event in log:
            entry = told(event, self.entries.get(event.subject))
            if isinstance(event.data, events.EntryFactData) and entry is not None:
                self.entries[event.subject] = entry
                self.topics[entry.topic] = event.data.topic_version
                self.now = event.data.at_ms / 1000
        return self

    def then(self, entry_id: str) -> Entry | None:
        """An entry as it was then."""
        entry = self.entries.get(entry_id)
        return None if entry is None else aged(entry, self.now)


def aged(entry: Entry, now: float) -> Entry:
    """The entry at a time, which may be after the end of a lease, or of its time to live."""
    if entry.leased_until is not None:
        if entry.leased_until > now:
            return replace(entry, state="leased")
        entry = unheld(entry)
    over = entry.state == "live" and entry.expires_at is not None and entry.expires_at <= now
    return replace(entry, state="expired") if over else entry


def unheld(entry: Entry) -> Entry:
    """The entry without a lease that lapsed."""
    return replace(entry, fence=None, leased_until=None) if entry.leased_until is not None else entry


def stored(header: Mapping[str, Any], event: Event) -> Entry:
    """The entry in an index's header and the fact with its content."""
    entry = told(event, None)
    assert entry is not None, "a header points at a posted or amended fact"
    if header["state"] == "erased":  # also as long as the fact itself still has it
        entry = replace(entry, content=None)
    return replace(
        entry, version=int(header["ver"]), state=header["state"], posted=place(header["first"]), changed=place(header["last"]),
        fence=_whole(header.get("fence")), leased_until=_seconds(header.get("till")), says=_whole(header.get("says")),
    )  # fmt: skip


def header(entry: Entry) -> str:
    """The index's header of an entry, as JSON, for a log that was taken from another board."""
    said: dict[str, Any] = {
        "topic": entry.topic, "ver": entry.version, "first": stream_id(entry.posted), "pos": stream_id(entry.position),
        "last": stream_id(entry.changed), "state": entry.state,
    }  # fmt: skip
    if entry.expires_at is not None:
        said["exp"] = round(entry.expires_at * 1000)
    if entry.taint:
        said["taint"] = list(entry.taint)
    if entry.links:
        said["links"] = [link.model_dump() for link in entry.links]
    if entry.leased_until is not None:
        said["till"] = round(entry.leased_until * 1000)
    said |= {name: value for name, value in (("fence", entry.fence), ("says", entry.says)) if value is not None}
    return json.dumps(said)


def member(entry: Entry) -> str:
    """Where an entry stands in the index of topics."""
    return f"{entry.topic}\0{entry.posted}\0{entry.id}"


def link_members(entry: Entry) -> list[str]:
    """Where an entry stands in the index of what links to others."""
    return [f"{link.to}\0{link.rel}\0{entry.id}" for link in entry.links]


def place(stream: str) -> str:
    """A stream's id so that it sorts as text, as events have it in ``sequence``."""
    ms, _, number = stream.partition("-")
    return f"{int(ms):013d}-{int(number):06d}"


def checked_position(position: str) -> str:
    """The position of a fact, if it looks like one.

    Raises:
        BadInput: it does not.
    """
    if not re.fullmatch(r"\d{1,15}-\d{1,15}", position):
        raise BadInput("position", position, "Pass the position of a fact, or the sequence of an event.")
    return position


def stream_id(position: str) -> str:
    """A position as the stream has it."""
    ms, _, number = position.partition("-")
    return f"{int(ms)}-{int(number)}"


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
