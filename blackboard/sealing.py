"""Hashes of what facts about entries say, and whether a log still says what was written.

A fact carries the SHA-256 of a random salt and its content as canonical JSON. Erasing a content takes the salt with it, so the
hash that stays behind shows to whoever kept both what was said, and lets nobody else guess it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from blackboard import entry_log, events
from blackboard.entry import FACTS, place
from blackboard.entry_log import Mark
from blackboard.errors import Stale
from blackboard.events import Event, ScopeCompactedData

if TYPE_CHECKING:
    from blackboard.entry_reading import EntryReading

_LOOKED_AT = (FACTS, events.ScopeCompacted.kind, events.TaskCompleted.kind)
_STATED = "failures."
_FAULTS = 100
_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in a log."""

    facts: int
    sealed: int
    """Facts whose content is what was written: by its hash or, of a failure the board states, by the end of its task."""
    erased: int
    """Facts whose content was erased, each saying by whom and when."""
    unsealed: int
    """Contents that an earlier version wrote without a hash."""
    compacted: int
    """Facts that were taken out because they counted no more."""
    readable_from: str | None
    """First position that can be read as it was; None where nothing was compacted."""
    position: str
    """Of the last fact that was looked at."""
    faults: Sequence[str]
    """What does not hold, the first 100."""


def sealed(facts: str, body: str) -> str:
    """What a script gets beside a content, as JSON, with the content's seal.

    Args:
        body: the content as it stands in the fact: JSON, or the JSON of a reference to it.
    """
    salt = secrets.token_hex(16)
    return json.dumps({**json.loads(facts), "salt": salt, "sha256": digest(salt, json.loads(body))})


def digest(salt: str, content: object) -> str:
    """The hash of a content."""
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256((salt + text).encode()).hexdigest()


async def verify(reading: EntryReading) -> Verified:
    """Whether the log of a scope still says what was written: each content fits its hash or was erased by somebody at some
    time, no fact about an entry or a topic is missing that was not compacted, and what supersedes another names it.

    Whoever can write to the server can write hashes that fit: this finds damage and forgotten facts, not a forger.

    Raises:
        Stale: the scope is being compacted all the time.
    """
    for attempt in range(_ATTEMPTS):
        if (found := await _gone_through(reading)) is not None:
            return found
        await asyncio.sleep(min(0.2, 0.01 * attempt))
    raise Stale("STALE", f"{reading.owner} is being compacted all the time; ask again")


async def _gone_through(reading: EntryReading) -> Verified | None:
    """What one reading of the log says, a page at a time; None when it was compacted meanwhile."""
    told: _Told | None = None
    last, summaries = "0-0", 0
    async with contextlib.aclosing(entry_log.pages(reading.board, reading.owner)) as pages:
        async for one in pages:
            if told is None:
                told = _Told(one.mark, await _summary(reading, one.mark))
            if one.mark != told.mark:
                return None
            for last, fields in one.events:
                if not fields["type"].startswith(_LOOKED_AT):
                    continue
                event = events.parse(last, fields, reading.owner, reading.board.source)
                if isinstance(event.data, events.EntryFactData):
                    told.fact(event, event.data)
                if isinstance(event, events.TaskCompleted):
                    told.ended(event)
                summaries += isinstance(event.data, ScopeCompactedData)
    assert told is not None, "there is always a page"
    if bool(told.mark.upto) != (summaries == 1):
        told.faults.insert(0, f"there are {summaries} summaries of what was compacted")
    told.end()
    return Verified(
        **told.count, compacted=told.summary.facts if told.summary else 0, readable_from=told.mark.readable_from,
        position=place(last), faults=tuple(told.faults[:_FAULTS]),
    )  # fmt: skip


async def _summary(reading: EntryReading, mark: Mark) -> ScopeCompactedData | None:
    """The fact in place of all that went; None where there is none, or where another took its place meanwhile."""
    if not mark.at:
        return None
    found = await entry_log.page(reading.board, reading.owner, mark.at, mark.at, 1)
    for position, fields in found.events:
        data = events.parse(position, fields, reading.owner, reading.board.source).data
        return data if isinstance(data, ScopeCompactedData) else None
    return None


def line(position: str, kind: str, identity: str, sha256: str) -> int:
    """What a fact adds to the hash of many: its SHA-256, which does not depend on whether its content was erased."""
    return int.from_bytes(hashlib.sha256(f"{position} {kind} {identity} {sha256}".encode()).digest())


