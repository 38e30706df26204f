"""How the versions of a board did: read from its counters now and then, and what that makes of a ranking."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from blackboard.lately import Ended
from blackboard.types import Status
from registry.matching import Candidate, evidence
from registry.matching.covering import covering
from registry.matching.evidence import Record

Outcomes = Callable[[], Awaitable[Mapping[str, int]]]
"""Reads a board's counters: of ended tasks, ``<name>|<sha>|<status>`` to number, or of what successes took, see
:meth:`blackboard.board.Board.spent`."""

Lately = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Ended]]]
"""Reads how the tasks of versions ended, see :meth:`blackboard.board.Board.ended`."""

RECORDS_SECONDS = 10.0
_UNKNOWN = evidence.factor(Record())
_RIVALS = 0.5
"""What scores less than this share of the best does not compete with it."""


class Records:
    """The records of a board's versions.

    Args:
        outcomes: reads the counters of ended tasks; without it nothing is known.
        spent: reads what successful tasks took; without it only success counts.
        clock: seconds that only grow; what was read counts for ten of them.
    """

    def __init__(self, outcomes: Outcomes | None, spent: Outcomes | None, clock: Callable[[], float]) -> None:
        self._outcomes, self._spent, self._clock = outcomes, spent, clock
        self._known: Mapping[tuple[str, str], Record] = {}
        self._until = -math.inf

    async def read(self) -> None:
        """Read the counters again when they were last read some time ago."""
        if self._outcomes is not None and self._clock() >= self._until:
            self._until = self._clock() + RECORDS_SECONDS
            self._known = await self._measured()

    def of(self, name: str, sha: str) -> Record:
        """What is known of a version."""
        return self._known.get((name, sha), Record())

    async def counted(self) -> dict[tuple[str, str], dict[Status, int]]:
        """How the tasks of each version ended: name and content hash to status to number; read now."""
        counted: dict[tuple[str, str], dict[Status, int]] = {}
        for key, number in (await self._outcomes()).items() if self._outcomes is not None else ():
            parts = key.split("|")
            if len(parts) == 3:
                counted.setdefault((parts[0], parts[1]), {})[Status(parts[2])] = int(number)
        return counted

    async def _measured(self) -> dict[tuple[str, str], Record]:
        took: dict[tuple[str, str], dict[str, int]] = {}
        for key, number in (await self._spent()).items() if self._spent is not None else ():
            name, sha, kind = key.split("|")
            took.setdefault((name, sha), {})[kind] = number
        counted = await self.counted()
        return {
            version: Record(counted.get(version, {}), sums.get("n", 0), sums.get("ms", 0) / 1000, sums.get("tokens", 0))
            for version in counted.keys() | took.keys()
            for sums in (took.get(version, {}),)
        }

    def weigh(self, candidates: Sequence[Candidate], version: Callable[[str], str]) -> Sequence[Candidate]:
        """Candidates by score and record, and by what those before them do not answer; each says what its record is.

        Args:
            version: gives the content hash of a candidate's active version.
        """
        records = [self.of(each.name, version(each.name)) for each in candidates]
        top = max((each.score for each in candidates), default=0.0)
        rivals = [at for at, each in enumerate(candidates) if each.score >= _RIVALS * top]
        factors = [(evidence.factor(record), False) for record in records]
        for at, weighed in zip(rivals, evidence.factors([records[at] for at in rivals]), strict=True):
            factors[at] = weighed
        found: list[Candidate] = []
        for each, record, (factor, new) in zip(candidates, records, factors, strict=True):
            said = evidence.words(record, new)
            reasons = (*each.reasons, said) if said else each.reasons
            found.append(each._replace(score=each.score * factor / _UNKNOWN, reasons=reasons))
        return covering(sorted(found, key=lambda each: (-each.score, each.name)))
