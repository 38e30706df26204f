"""Which capabilities a board offers, and which of them fit a need.

The list of active versions is kept in memory and brought up to date with one small question to the server whenever it
is used, so a step costs no reload and still sees what was registered a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from pydantic import ValidationError

from blackboard.catalog import Catalog
from blackboard.catalog_records import StoredVersion
from blackboard.errors import ArbiterError, BadInput
from blackboard.lessons import Lessons
from blackboard.peers import Heard, Peers
from blackboard.trigger_index import TriggerIndex
from blackboard.types import Status
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
from registry.matching.refit import Refit
from registry.matching.refit import read as read_refit
from registry.offered import Offered
from registry.peers.lane import label, peer_of
from registry.records import Outcomes, Records
from registry.signing import Signer
from registry.versions import Version
from registry.vouching import Vouching

_log = logging.getLogger(__name__)

DEFAULT_FLOOR = 0.02
"""Below it there is hardly more in common than a frequent word. Low on purpose: what is left out cannot be chosen, and
for needs in everyday language right capabilities score as little as 0.03."""

FOLLOW_SECONDS = 1.0
"""How often :meth:`Finding.keep_encoded` looks for what changed."""
_TURN = 20
"""After how many capabilities of the first list others have their turn, a few milliseconds."""
HEARD_SECONDS = 1.0
"""How long what processes say of peers is taken for what they say now."""


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


class Finding(Vouching):
    """The active versions of a board.

    Args:
        catalog: the board's storage.
        outcomes: reads the counters of ended tasks; without it :meth:`outcomes` is empty.
        matcher: ranks capabilities for :meth:`shortlist`.
        signer: see :class:`~registry.vouching.Vouching`.
        clock: seconds that only grow; how versions did is read again after ten of them.
        triggers: where the board keeps what its capabilities wait for; without it they wait for nothing.
        spent: reads what successful tasks took; without it only success counts.
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
    ) -> None:
        super().__init__(catalog, signer)
        self._triggers = triggers
        self._declared: dict[str, set[str]] | None = None
        self._declared_at: str | None = None
        self._track, self._clock = Records(outcomes, spent, clock), clock
        self._offered = Offered(matcher)
        self._lessons = Lessons(catalog)
        self._learnt: str | None = None
        self._refit: Refit | None = None
        self._revision: str | None = None
        self._active: dict[str, Version] = {}
        self._unreadable: dict[str, str] = {}
        self._peers = Peers(catalog)
        self._of_peers: dict[str, str] = {}
        self._heard = Heard(0.0, ())
        self._heard_until = -math.inf
        self._refreshing = asyncio.Lock()
        self.meaning = passages.meaning(matcher)
        """Ranks what is written on the board, by the encoder of the matcher where it has one."""

    async def list(self, tenant: str | None = None) -> list[Version]:
        """The active versions a tenant may use (None: all), by name. What cannot be read is in :attr:`unreadable`."""
        await self._refresh()
        return [version for _, version in sorted(self._active.items()) if version.visible_to(tenant)]

    async def offered(self, tenant: str | None = None) -> list[Version]:
        """:meth:`list` without what cannot be had now; see :meth:`unavailable`."""
        await self._refresh()
        await self._listen()
        missing = self._missing()
        return [
            version
            for name, version in sorted(self._active.items())
            if version.visible_to(tenant) and name not in missing
        ]

    async def unavailable(self) -> Mapping[str, str]:
        """Active capabilities of peers that no process reaches now, each with the reason. They are not in a shortlist."""
        await self._refresh()
        await self._listen()
        return self._missing()

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Active capabilities :meth:`list` had to leave out, each with the reason: damaged, or from a newer program."""
        return dict(self._unreadable)

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
        self, need: str, *, tenant: str | None = None, contract: Contract | None = None, prices: Prices | None = None
    ) -> MatchDecision:
        """What to do about a need: use a capability, compose several, have one made, or ask the model.

        Args:
            need: in words.
            tenant: only what this tenant may use.
            contract: what the sub-task brings, needs and allows; what does not fit is left out, with the reason.
            prices: what mistakes cost.
        """
        return (await self.find(need, tenant=tenant, contract=contract, prices=prices)).decision

    async def find(
        self,
        need: str,
        *,
        k: int = 12,
        floor: float = DEFAULT_FLOOR,
        tenant: str | None = None,
        contract: Contract | None = None,
        prices: Prices | None = None,
    ) -> Found:
        """:meth:`decide` and :meth:`shortlist` by one search.

        Args:
            need: in words.
            k: candidates at most.
            floor: leave out what scores less.
            tenant: only what this tenant may use.
            contract: what the sub-task brings, needs and allows; what does not fit is left out of both, with the reason.
            prices: what mistakes cost.

        Raises:
            BadInput: ``k`` below 1.
        """
        await self._current(k)
        await self._offered.prepare(need, *parts_of(need))

        def left_out(name: str) -> str:
            return "; ".join(contract.objections(self._active[name].manifest)) if contract is not None else ""

        allowed = self._visible(tenant)
        looked = look(
            self._offered.seen_by(tenant), need, k=2 * k,
            allowed=None if allowed is None else allowed.__contains__,
            left_out=None if contract is None else left_out,
        )  # fmt: skip
        decision = conclude(looked, prices=prices, refit=self._refit, ranked=self._by_record)
        best = self._by_record(looked.findings.candidates)[:k]
        matches = [Match(each.name, *self._scored(each, each.name)) for each in best if each.score >= floor]
        return Found(decision, matches)

    async def declare_triggers(self) -> None:
        """Bring what the board's capabilities wait for up to date with their active versions.

        Whoever makes a version the active one does, once the catalog has it, and so does every decision of a run with an
        agenda, should that process have died in between.
        """
        if self._triggers is None:
            return
        await self._refresh()
        revision, active = self._revision, dict(self._active)
        if revision is None or revision == self._declared_at:
            return
        there = await self._triggers.capabilities() if self._declared is None else self._declared
        wanted = {name: one.manifest.declared(one.sha) for name, one in active.items() if one.manifest.triggers}
        for name in sorted(there.keys() | wanted.keys()):
            if there.get(name, set()) != {one.key for one in wanted.get(name, ())}:
                await self._triggers.write(name, revision, wanted.get(name, ()))
        self._declared = {name: {one.key for one in every} for name, every in wanted.items()}
        self._declared_at = revision

    async def record(self, name: str, sha: str) -> Record:
        """How a version did, as it was known some seconds ago."""
        await self._track.read()
        return self._track.of(name, sha)

    async def refit(self) -> Refit | None:
        """What the board's own calibration was fitted on; None where the shipped one counts."""
        await self._refresh()
        return self._refit

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
        found = duplicates.similar(self._offered.seen_by(None), self._offered.document, Document.of(manifest), least)
        return [each for each in found if self._active[each.name].visible_to(tenant)]

    async def keep_encoded(self) -> None:
        """Make the vectors that a matcher by meaning lacks, and go on with what changes, until this is cancelled.

        Returns at once for a matcher that needs none. While it runs no search waits for vectors of capabilities.

        Raises:
            ModelUnavailable: the encoder gave none; call again later.
        """
        if not self._offered.encodes:
            return
        self._offered.followed = True
        try:
            while True:
                await self._refresh()
                if not await self._offered.encode_some():
                    await asyncio.sleep(FOLLOW_SECONDS)
        finally:
            self._offered.followed = False

    async def clusters(self, *, least: float = duplicates.DEFAULT_LEAST) -> Sequence[tuple[tuple[str, ...], float]]:
        """Groups of active capabilities that are nearly the same, with the least likeness that holds each together."""
        await self._refresh()
        documents = {name: self._offered.document(name) for name in self._active}
        return duplicates.clusters(self._offered.seen_by(None), documents, least)

    async def lessons(self, name: str) -> Mapping[str, Sequence[str]]:
        """The needs a capability served, newest first, by the tenant whose they were; none but that tenant may see them."""
        await self._refresh()
        return self._offered.lessons(name)

    async def _current(self, k: int) -> None:
        """Know what there is, what can be had and how it did, for a search for ``k``."""
        if k < 1:
            raise BadInput("k", k, "Ask for at least one.")
        await self._refresh()
        await self._listen()
        await self._track.read()

    def _warn(self, manifest: Manifest) -> None:
        """Say what speaks against a manifest that was just registered, as far as the list in memory tells."""
        for each in duplicates.similar(self._offered.seen_by(None), self._offered.document, Document.of(manifest)):
            _log.warning("%s is %s", manifest.name, each)
        for said in duplicates.contradictions(manifest):
            _log.warning("%s: %s", manifest.name, said)

    def _visible(self, tenant: str | None) -> Set[str] | None:
        """The names a tenant may use and that can be had now; None when that is all of them."""
        missing = self._missing()
        if tenant is None and not missing:
            return None
        names = {name for name, version in self._active.items() if version.visible_to(tenant)} - missing.keys()
        return None if len(names) == len(self._active) else names

    def _search(self, query: str, k: int, allowed: Set[str] | None, tenant: str | None) -> Sequence[Candidate]:
        passing = None if allowed is None else allowed.__contains__
        found = self._offered.seen_by(tenant).search(query, k=2 * k, allowed=passing)
        return self._by_record(found.candidates)[:k]

    def _by_record(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Candidates by score and record; each says what its record is."""
        return self._track.weigh(candidates, lambda name: self._active[name].sha)

    async def outcomes(self, name: str) -> dict[str, dict[Status, int]]:
        """How the tasks of each version of a capability ended: content hash to status to number."""
        return {sha: ended for (known, sha), ended in (await self._track.counted()).items() if known == name}

    def _scored(self, found: Candidate | None, name: str) -> tuple[float, Version, tuple[str, ...]]:
        return (found.score if found else 0.0, self._active[name], found.reasons if found else ())

    async def _listen(self) -> None:
        """Read what is said of peers, when there are capabilities of peers and it was last read some time ago."""
        if self._of_peers and self._clock() >= self._heard_until:
            self._heard_until = self._clock() + HEARD_SECONDS
            self._heard = await self._peers.heard()

    def _missing(self) -> dict[str, str]:
        """The active capabilities of peers that cannot be had, each with the reason."""
        troubles = {peer: self._heard.trouble(peer) for peer in set(self._of_peers.values())}
        return {name: f"{peer}: {why}" for name, peer in self._of_peers.items() if (why := troubles[peer])}

    async def _refresh(self) -> None:
        async with self._refreshing:
            pointers = await self._catalog.pointers(self._revision)
            named = [(name, sha) for name, sha in pointers.active.items() if sha is not None]
            stored = await self._catalog.get_many(named) if named else []
            if self._revision is None:  # nobody reads before the first list is there
                for number, ((name, _), each) in enumerate(zip(named, stored, strict=True), 1):
                    self._take(name, each)
                    if not number % _TURN:
                        await asyncio.sleep(0)
                named, stored = [], []
            told = await self._lessons.follow() if pointers.learnt != self._learnt else None
            # From here on nothing waits, so no reader sees half of a refresh.
            gone = [name for name, sha in pointers.active.items() if sha is None]
            if pointers.full:
                gone += [name for name in (*self._active, *self._unreadable) if name not in pointers.active]
            for name in gone:
                self._forget(name)
            for (name, _), each in zip(named, stored, strict=True):
                self._take(name, each)
            for (name, tenant), needs in told.changed.items() if told is not None else ():
                self._offered.teach(name, tenant, [need.text for need in needs])
            if told is not None:
                self._calibrate(told.calibration)
            self._revision, self._learnt = pointers.revision, pointers.learnt

    def _calibrate(self, text: str | None) -> None:
        """Use the board's own calibration from now on, where there is one this program can use."""
        try:
            self._refit = read_refit(text)
        except ValueError as error:
            self._refit = None
            _log.warning("decisions go by the shipped calibration: %s", error)

    def _take(self, name: str, stored: StoredVersion | None) -> None:
        """Offer an active version, unless it cannot be read: one damaged record must not stop every run."""
        try:
            if stored is None:
                raise ArbiterError("its record is missing")
            version = self._version(stored).model_copy(update={"state": "active"})
        except (ArbiterError, ValidationError, ValueError) as error:
            self._forget(name)
            self._unreadable[name] = str(error)
            _log.warning("capability %s is not offered: %s", name, error)
            return
        self._unreadable.pop(name, None)
        known = self._active.get(name)
        self._active[name] = version
        self._of_peers.pop(name, None)
        if (peer := peer_of(version.manifest)) is not None:
            self._of_peers[name] = label(*peer)
        if known is None or known.sha != version.sha:
            self._offered.add(version.manifest)

    def _forget(self, name: str) -> None:
        self._unreadable.pop(name, None)
        self._of_peers.pop(name, None)
        if self._active.pop(name, None) is not None:
            self._offered.remove(name)
