"""Acting on how versions did: the active one of generated code is replaced by an earlier one, or offered no more."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from blackboard.errors import ArbiterError, EngineUnavailable, ScriptRefused
from registry.content import canonical
from registry.finding import Finding
from registry.reflection import Judgement, judge
from registry.signing import somebody

_log = logging.getLogger(__name__)


class Reflecting(Finding):
    """The versions of a board, judged by what was measured of them."""

    async def reflect(self, versions: Collection[tuple[str, str]] | None = None) -> Sequence[Judgement]:
        """Act on what the records of active versions of generated code ask for; see :mod:`registry.reflection`. On record.

        Each is done once, whoever else does it at the same time, and not when another version is the active one by then.

        Args:
            versions: those to look at, by name and content hash. Default: all that are active.

        Returns:
            What was done.

        Raises:
            EngineUnavailable: the server stayed unreachable; calling again is safe.
        """
        await self._refresh()
        active = self._active.values() if versions is None else [self._active.get(name) for name, _ in versions]
        looked = [
            version
            for version in active
            if version is not None and version.artifact_sha is not None
            if versions is None or (version.name, version.sha) in versions
        ]
        done: list[Judgement] = []
        for version, ended in zip(looked, await self._ended(looked), strict=True):
            if not ended.lately_failed:
                continue
            try:
                judgement = await self._judgement(version.name)
                if judgement is not None and await self._carried_out(judgement):
                    done.append(judgement)
            except EngineUnavailable:
                raise
            except ArbiterError as error:  # one of them must not keep the others from being looked at
                _log.error("%s was not judged by its record: %s", version.name, error)
        if done:
            await self.declare_triggers()
        return done

    async def _judgement(self, name: str) -> Judgement | None:
        shas = await self._catalog.shas(name)
        versions = [each for each in await self.resolve_many([(name, sha) for sha in shas]) if each is not None]
        ended = {each.sha: known for each, known in zip(versions, await self._ended(versions), strict=True)}
        while True:
            judgement = judge(versions, ended)
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
