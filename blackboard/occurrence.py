"""What one occurrence of a schedule submits, and by how much it is delayed. Both are the same whoever asks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from blackboard.recurrence import shown


def jitter(name: str, occurrence: int, window: int) -> int:
    """The part of a flexible window by which an occurrence is delayed, in milliseconds: evenly spread, always the same."""
    if window <= 0:
        return 0
    return int.from_bytes(hashlib.sha256(f"{name}\0{occurrence}".encode()).digest()[:8], "big") % window


def rendered(request: JsonValue, name: str, occurrence: int, zone: ZoneInfo) -> JsonValue:
    """The request of an occurrence.

    In every text of it ``{{occurrence}}`` becomes the time of the occurrence in UTC, ``{{local}}`` the same in the
    schedule's time zone, and ``{{schedule}}`` its name. A CloudEvents event gets ``id``, ``source`` and ``time`` where
    it has none.
    """
    at = shown(occurrence)
    words = {"{{occurrence}}": at, "{{local}}": shown(occurrence, zone), "{{schedule}}": name}
    filled = _filled(request, words)
    if isinstance(filled, dict) and "specversion" in filled:
        return {"id": f"{name}/{at}", "source": f"/schedules/{name}", "time": at, **filled}
    return filled


def _filled(value: JsonValue, words: Mapping[str, str]) -> JsonValue:
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(word, text)
        return value
    if isinstance(value, list):
        return [_filled(one, words) for one in value]
    if isinstance(value, dict):
        return {key: _filled(one, words) for key, one in value.items()}
    return cast(JsonValue, value)
