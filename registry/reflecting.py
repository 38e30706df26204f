"""Acting on how versions did: the active one of generated code gives way to an earlier one or its canary, or is retired."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import JsonValue

from blackboard.catalog_records import Trial
from blackboard.errors import ArbiterError, EngineUnavailable, ScriptRefused
from registry import canary
from registry.canaries import Canaries
from registry.canary import Verdict
from registry.content import canonical
from registry.reflection import Judgement, judge
from registry.signing import somebody
from registry.versions import Version

_log = logging.getLogger(__name__)


class Reflecting(Canaries):
    """The versions of a board, judged by what was measured of them."""

    async def reflect(self, versions: Collection[tuple[str, str]] | None = None) -> Sequence[Judgement | Verdict]:
        """Act on what the records of active versions of generated code ask for, see :mod:`registry.reflection`, and on what
        became clear of their canaries, see :mod:`registry.canary`. On record.

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
            if versions is None
            or not {(version.name, version.sha), (version.name, version.canary)}.isdisjoint(versions)
        ]
        done: list[Judgement | Verdict] = []
        for version, ended in zip(looked, await self._ended(looked), strict=True):
            if version.canary is None and not ended.lately_failed:
                continue
            try:
                if version.canary is not None:  # nothing else is decided about the two meanwhile
                    verdict = await self._verdict(version)
                    if verdict is not None and await self._pronounced(version, verdict):
                        done.append(verdict)
                    continue
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

    async def _verdict(self, active: Version) -> Verdict | None:
        trial = await self._trial_of(active)
        return None if trial is None else canary.decide(trial.version, trial.active, trial.counts)

    async def _pronounced(self, active: Version, verdict: Verdict) -> bool:
        """Whether it is done now. Not, when somebody has decided otherwise since the versions were read."""
        version, became = verdict.version, verdict.became
        assert version.trial is not None
        operation = f"canary:{became}:{version.name}:{version.sha}:{version.trial.identity}"
        decided = "activated" if became == "active" else "retired"
        return await self._moved(
            version, became, active, verdict.reason, operation, decided, verdict.numbers, trial=version.trial
        )

    async def _carried_out(self, judgement: Judgement) -> bool:
        """Whether it is done now. Not, when somebody has decided otherwise since the versions were read."""
        version, back_to = judgement.version, judgement.back_to
        # One operation for each time that a version became the active one: whoever is late does not do it a second time, to a
        # version that somebody made the active one again.
        operation = f"reflection:{version.name}:{version.sha}:{version.updated_at:.3f}"
        if back_to is None:
            return await self._moved(
                version, "retired", version, judgement.reason, operation, "retired", judgement.numbers
            )
        return await self._moved(
            back_to, "active", version, judgement.reason, operation, "activated", judgement.numbers
        )

    async def _moved(
        self, version: Version, to: Literal["active", "retired"], active: Version, reason: str, operation: str,
        decided: Literal["activated", "retired"], numbers: Mapping[str, JsonValue], trial: Trial | None = None,
    ) -> bool:  # fmt: skip
        try:
            await self._catalog.set_state(
                version.name, version.sha, to, expected_active=active.sha, reason=reason, operation=operation,
                decided=(decided, f"reflection of {somebody()}"), behalf="reflection",
                detail=canonical(dict(numbers)), trial=trial,
            )  # fmt: skip
        except ScriptRefused as refusal:
            _log.info("%s is left as it is: %s", version.name, refusal)
            return False
        return True
