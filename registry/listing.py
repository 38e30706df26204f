"""Which capabilities a board offers: the list of active versions, kept in memory.

It is brought up to date with one small question to the server whenever it is used, so a step costs no reload and still sees
what was registered a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence, Set

from pydantic import ValidationError

from blackboard.catalog import Catalog
from blackboard.catalog_records import StoredVersion
from blackboard.errors import ArbiterError
from blackboard.lessons import Lessons
from blackboard.peers import Heard, Peers
from blackboard.trigger_index import TriggerIndex
from registry.matching import Matcher
from registry.matching.refit import Refit
from registry.matching.refit import read as read_refit
from registry.offered import Offered
from registry.peers.lane import label, peer_of
from registry.signing import Signer
from registry.versions import Version
from registry.vouching import Vouching

_log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
"""How often :meth:`Listing.keep_encoded` looks for what changed."""
_TURN = 20
"""After how many capabilities of the first list others have their turn, a few milliseconds."""
_AT_ONCE = 200
"""How many records of the first list are held at once: all of them would take a quarter more than the list does."""
HEARD_SECONDS = 1.0
"""How long what processes say of peers is taken for what they say now."""


class Listing(Vouching):
    """The active versions of a board.

    Args:
        catalog: the board's storage.
        matcher: knows nothing yet; what is offered is added to it.
        signer: see :class:`~registry.vouching.Vouching`.
        clock: seconds that only grow.
        triggers: where the board keeps what its capabilities wait for; without it they wait for nothing.
    """

    def __init__(
        self,
        catalog: Catalog,
        matcher: Matcher,
        signer: Signer | Callable[[], Signer],
        clock: Callable[[], float],
        triggers: TriggerIndex | None = None,
    ) -> None:
        super().__init__(catalog, signer)
        self._clock = clock
        self._triggers = triggers
        self._declared: dict[str, set[str]] | None = None
        self._declared_at: str | None = None
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

    async def refit(self) -> Refit | None:
        """What the board's own calibration was fitted on; None where the shipped one counts."""
        await self._refresh()
        return self._refit

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

    async def lessons(self, name: str) -> Mapping[str, Sequence[str]]:
        """The needs a capability served, newest first, by the tenant whose they were; none but that tenant may see them."""
        await self._refresh()
        return self._offered.lessons(name)

    def _visible(self, tenant: str | None, *, away: bool = False) -> Set[str] | None:
        """The names a tenant may use, without those that cannot be had now unless ``away``; None when that is all of them."""
        missing = {} if away else self._missing()
        if tenant is None and not missing:
            return None
        names = {name for name, version in self._active.items() if version.visible_to(tenant)} - missing.keys()
        return None if len(names) == len(self._active) else names

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
            if self._revision is None:  # nobody reads before the first list is there
                for start in range(0, len(named), _AT_ONCE):
                    some = named[start : start + _AT_ONCE]
                    read = await self._catalog.get_many(some)
                    for number, ((name, _), each) in enumerate(zip(some, read, strict=True), 1):
                        self._take(name, each)
                        if not number % _TURN:
                            await asyncio.sleep(0)
                named = []
            stored = await self._catalog.get_many(named) if named else []
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
            for name, written in told.illustrated.items() if told is not None else ():
                self._offered.illustrate(name, written)
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
