"""What a process does about how the tasks it works on end: it has their versions judged by their records."""

from __future__ import annotations

import asyncio
import logging

from blackboard.claims import Claim
from blackboard.errors import EngineUnavailable
from blackboard.lately import OWN
from blackboard.types import Completion, Status
from registry import Registry

log = logging.getLogger(__name__)

REST_SECONDS = 5.0
"""The pause after a look; what ends meanwhile is looked at together, by the next one."""


class Reflection:
    """Looks at versions whose tasks fail here by their own doing, and at canaries. Nothing is read for what else succeeds."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._looked_at: set[tuple[str, str]] = set()
        self._heard = asyncio.Event()

    def ended(self, claim: Claim, completion: Completion) -> None:
        """Hear of an attempt that was reported here."""
        if claim.version is None:
            return
        if completion.status is Status.SUCCEEDED:
            heard = self._registry.on_trial(claim.capability, claim.version)
        else:
            heard = completion.error is not None and completion.error.type in OWN
        if heard:
            self._looked_at.add((claim.capability, claim.version))
            self._heard.set()

    async def run(self) -> None:
        """Look and act, until cancelled.

        Raises:
            EngineUnavailable: the server stayed unreachable; begin again later.
        """
        while True:
            await self._heard.wait()
            self._heard.clear()
            ended, self._looked_at = self._looked_at, set()
            try:
                done = await self._registry.reflect(ended)
            except EngineUnavailable:
                self._looked_at |= ended
                self._heard.set()
                raise
            for judgement in done:
                log.warning("%s", judgement)
            await asyncio.sleep(REST_SECONDS)
