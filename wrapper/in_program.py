"""The board for functions of the embedding program: the entry calls of :mod:`wrapper.sdk`, answered in this process.

Such a function is trusted with all that its process can reach. It is held to the topics of its manifest all the same, so that a
manifest says what its capability reads and writes wherever it runs, and what it has read taints what it writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from typing import cast

from pydantic import JsonValue

from blackboard.entries import Entries, Holder
from blackboard.taint import Taint, merged
from registry import Manifest
from wrapper.entry_broker import METHODS, EntryBroker
from wrapper.isolation import BrokerError, NotGranted, framing
from wrapper.isolation.channel import CallError, hosted


class FunctionBroker:
    """Answers the calls of one attempt at a function of this program. To be made in its event loop.

    Args:
        manifest: whose ``grants.topics`` are enforced.
        entries: those of the attempt's run.
        task: the attempt's claim.
        taint: what its writes carry from the first on.
    """

    def __init__(self, manifest: Manifest, entries: Entries, task: Holder, taint: Iterable[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = manifest.name
        self._entries = EntryBroker(manifest, entries, task, taint)
        self.excess = ""
        """What it asked for beyond its grants; nothing more is answered then."""

    def enter(self) -> None:
        """Let the functions of :mod:`wrapper.sdk` come here, in the current asyncio task and the threads it starts."""
        hosted(self._call)

    @property
    def sources(self) -> Taint:
        """Of what it has read."""
        return merged(self._entries.found)

    def _call(self, method: str, args: object) -> Future[object]:
        return asyncio.run_coroutine_threadsafe(self._answer(method, args), self._loop)

    async def _answer(self, method: str, args: object) -> object:
        if self.excess:
            raise CallError("denied", "It asked for more than was granted.")
        if method not in METHODS:
            raise CallError(
                "denied", f"{method}: a function of the program reaches that by itself; here are only entries."
            )
        try:
            given = framing.decode(framing.encode({"args": args}, framing.DEPTH + 1))
            return await self._entries(method, cast(JsonValue, given["args"]))
        except framing.NotJson as error:
            raise CallError("not_json", str(error)) from None
        except NotGranted as error:
            self.excess = error.message
            raise CallError("denied", error.message) from None
        except BrokerError as error:
            raise CallError(error.type, error.message) from None