def added(sha256: str, lines: Iterable[int]) -> str:
    """The sum of hashes modulo 2^256: the same in whatever order and steps."""
    return f"{(int(sha256 or '0', 16) + sum(lines)) % (1 << 256):064x}"


def line_of(event: Event) -> int:
    """:func:`line` of a fact about an entry."""
    return line(event.sequence, event.kind, event.id, getattr(event.data, "sha256", ""))


class _Told:
    """What the facts of a log say, one after the other."""

    def __init__(self, mark: Mark, summary: ScopeCompactedData | None) -> None:
        self.mark, self.summary = mark, summary
        self.count = {"facts": 0, "sealed": 0, "erased": 0, "unsealed": 0}
        self.faults: list[str] = []
        self._from = mark.readable_from or ""
        self._versions: dict[str, int] = {}
        self._topics: dict[str, int] = {}
        self._says: dict[str, str] = {}
        self._kept, self._hash = 0, ""
        self._missing: dict[str, int] = {}
        self._failures: dict[str, JsonValue] = {}

    def ended(self, event: events.TaskCompleted) -> None:
        """The next end of a task. Of a failure it says what the entry says that the same script writes."""
        status, error = event.data.status.value, event.data.error
        if error is not None:
            self._failures[event.subject] = {"status": status, "error": {"type": error.type, "message": error.message}}

    def fact(self, event: Event, data: events.EntryFactData) -> None:
        """The next one."""
        subject, where = event.subject, f"fact {event.sequence} about {event.subject}"
        self.count["facts"] += 1
        if self.summary is not None and event.sequence <= self.summary.kept_upto:
            self._kept, self._hash = self._kept + 1, added(self._hash, [line_of(event)])
        # Of an entry the oldest facts were compacted, up to one that says what it said by then.
        begins = subject not in self._versions and bool(self._from) and event.sequence <= self._from
        begins = begins and isinstance(data, events.EntryAmendedData)
        if not begins and data.version != self._versions.get(subject, 0) + 1:
            self.faults.append(f"{where}: version {data.version} follows {self._versions.get(subject, 0)}")
        before = self._topics.get(data.topic, 0)
        if self.summary is not None and data.topic_version > before:
            pattern = under(data.topic, self.summary.topics)
            self._missing[pattern] = self._missing.get(pattern, 0) + data.topic_version - before - 1
        elif data.topic_version != before + 1:
            self.faults.append(f"{where}: version {data.topic_version} of {data.topic} follows {before}")
        self._versions[subject], self._topics[data.topic] = data.version, data.topic_version
        if isinstance(data, events.EntryAmendedData) and not begins and data.supersedes != self._says.get(subject):
            self.faults.append(f"{where}: it supersedes {data.supersedes}, not {self._says.get(subject)}")
        if data.erased is not None:
            self.count["erased"] += 1
        if isinstance(data, events.EntryPostedData):
            self._says[subject] = event.sequence
            self.faults += self._content(where, data)

    def _content(self, where: str, data: events.EntryPostedData) -> list[str]:
        if data.erased is not None:
            return [f"{where}: it was erased and says something"] if data.content is not None or data.salt else []
        stated = self._failures.get(data.author.task or "") if not data.sha256 else None
        if not data.sha256 and (stated is None or not data.topic.startswith(_STATED)):
            self.count["unsealed"] += 1
            return []
        if data.content != stated if stated is not None else digest(data.salt, data.content) != data.sha256:
            return [f"{where}: its content is not what was written"]
        self.count["sealed"] += 1
        return []

    def end(self) -> None:
        """After the last one: whether what is missing is what was compacted, and the rest is still there."""
        if self.summary is None:
            return
        for pattern, count in self._missing.items():
            gone = sum(self.summary.topics.get(pattern, {}).values())
            if count > gone:
                self.faults.append(
                    f"topic {pattern or 'of another kind'}: {count} facts are missing, {gone} were compacted"
                )
        if self.summary.kept is None:
            return
        found = self._kept, added(self._hash, ())
        if found != (self.summary.kept, self.summary.kept_sha256):
            self.faults.append(
                f"up to {self.summary.kept_upto} there are {found[0]} facts, not the {self.summary.kept} that were left "
                "when it was compacted"
            )


def under(topic: str, patterns: Mapping[str, object]) -> str:
    """Under which of the patterns of a summary a topic is counted; empty where under none."""
    words = topic.split(".")
    beginnings = (".".join([*words[:size], ">"]) for size in range(len(words) - 1, -1, -1))
    return next((one for one in (topic, *beginnings) if one in patterns), "")
