"""Needs that a model wrote as examples of what a capability is for: kept by its name, with what they were written from.

They are derived: from what the capability says of itself, whose hash is kept with them, by a model, whose name is. They say
nothing about how it did, and are kept apart from the needs it served (:mod:`blackboard.lessons`), whose readers follow both.

One process at a time writes those of a capability, so that nobody pays twice; one that dies lets go after
:data:`HELD_SECONDS`. What they mean, and which are good, is the business of ``registry``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, cast

from blackboard.catalog import Catalog

HELD_SECONDS = 600.0
"""For how long whoever writes example needs is waited for."""


class ExampleNeeds(NamedTuple):
    """Example needs of a capability. Without any, a model was asked and wrote none that could be used."""

    needs: tuple[str, ...]
    contract: str
    """Hash of what the capability said of itself."""
    model: str
    """Who wrote them."""
    at: float = 0.0
    """When they were kept, in seconds since the epoch, on the server's clock."""


class Illustrations:
    """The example needs of one board, as whoever writes them sees them.

    Args:
        catalog: of the board.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def begin(self, name: str, contract: str, who: str) -> bool:
        """Be the one who writes those of a capability; False while another process does, or where there is no such name.

        Args:
            contract: hash of what they are written from; whoever writes from other words gives way.
            who: identity of the writer, another one each time: who has kept some or given up never begins again.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        held = str(int(HELD_SECONDS * 1000))
        return (await self._catalog.call("catalog_illustrating", [name, who, contract, held]))[0] == "1"

    async def give_up(self, name: str, who: str) -> None:
        """Let another one write them; nothing happens where they were kept.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        await self._catalog.call("catalog_illustrating", [name, who, "", "0"])

    async def keep(self, name: str, who: str, written: ExampleNeeds) -> bool:
        """Keep what was written; False where another one took the writer's place, or they were forgotten meanwhile.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        text = json.dumps({"contract": written.contract, "model": written.model, "needs": [*written.needs]})
        return (await self._catalog.call("catalog_illustrate", [name, who, text]))[0] == "1"

    async def forget(self, names: Sequence[str]) -> int:
        """Forget those of some capabilities; returns how many had any.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        return sum([int((await self._catalog.call("catalog_illustrate", [name, "", ""]))[0]) for name in names])


def read(text: str) -> ExampleNeeds | None:
    """Example needs as they are kept; None where there are none, or none that this program can read."""
    at, _, kept = text.partition("\x1f")
    try:
        fields = json.loads(kept)
        needs = tuple(str(each) for each in cast("list[object]", fields["needs"]))
        return ExampleNeeds(needs, str(fields["contract"]), str(fields["model"]), int(at) / 1000)
    except (ValueError, TypeError, KeyError):
        return None
