"""What may be said of an entry beside its content: links, labels, confidence, time to live. Refused at the edge."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from blackboard import taint
from blackboard.entry import owner_of_entry
from blackboard.entry_search import RELATIONS
from blackboard.errors import BadInput
from blackboard.events import Author, Link, Relation

LINKS = 32
"""Most links of an entry."""
LABELS = 64
"""Most labels of taint that a call may give."""
SECONDS = 365 * 86_400.0
"""Longest time to live."""
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
"""Names of authors and operations, and labels of taint."""


def links(given: Iterable[Link | tuple[Relation, str]]) -> tuple[Link, ...]:
    found: list[Link] = []
    for one in given:
        rel, to = (one.rel, one.to) if isinstance(one, Link) else one
        if rel not in RELATIONS:
            raise BadInput("links", rel, f"Use one of {', '.join(RELATIONS)}.")
        owner_of_entry(to)
        link = Link(rel=rel, to=to)
        if link not in found:
            found.append(link)
    if len(found) > LINKS:
        raise BadInput("links", f"{len(found)} links", f"Give at most {LINKS}.")
    return tuple(found)


def labels(given: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(given))
    if len(found) > LABELS or not all(NAME.match(label) for label in found):
        raise BadInput("taint", found[:3], f"Give at most {LABELS} labels of 1 to 200 printable characters.")
    return found


def sources(given: Iterable[str], author: Author, inherited: Iterable[str] | None) -> list[str]:
    """Where a content comes from: as the writer says, else whoever writes; what a task writes, also from all it works with."""
    found = labels(given)
    if inherited is not None:
        return list(dict.fromkeys([*found, *inherited]))
    if found:
        return found
    return [taint.PERSON] if author.kind == "person" else [taint.source(author.kind, author.name)]


def confidence(value: float) -> None:
    if not number(value) or not 0 <= value <= 1:
        raise BadInput("confidence", value, "Give 0 to 1.")


def number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON knows whole numbers of any length
        return False


def ms(seconds: float) -> str:
    if not number(seconds) or not 0.001 <= seconds <= SECONDS:
        raise BadInput("seconds", seconds, f"Give a time to live of 0.001 to {SECONDS:g} seconds.")
    return str(round(seconds * 1000))
