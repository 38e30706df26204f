"""Example needs of what a board offers: what wants them, which are good, and how they are kept."""

from __future__ import annotations

from collections.abc import Sequence

from blackboard.example_needs import ExampleNeeds, Illustrations
from registry import example_needs
from registry.example_needs import Judged
from registry.finding import Finding
from registry.manifest import EVERY_TENANT, Manifest
from registry.matching import Document, LexicalMatcher, decide
from registry.versions import Version

_LOOKED_AT = 10
_PLAINLY = 0.5
"""Probability that another capability fits a need, from which the need is no example of this one."""


class Illustrating(Finding):
    """The active versions of a board, with example needs."""

    async def example_needs(self, name: str) -> ExampleNeeds | None:
        """Those that a model wrote for the active version of a capability; None where there are none of what it says now."""
        await self._refresh()
        return self._offered.written(name)

    async def bare(self) -> Sequence[Version]:
        """The active versions that want example needs, by name: they have few of their own, and nobody was asked for any."""
        await self._refresh()
        return [self._active[name] for name in sorted(self._offered.bare)]

    async def begin_illustrating(self, version: Version, who: str) -> bool:
        """Be the one who writes the example needs of a version; False while another process does, or where the active version
        says something else by now.

        Args:
            who: identity of the writer, another one each time.
        """
        return await self._says_so(version) and await Illustrations(self._catalog).begin(
            version.name, example_needs.contract_hash(version.manifest), who
        )

    async def stop_illustrating(self, name: str, who: str) -> None:
        """Write none after all."""
        await Illustrations(self._catalog).give_up(name, who)

    async def judge_needs(self, manifest: Manifest, needs: Sequence[object]) -> Judged:
        """Say which of some needs that a model wrote are good examples; see :mod:`registry.example_needs`.

        What another capability plainly does, by what both say of themselves, is none: neither what this one has learnt nor
        what was written for others has a say in that.
        """
        await self._refresh()
        own = manifest.tenant
        there = {name for name, one in self._active.items() if one.manifest.tenant in (EVERY_TENANT, own)}
        judged = example_needs.judge(needs, manifest.name, manifest.description, there)
        kept: list[str] = []
        objections = [*judged.objections]
        for need in judged.needs:
            if (other := self._plainly(need, manifest, there - {manifest.name})) is None:
                kept.append(need)
            else:
                objections.append(f"{need!r}: it is what {other} does.")
        return Judged(tuple(kept), tuple(objections))

    def _plainly(self, need: str, manifest: Manifest, others: set[str]) -> str | None:
        """The other capability that more likely than not fits a need, better than this one."""
        near = self._offered.seen_by(None).search(need, k=_LOOKED_AT, allowed=others.__contains__).candidates
        matcher = LexicalMatcher()
        matcher.add(manifest.name, Document.of(manifest))
        for each in near:
            matcher.add(each.name, Document.of(self._active[each.name].manifest))
        decision = decide(matcher, need)
        best = decision.candidates[0].name if decision.candidates else manifest.name
        return best if best != manifest.name and decision.best_fits >= _PLAINLY else None

    async def illustrate(self, version: Version, who: str, needs: Sequence[str], model: str) -> bool:
        """Keep needs that a model wrote for a version; every process matches by them from now on.

        Args:
            who: as :meth:`begin_illustrating` was told.
            needs: that were judged good; none says that there is no use in asking again.
            model: who wrote them, for people.

        Returns:
            False where they are of no use any more: another version with other words became active, or another writer.
        """
        if not await self._says_so(version):
            await self.stop_illustrating(version.name, who)
            return False
        contract = example_needs.contract_hash(version.manifest)
        return await Illustrations(self._catalog).keep(version.name, who, ExampleNeeds(tuple(needs), contract, model))

    async def _says_so(self, version: Version) -> bool:
        """Whether what is offered says of itself what a version says."""
        await self._refresh()
        active = self._active.get(version.name)
        return active is not None and example_needs.contract(active.manifest) == example_needs.contract(
            version.manifest
        )

    async def forget_example_needs(self, *names: str) -> int:
        """Forget the example needs of some capabilities; returns how many had any."""
        return await Illustrations(self._catalog).forget(names)
