"""Hashes of what facts about entries say, and whether a log still says what was written.

A fact carries the SHA-256 of a random salt and its content as canonical JSON. Erasing a content takes the salt with it, so the
hash that stays behind shows to whoever kept both what was said, and lets nobody else guess it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from blackboard import events
from blackboard.entry import FACTS, place

if TYPE_CHECKING:
    from blackboard.entry_reading import EntryReading

_PAGE = 500
_FAULTS = 100


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in a log."""

    facts: int
    sealed: int
    """Facts whose content is what was written."""
    erased: int
    """Facts whose content was erased, each saying by whom and when."""
    unsealed: int
    """Contents that an earlier version wrote without a hash."""
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
    time, no fact about an entry or a topic is missing, and what supersedes another names it.

    Whoever can write to the server can write hashes that fit: this finds damage and forgotten facts, not a forger.
    """
    board = reading.board
    versions: dict[str, int] = {}
    topics: dict[str, int] = {}
    says: dict[str, str] = {}
    faults: list[str] = []
    count = {"facts": 0, "sealed": 0, "erased": 0, "unsealed": 0}
    start, position = "-", "0-0"
    while True:
        page: list[tuple[str, dict[str, str]]] = await board.repeated(
            lambda at=start: cast(Any, board.client).xrange(reading.log_key, min=at, count=_PAGE)
        )
        for at, fields in page:
            position = at
            if not fields["type"].startswith(FACTS):
                continue
            event = events.parse(at, fields, reading.owner, board.source)
            data, subject = event.data, event.subject
            assert isinstance(data, events.EntryFactData)
            count["facts"] += 1
            where = f"fact {event.sequence} about {subject}"
            if data.version != versions.get(subject, 0) + 1:
                faults.append(f"{where}: version {data.version} follows {versions.get(subject, 0)}")
            if data.topic_version != topics.get(data.topic, 0) + 1:
                faults.append(
                    f"{where}: version {data.topic_version} of {data.topic} follows {topics.get(data.topic, 0)}"
                )
            versions[subject], topics[data.topic] = data.version, data.topic_version
            if isinstance(data, events.EntryAmendedData) and data.supersedes != says.get(subject):
                faults.append(f"{where}: it supersedes {data.supersedes}, not {says.get(subject)}")
            if data.erased is not None:
                count["erased"] += 1
            if isinstance(data, events.EntryPostedData):
                says[subject] = event.sequence
                faults += _content(where, data, count)
        if len(page) < _PAGE:
            return Verified(**count, position=place(position), faults=tuple(faults[:_FAULTS]))
        start = "(" + page[-1][0]


def _content(where: str, data: events.EntryPostedData, count: dict[str, int]) -> list[str]:
    if data.erased is not None:
        return [f"{where}: it was erased and says something"] if data.content is not None or data.salt else []
    if not data.sha256:
        count["unsealed"] += 1
        return []
    if digest(data.salt, data.content) != data.sha256:
        return [f"{where}: its content is not what was written"]
    count["sealed"] += 1
    return []
