"""What the tests of entries share. Test modules that use the fixture say ``notes = acme_notes``."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from strict import Play

from blackboard.entries import Entries
from blackboard.entry_search import Found
from registry import schema

NOBODY = "public:/e/" + "0" * 24


@pytest.fixture
def acme_notes(play: Play) -> Entries:
    return Entries(play.board, "tenant:acme", checker=schema)


def ids(found: Found) -> list[str]:
    return [entry.id for entry in found.entries]


async def told(entries: Entries, count: int, **given: Any) -> list[tuple[str, str]]:
    """The next facts of a watch: type and position."""
    found: list[tuple[str, str]] = []
    async with contextlib.aclosing(entries.watch(**given)) as events:
        async for event in events:
            found.append((event.type[len("dev.arbiter.entry.") : -len(".v1")], event.sequence))
            if len(found) == count:
                break
    return found
