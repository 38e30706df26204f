"""A tool of a peer as a capability of this process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import JsonValue

from blackboard.taint import source
from blackboard.types import Usage
from registry import Capability
from registry.peers import Offer
from registry.peers.lane import peer_of
from registry.signature import plain
from wrapper.reporting import Reporter, reporter

Send = Callable[[str, Mapping[str, JsonValue], Reporter | None], Awaitable[JsonValue]]
"""Calls a tool by the peer's name for it."""


class PeerCapability(Capability[..., Any]):
    """What the executor calls like a function of the program; the work is done elsewhere.

    Args:
        offer: the tool and its manifest.
        send: calls it.
    """

    def __init__(self, offer: Offer, send: Send) -> None:
        self.manifest, self.agent = offer.manifest, None
        self.tool = offer.tool
        peer = peer_of(offer.manifest)
        self.sources = () if peer is None else (source(*peer),)
        self.function = self._send = send

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not to be called like a function: a call of it is a task of the board."""
        raise TypeError(f"{self.manifest.name} is called on the board: Call({self.manifest.name!r}, {{...}}).")

    def arguments(self, value: Mapping[str, JsonValue]) -> dict[str, Any]:
        return dict(value)

    def result(self, value: object) -> JsonValue:
        return plain(value)

    async def invoke(self, value: Mapping[str, JsonValue]) -> tuple[JsonValue, Usage]:
        started, report = time.monotonic(), reporter()
        returned = await self._send(self.tool, value, report)
        if report is not None:
            await report.settled()
        return self.result(returned), Usage(seconds=round(time.monotonic() - started, 6))

    @property
    def in_thread(self) -> bool:
        return False
