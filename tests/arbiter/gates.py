"""Capabilities that end when a test, or another capability, lets them."""

from __future__ import annotations

import asyncio

from arbiter import capability


class Gates:
    """A capability that ends when it is let, and one that lets it."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []

        @capability
        async def hold(name: str) -> str:
            """Wait until somebody opens the gate."""
            self.begun.append(name)
            await self.gate(name).wait()
            return name

        @capability
        def let(name: str) -> str:
            """Open a gate."""
            self.gate(name).set()
            return name

        self.capabilities = (hold, let)

    def gate(self, name: str) -> asyncio.Event:
        return self.open.setdefault(name, asyncio.Event())
