"""What a process does about the failures of the tasks it works on: it has their versions judged by their records."""

from __future__ import annotations

import asyncio
import logging

from blackboard.claims import Claim
from blackboard.errors import EngineUnavailable
from blackboard.lately import OWN
from blackboard.types import Completion
from registry import Registry

log = logging.getLogger(__name__)

REST_SECONDS = 5.0
"""The pause after a look; what fails meanwhile is looked at together, by the next one."""


class Reflection:
    """Looks at versions whose tasks fail here by their own doing. Nothing is read for a task that succeeds."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._failed: set[tuple[str, str]] = set()
        self._heard = asyncio.Event()

    def unsuccessful(self, claim: Claim, completion: Completion) -> None:
        """Hear of an attempt of a task that did not succeed."""
        if claim.version is not None and completion.error is not None and completion.error.type in OWN:
            self._failed.add((claim.capability, claim.version))
            self._heard.set()

    async def run(self) -> None:
        """Look and act, until cancelled.

        Raises:
            EngineUnavailable: the server stayed unreachable; begin again later.
        """
        while True:
            await self._heard.wait()
            self._heard.clear()
            failed, self._failed = self._failed, set()
            try:
                done = await self._registry.reflect(failed)
            except EngineUnavailable:
                self._failed |= failed
                self._heard.set()
                raise
            for judgement in done:
                log.warning("%s", judgement)
            await asyncio.sleep(REST_SECONDS)
