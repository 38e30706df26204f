"""Having a model write example needs of what a board offers: of which capabilities, how many at a time, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import uuid4

from blackboard.budgets import BudgetExhausted
from blackboard.errors import ArbiterError, EngineUnavailable
from fabricator import illustrator
from registry import Registry, Version
from registry.example_needs import wants
from registry.manifest import EVERY_TENANT
from wrapper.models import describe

if TYPE_CHECKING:
    from strands.models import Model

    from wrapper.spending import Spending

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Model calls at a time in the background."""
REST_SECONDS = 5.0
"""The pause between two looks at what is offered."""
TROUBLE_SECONDS = 300.0
"""The pause after a call that failed: what a provider refuses now it mostly refuses for a while."""
_IN_A_ROW = 3
"""After so many failures in a row nothing more is asked."""

Outcome = Literal["written", "there", "enough", "none", "taken", "failed", "left"]


class Illustrated(NamedTuple):
    """What came of the example needs of one capability."""

    name: str
    outcome: Outcome
    """``written``; ``there``, they were before; ``enough``, it has examples of its own; ``none``, nothing the model wrote
    could be used; ``taken``, another process writes them, or it says something else now; ``failed``, the model could not
    answer; ``left``, not asked after others failed."""
    needs: tuple[str, ...] = ()
    why: str = ""
    tokens: int = 0


class Illustrator:
    """Has the example needs of a board written.

    Args:
        registry: of the board.
        model: writes them; a function that gives it when it is first needed.
        spending: reserves each of its calls.
    """

    def __init__(self, registry: Registry, model: Callable[[], Model], spending: Spending) -> None:
        self._registry, self._model, self._spending = registry, model, spending

    async def meant(self, names: Iterable[str] | None) -> Sequence[Version]:
        """The active versions of some names; of None what wants example needs.

        Raises:
            UnknownRecord: no such capability, or none that is active.
        """
        if names is None:
            return await self._registry.bare()
        return [await self._registry.resolve(name) for name in dict.fromkeys(names)]

    async def illustrate(
        self, versions: Sequence[Version], *, at_once: int, told: Callable[[Illustrated], None] | None = None
    ) -> list[Illustrated]:
        """Have example needs written for versions that lack them; see :meth:`arbiter.Arbiter.illustrate`."""
        if not versions:
            return []
        model = await asyncio.to_thread(self._model)
        done: list[Illustrated] = []
        waiting = iter(versions)
        failed = 0
        gone: EngineUnavailable | None = None

        async def work() -> None:
            nonlocal failed, gone
            for version in waiting:
                one = Illustrated(version.name, "left")
                if failed < _IN_A_ROW and gone is None:
                    try:
                        one = await self._one(version, model)
                        failed = failed + 1 if one.outcome == "failed" else 0
                    except BudgetExhausted as error:
                        one, failed = Illustrated(version.name, "failed", why=str(error)), _IN_A_ROW
                    except EngineUnavailable as error:
                        gone = error
                done.append(one)
                if told is not None:
                    told(one)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(versions))):
                    group.create_task(work())
        finally:
            await self._spending.settled()
        if gone is not None:
            raise gone
        return done

    async def keep_illustrated(self) -> None:
        """Write what is lacking, and go on with what changes, until cancelled.

        Raises:
            EngineUnavailable: the server stayed unreachable; begin again later.
        """
        while True:
            done = await self.illustrate(await self._registry.bare(), at_once=AT_ONCE)
            if written := [each for each in done if each.outcome == "written"]:
                tokens = sum(each.tokens for each in written)
                log.info("%d capabilities have example needs now, for %d tokens", len(written), tokens)
            failed = [each for each in done if each.outcome == "failed"]
            for each in failed:
                log.warning("no example needs of %s: %s", each.name, each.why)
            await asyncio.sleep(TROUBLE_SECONDS if failed else REST_SECONDS)

    async def _one(self, version: Version, model: Model) -> Illustrated:
        """Have those of one version written.

        Raises:
            BudgetExhausted: there was no room for a call.
            EngineUnavailable: the server stayed unreachable.
        """
        name, manifest = version.name, version.manifest
        label = describe(model)
        there = await self._registry.example_needs(name)
        if there is not None and there.model == label:
            return Illustrated(name, "there", there.needs)
        if there is None and not wants(manifest):
            return Illustrated(name, "enough")
        who = uuid4().hex
        if not await self._registry.begin_illustrating(version, who):
            return Illustrated(name, "taken")
        try:
            owner = None if manifest.tenant == EVERY_TENANT else manifest.tenant
            guarded = self._spending.guard_apart(model, name, owner, illustrator.CALL_SECONDS)
            written = await illustrator.write(guarded, manifest, self._registry)
            tokens = written.usage.total_tokens
            kept = await self._registry.illustrate(version, who, written.needs, label)
            why = "; ".join(written.objections)
            if not kept:
                return Illustrated(name, "taken", tokens=tokens)
            return Illustrated(name, "written" if written.needs else "none", written.needs, why, tokens)
        except (BudgetExhausted, EngineUnavailable):
            raise
        except ArbiterError as error:
            return Illustrated(name, "failed", why=str(error))
        finally:
            await self._registry.stop_illustrating(name, who)
