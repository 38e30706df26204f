"""Whether the peers of a board answer: what each process that serves one says of it, for as long as that holds.

A peer is a system elsewhere whose tools are capabilities here. Nobody can ask a process that died, so what counts is what is
said: a peer is there as long as one process has said so lately. What nobody says any more is over by the server's clock.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple, cast

from blackboard.catalog import Catalog
from blackboard.types import Record

NOBODY = "no process that reaches it has been heard of lately"


class Said(Record):
    """What one process says of one peer."""

    peer: str
    """Kind and name, such as ``mcp:files``."""
    process: str
    state: Literal["up", "down"]
    reason: str = ""
    """Why it is down."""
    tools: int = 0
    """How many capabilities it offered when it last answered."""
    since: float
    """Seconds since the epoch, on the server's clock; so is the next."""
    until: float
    """How long this holds."""


class Heard(NamedTuple):
    """What is said of all peers, and the server's time when it was read, in seconds since the epoch."""

    now: float
    said: tuple[Said, ...]

    def trouble(self, peer: str) -> str | None:
        """Why a peer cannot be had now; None when a process reaches it."""
        holding = [each for each in self.said if each.peer == peer and each.until > self.now]
        if any(each.state == "up" for each in holding):
            return None
        return holding[0].reason if holding else NOBODY

    def peers(self) -> list[str]:
        """The peers something is known of, sorted."""
        return sorted({each.peer for each in self.said})


class Peers:
    """The peers of one board.

    Args:
        catalog: of the board.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def say(
        self, peer: str, process: str, state: Literal["up", "down"], *, seconds: float, reason: str = "", tools: int = 0
    ) -> bool:
        """Say whether a peer answers this process.

        Args:
            seconds: how long that holds unless it is said again.

        Returns:
            Whether another process reaches the peer.

        Raises:
            EngineUnavailable: the server stayed unreachable; saying it again is safe.
        """
        ms = str(max(1, round(seconds * 1000)))
        (elsewhere,) = await self._catalog.call(
            "catalog_peer_said", [peer, process, state, ms, reason[:1000], str(tools)]
        )
        return elsewhere == "1"

    async def leave(self, peer: str, process: str) -> None:
        """Say that this process does not serve a peer any more."""
        await self._catalog.call("catalog_peer_said", [peer, process, "gone", "1", "", "0"])

    async def heard(self) -> Heard:
        """What is said of all peers, by peer and process; what does not hold any more too, for about a day."""
        reply = await self._catalog.call("catalog_peers", [])
        rows = zip(reply[1::2], reply[2::2], strict=True)
        return Heard(int(reply[0]) / 1000, tuple(_said(*row) for row in sorted(rows)))


def _said(field: str, text: str) -> Said:
    peer, _, process = field.partition("|")
    entry = cast("dict[str, str]", json.loads(text))
    return Said.model_validate(
        {
            "peer": peer, "process": process, "state": entry["state"], "reason": entry["reason"],
            "tools": int(entry["tools"]), "since": int(entry["since"]) / 1000, "until": int(entry["until"]) / 1000,
        }
    )  # fmt: skip
