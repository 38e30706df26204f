"""What a peer offers: the manifests made of it, and what of it could not be taken, with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
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


class Refused(NamedTuple):
    """A tool that is not offered here."""

    tool: str
    why: str


class Listing(NamedTuple):
    """All that a peer offers at a time."""

    offers: tuple[Offer, ...]
    refused: tuple[Refused, ...] = ()


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
