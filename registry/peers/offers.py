"""What a peer offers: the manifests made of it, and what of it could not be taken, with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from registry.manifest import Manifest

MOST_TOOLS = 1000
"""So many tools of one peer are taken; the rest is refused."""
MOST_WORDS = 4000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Offer(NamedTuple):
    """A tool of a peer as a capability."""

    tool: str
    """What the peer calls it."""
    manifest: Manifest
    source: str | None = None
    """Its code, where that is brought here to run; None for what the peer does itself."""
    vouch: bool = False
    """Whether this process vouches for that code; else a person has to."""


class Refused(NamedTuple):
    """A tool that is not offered here."""

    tool: str
    why: str


class Listing(NamedTuple):
    """All that a peer offers at a time."""

    offers: tuple[Offer, ...]
    refused: tuple[Refused, ...] = ()


def told_apart(
    said: Sequence[Any], key: str, only: Sequence[str] | None
) -> tuple[dict[str, Mapping[str, Any]], list[Refused]]:
    """What a peer lists, by its own names for it, and what cannot be told apart or is too much.

    Args:
        said: as the peer lists it.
        key: where the name stands in each.
        only: take nothing else, by name; None takes all.
    """
    known: dict[str, Mapping[str, Any]] = {}
    refused: list[Refused] = []
    for each in said:
        name: Any = cast("Mapping[str, Any]", each).get(key) if isinstance(each, Mapping) else None
        if not isinstance(name, str) or not name or name in known:
            refused.append(Refused(str(name)[:200], f"it has no {key}, or that of another one"))
        elif only is None or name in only:
            known[name] = cast("Mapping[str, Any]", each)
    for name in list(known)[MOST_TOOLS:]:
        refused.append(Refused(name[:200], f"more than {MOST_TOOLS} are offered"))
        del known[name]
    return known, refused


def words(*texts: object) -> str:
    """The first of several texts that says something: without control characters, at most 4000 characters."""
    for text in texts:
        said = _CONTROL.sub(" ", text).strip() if isinstance(text, str) else ""
        if said:
            return said if len(said) <= MOST_WORDS else said[: MOST_WORDS - 1] + "…"
    return ""


def schema(given: Any) -> Any:
    """A JSON Schema as a manifest takes it: every draft is read as 2020-12, of which peers use what all of them have."""
    if not isinstance(given, Mapping):
        return given
    return {key: value for key, value in cast("Mapping[str, Any]", given).items() if key != "$schema"}
