"""The canaries of a board: which runs use them, and how they stand against the active versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blackboard.catalog import ANY
from blackboard.catalog_records import Sharing
from blackboard.errors import BadInput, UnknownRecord
from registry import canary
from registry.finding import Finding
from registry.versions import Version


class Standing(NamedTuple):
    """How a canary stands."""

    version: Version
    share: float
    """Of the runs that begin to use the capability, those that use the canary."""
    active: canary.Counts
    """Tasks of the active version since the canary began that succeeded, and that failed by its own doing."""
    counts: canary.Counts
    """The same of the canary."""
    missing: int | None
    """About how many more tasks it needs to take that one's place, if none fails; None: that cannot be foreseen."""

    def __str__(self) -> str:
        left = "more than can be foreseen" if self.missing is None else f"about {self.missing} more that do"
        return (
            f"canary for {self.share:.3g} of the runs: {canary.told(self.counts)}, of the active version's "
            f"{canary.told(self.active)}; to take its place it needs {left}"
        )


class Canaries(Finding):
    """The versions of a board that may take the place of active ones."""

    async def tried(self, version: Version, run: str) -> Version:
        """The version that a run is to use which uses none of the capability yet: the active one, or its canary.

        Args:
            version: the active one.
            run: the same always gets the same answer, as long as the canary is one. One that nobody whose word counts vouches for
                is not used.
        """
        if version.canary is None:
            return version
        (found,) = await self.resolve_many([(version.name, version.canary)])
        if found is None or found.trial is None or not canary.tries(run, version.name, found.trial.share):
            return version
        return found if await self.vouched(found) else version

    async def trials(self) -> Sequence[Standing]:
        """How every canary stands, by name."""
        await self._refresh()
        return [one for _, each in sorted(self._active.items()) if (one := await self._trial_of(each)) is not None]

    async def _trial_of(self, active: Version) -> Standing | None:
        """How the canary of an active version stands; None where there is none."""
        if active.canary is None:
            return None
        (version,) = await self.resolve_many([(active.name, active.canary)])
        if version is None or version.trial is None:
            return None
        before, counts = canary.since(version.trial, *await self._ended([active, version]))
        share = version.trial.share
        return Standing(version, share, before, counts, canary.missing(before, counts, share))

    async def _sharing(
        self, name: str, sha: str, share: float, expected_active: str | None, proven: bool
    ) -> tuple[Sharing | None, str | None]:
        """What a canary begins with, and which version must be active then.

        The first is None where there is nothing to compare it with, or another version is active than expected. What follows is
        for the script to say, which knows whether this call was carried out before.

        Args:
            expected_active: as whoever asks gave it.
            proven: only beside a version that did well lately, and can run.

        Raises:
            BadInput: not a share.
        """
        if not 0 < share < 1:
            raise BadInput("canary", share, "Give a share of the runs: more than 0, less than 1.")
        try:
            active = await self.resolve(name)
        except UnknownRecord:
            active = None
        if active is None or active.artifact_sha is None or active.sha == sha:
            return None, expected_active
        if expected_active not in (ANY, active.sha):
            return None, expected_active
        old, new = await self._ended([active, active.model_copy(update={"sha": sha})])
        if proven and not (canary.proven(old) and await self.vouched(active)):
            return None, expected_active
        return Sharing(share, (old.succeeded, old.failed, new.succeeded, new.failed)), active.sha
