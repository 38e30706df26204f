"""Which of the capabilities a board offers fit a need."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

from blackboard.catalog import Catalog
from blackboard.errors import BadInput
from blackboard.lately import Ended
from blackboard.trigger_index import TriggerIndex
from blackboard.types import Status
from registry.listing import Listing
from registry.manifest import Manifest
from registry.matching import (
    Candidate,
    Contract,
    Document,
    MatchDecision,
    Matcher,
    Prices,
    duplicates,
    passages,
)
from registry.matching.decision import conclude, look, parts_of
from registry.matching.evidence import Record
from registry.matching.goals import beside
from registry.records import Lately, Outcomes, Records
from registry.signing import Signer
from registry.versions import Version

_log = logging.getLogger(__name__)
_TURN = 20
"""How many capabilities are compared before others get their turn."""

DEFAULT_FLOOR = 0.02
"""Below it there is hardly more in common than a frequent word. Low on purpose: what is left out cannot be chosen, and
for needs in everyday language right capabilities score as little as 0.03."""


class Match(NamedTuple):
    """A capability that may serve a need."""

    name: str
    score: float
    """0 for nothing in common with the need, towards 1 the more it covers."""
    version: Version
    reasons: tuple[str, ...] = ()
    """What spoke for it, the weightiest first."""


class Found(NamedTuple):
    """What a search for a need came to."""

    decision: MatchDecision
    matches: Sequence[Match]
    """The candidates, best first."""


class Finding(Listing):
    """The active versions of a board, found by what they are needed for.

    Args:
        catalog: the board's storage.
        outcomes: reads the counters of ended tasks; without it :meth:`outcomes` is empty.
        matcher: ranks capabilities for :meth:`shortlist`.
        signer: see :class:`~registry.vouching.Vouching`.
        clock: seconds that only grow; how versions did is read again after ten of them.
        triggers: see :class:`~registry.listing.Listing`.
        spent: reads what successful tasks took; without it only success counts.
        ended: reads how the tasks of versions ended lately; without it nothing follows from that.
    """

    def __init__(
        self,
        catalog: Catalog,
        outcomes: Outcomes | None,
        matcher: Matcher,
        signer: Signer | Callable[[], Signer],
        clock: Callable[[], float],
        triggers: TriggerIndex | None = None,
        spent: Outcomes | None = None,
        ended: Lately | None = None,
    ) -> None:
        super().__init__(catalog, matcher, signer, clock, triggers)
        self._lately = ended
        self._track = Records(outcomes, spent, clock)
        self.meaning = passages.meaning(matcher)
        """Ranks what is written on the board, by the encoder of the matcher where it has one."""

    async def shortlist(
        self,
        query: str,
        *,
        k: int = 12,
        floor: float = DEFAULT_FLOOR,
        tenant: str | None = None,
        always: Iterable[str] = (),
    ) -> Sequence[Match]:
        """The capabilities that may serve a need, best first.

        Args:
            query: the need in words.
            k: at most so many.
            floor: leave out what scores less. With 0 the list is filled up to ``k`` with what has nothing in common.
            tenant: only what this tenant may use.
            always: names that come first whatever they score, when they are active; they count towards ``k``, and all
                of them are kept even if they are more.

        Raises:
            BadInput: ``k`` below 1.
        """
        await self._current(k)
        await self._offered.prepare(query)
        allowed = self._visible(tenant)
        pinned = [name for name in dict.fromkeys(always) if name in (self._active if allowed is None else allowed)]
        most = max(k, len(pinned))
        found = {each.name: each for each in self._search(query, most, allowed, tenant) if each.score >= floor}
        missing = {name for name in pinned if name not in found}
        if missing:
            found |= {each.name: each for each in self._search(query, len(missing), missing, tenant)}
        first = [Match(name, *self._scored(found.get(name), name)) for name in pinned]
        rest = [Match(name, *self._scored(each, name)) for name, each in found.items() if name not in set(pinned)]
        if floor <= 0:
            shown = {each.name for each in (*first, *rest)}
            rest += [
                Match(name, *self._scored(None, name))
                for name in sorted((self._active.keys() if allowed is None else allowed) - shown)[:most]
            ]
        return [*first, *rest][:most]

    async def decide(
        self,
        need: str,
        *,
        tenant: str | None = None,
        contract: Contract | None = None,
        prices: Prices | None = None,
        goal: str = "",
    ) -> MatchDecision:
        """What to do about a need: use a capability, compose several, have one made, or ask the model.

        What fits and cannot be had now, since no process reaches its peer, is left out with that reason.

        Args:
            need: in words.
            tenant: only what this tenant may use.
            contract: what the sub-task brings, needs and allows; what does not fit is left out, with the reason.
            prices: what mistakes cost.
            goal: what the need is a sub-task of, in words; see :mod:`registry.matching.goals`.

        Raises:
            BadInput: a need without a word.
        """
        if not need.strip():
            raise BadInput("need", need, "Say in words what is to be done.")
        return (await self.find(need, tenant=tenant, contract=contract, prices=prices, goal=goal)).decision

    async def find(
        self,
        need: str,
        *,
        k: int = 12,
        floor: float = DEFAULT_FLOOR,
        tenant: str | None = None,
        contract: Contract | None = None,
        prices: Prices | None = None,
        goal: str = "",
    ) -> Found:
        """:meth:`decide` and :meth:`shortlist` by one search.

        Args:
            need: in words.
            k: candidates at most.
            floor: leave out what scores less.
            tenant: only what this tenant may use.
            contract: what the sub-task brings, needs and allows; what does not fit is left out of both, with the reason.
            prices: what mistakes cost.
            goal: what the need is a sub-task of, in words; see :mod:`registry.matching.goals`.

        Raises:
            BadInput: ``k`` below 1.
        """
        await self._current(k)
        await self._offered.prepare(need, *parts_of(need), *([goal] if goal else []))

        missing = self._missing()

        def left_out(name: str) -> str:
            # Not in the words of whoever could not reach it: the peer may have said them, and a model may read this.
            away = [f"{self._of_peers[name]} cannot be reached now"] if name in missing else []
            return "; ".join(away + (contract.objections(self._active[name].manifest) if contract is not None else []))

        allowed = self._visible(tenant, away=True)
        looked = look(
            beside(self._offered.seen_by(tenant), goal), need, k=2 * k,
            allowed=None if allowed is None else allowed.__contains__,
            left_out=None if contract is None and not missing else left_out,
        )  # fmt: skip
        decision = conclude(looked, prices=prices, refit=self._refit, ranked=self._by_record)
        best = self._by_record(looked.findings.candidates)[:k]
        matches = [Match(each.name, *self._scored(each, each.name)) for each in best if each.score >= floor]
        return Found(decision, matches)

    async def record(self, name: str, sha: str) -> Record:
        """How a version did, as it was known some seconds ago."""
        await self._track.read()
        return self._track.of(name, sha)

    async def similar(
        self, manifest: Manifest, *, least: float = duplicates.DEFAULT_LEAST, tenant: str | None = None
    ) -> Sequence[duplicates.Alike]:
        """The active capabilities a manifest is nearly the same as, most first; its own name is not compared.

        Args:
            least: likeness, from 0 to 1.
            tenant: only among what this tenant may use.
        """
        await self._refresh()
        await self._offered.prepare(f"{manifest.name} {manifest.description}")
        allowed = self._visible(tenant, away=True)
        return duplicates.similar(
            self._offered.seen_by(None), self._offered.document, Document.of(manifest), least,
            allowed=None if allowed is None else allowed.__contains__,
        )  # fmt: skip

    async def clusters(
        self, *, least: float = duplicates.DEFAULT_LEAST, told: Callable[[int, int], None] | None = None
    ) -> Sequence[tuple[tuple[str, ...], float]]:
        """Groups of active capabilities that are nearly the same, with the least likeness that holds each together.

        Each is searched for: among very many this takes as many times 2 ms. Others get their turn meanwhile.

        Args:
            told: called with how many were compared, of how many.
        """
        await self._refresh()
        pairs: list[tuple[str, duplicates.Alike]] = []
        names = [*self._active]
        for number, name in enumerate(names, 1):
            if name in self._active:  # nobody retired it meanwhile
                found = duplicates.similar(
                    self._offered.seen_by(None), self._offered.document, self._offered.document(name), least
                )
                pairs += [(name, each) for each in found]
            if not number % _TURN:
                if told is not None:
                    told(number, len(names))
                await asyncio.sleep(0)
        return duplicates.clusters(pairs)

    async def _current(self, k: int) -> None:
        """Know what there is, what can be had and how it did, for a search for ``k``."""
        if k < 1:
            raise BadInput("k", k, "Ask for at least one.")
        await self._refresh()
        await self._listen()
        await self._track.read()

    async def _warn(self, manifest: Manifest) -> None:
        """Say what speaks against a manifest that was just registered."""
        await self._refresh()
        for each in duplicates.similar(self._offered.seen_by(None), self._offered.document, Document.of(manifest)):
            _log.warning("%s is %s", manifest.name, each)
        for said in duplicates.contradictions(manifest):
            _log.warning("%s: %s", manifest.name, said)

    def _search(self, query: str, k: int, allowed: Set[str] | None, tenant: str | None) -> Sequence[Candidate]:
        passing = None if allowed is None else allowed.__contains__
        found = self._offered.seen_by(tenant).search(query, k=2 * k, allowed=passing)
        return self._by_record(found.candidates)[:k]

    def _by_record(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Candidates by score and record; each says what its record is."""
        return self._track.weigh(candidates, lambda name: self._active[name].sha)

    async def _ended(self, versions: Sequence[Version]) -> Sequence[Ended]:
        """How the tasks of versions ended, read now."""
        if self._lately is None:
            return [Ended()] * len(versions)
        return await self._lately([(each.name, each.sha) for each in versions])

    async def outcomes(self, name: str) -> dict[str, dict[Status, int]]:
        """How the tasks of each version of a capability ended: content hash to status to number."""
        return {sha: ended for (known, sha), ended in (await self._track.counted()).items() if known == name}

    def _scored(self, found: Candidate | None, name: str) -> tuple[float, Version, tuple[str, ...]]:
        return (found.score if found else 0.0, self._active[name], found.reasons if found else ())
