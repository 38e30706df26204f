"""Acting on how versions did: the active one of generated code is replaced by an earlier one, or offered no more."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from blackboard.errors import ArbiterError, EngineUnavailable, ScriptRefused
from blackboard.types import Status
from registry.content import canonical
from registry.finding import Finding
from registry.matching.evidence import Record
from registry.reflection import Judgement, judge
from registry.signing import somebody

_log = logging.getLogger(__name__)


class Reflecting(Finding):
    """The versions of a board, judged by what was measured of them."""

    async def reflect(self, heard: Mapping[tuple[str, str], int] | None = None) -> Sequence[Judgement]:
        """Act on what the records of active versions of generated code ask for; see :mod:`registry.reflection`. On record.

        Each is done once, whoever else does it at the same time, and not when another version is the active one by then.

        Args:
            heard: of versions, by name and content hash, how many of their failures are known to be their own, see
                :data:`registry.reflection.OWN`; no others count against them. Default: all that are active, by all failures.

        Returns:
            What was done.

        Raises:
            EngineUnavailable: the server stayed unreachable; calling again is safe.
        """
        await self._refresh()
        active = self._active.values() if heard is None else [self._active.get(name) for name, _ in heard]
        looked = [
            version
            for version in active
            if version is not None and version.artifact_sha is not None
            if heard is None or (version.name, version.sha) in heard
        ]
        if not looked:
            return []
        outcomes: dict[str, dict[str, Mapping[Status, int]]] = {}
        for (name, sha), ended in (await self._track.counted()).items():
            outcomes.setdefault(name, {})[sha] = ended
        done: list[Judgement] = []
        for version in looked:
            known = outcomes.get(version.name, {})
            if not Record(known.get(version.sha, {})).failed:
                continue
            try:
                own = None if heard is None else heard[version.name, version.sha]
                judgement = await self._judgement(version.name, known, own)
                if judgement is not None and await self._carried_out(judgement):
                    done.append(judgement)
            except EngineUnavailable:
                raise
            except ArbiterError as error:  # one of them must not keep the others from being looked at
                _log.error("%s was not judged by its record: %s", version.name, error)
        if done:
            await self.declare_triggers()
        return done

    async def _judgement(
        self, name: str, outcomes: Mapping[str, Mapping[Status, int]], heard: int | None
    ) -> Judgement | None:
        shas = await self._catalog.shas(name)
        versions = [each for each in await self.resolve_many([(name, sha) for sha in shas]) if each is not None]
        while True:
            judgement = judge(versions, outcomes, heard)
            if judgement is None or judgement.back_to is None or await self.vouched(judgement.back_to):
                return judgement
            versions.remove(judgement.back_to)

    async def _carried_out(self, judgement: Judgement) -> bool:
        """Whether it is done now. Not, when somebody has decided otherwise since the versions were read."""
        version, back_to, by = judgement.version, judgement.back_to, f"reflection of {somebody()}"
        # One operation for each time that a version became the active one: whoever is late does not do it a second time, to a
        # version that somebody made the active one again.
        operation = f"reflection:{version.name}:{version.sha}:{version.updated_at:.3f}"
        try:
            await self._catalog.set_state(
                version.name, (back_to or version).sha, "retired" if back_to is None else "active",
                expected_active=version.sha, reason=judgement.reason, operation=operation,
                decided=("retired" if back_to is None else "activated", by), detail=canonical(judgement.numbers),
            )  # fmt: skip
        except ScriptRefused as refusal:
            _log.info("%s is left as it is: %s", version.name, refusal)
            return False
        return True
