"""What the records of a capability's versions ask for: nothing, to go back to an earlier version, or to offer none.

Only generated code is judged: what lives in a program, or belongs to a peer, is offered by whoever runs that. Bounds are those
of :mod:`registry.matching.evidence`. Of a version that did badly the hopeful one counts, of one that did well the cautious one:

* **go back**: the active version's mean and two deviations lie below the mean less one deviation of an earlier version, which
  was the active one until another took its place;
* **retire**: there is no such version, and the active one's mean and two deviations lie below one half. What asks hosts is
  not retired: it fails while they do.

Counted are the latest tasks of a version, as many as :data:`blackboard.lately.WINDOW`, that succeeded or failed by its own
doing. Nothing follows from fewer than :data:`FEWEST` of the active version; without a single success it takes ten to retire it.
It goes back to earlier versions only, never forward, so it cannot go round in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from blackboard.lately import Ended
from blackboard.types import Status
from registry.matching.evidence import TRIES, Record, bounds
from registry.versions import Version

FEWEST = 5
"""Tasks of the active version below which nothing follows. Of an earlier one,
:data:`~registry.matching.evidence.TRIES` are enough to go back to it."""
HALF = 0.5


class Judgement(NamedTuple):
    """What is to be done about an active version."""

    version: Version
    back_to: Version | None
    """The earlier version to offer again; None to offer none."""
    reason: str
    numbers: dict[str, JsonValue]
    """What it was taken from."""

    def __str__(self) -> str:
        done = f"went back to {self.back_to.sha[:12]}" if self.back_to is not None else "retired"
        return f"{self.version.name} {self.version.sha[:12]} {done}: {self.reason}"


def measured(version: Version, ended: Ended) -> Record:
    """The recent record of a version, without the failures that somebody has forgiven it."""
    failed = min(ended.lately_failed, max(0, ended.failed - version.forgiven))
    return Record({Status.SUCCEEDED: ended.lately_succeeded, Status.FAILED: failed})


def judge(versions: Sequence[Version], ended: Mapping[str, Ended]) -> Judgement | None:
    """What is to be done about a capability; None for nothing.

    Args:
        versions: of one capability, oldest first; without those that cannot be loaded.
        ended: how their tasks ended, by content hash.
    """
    at = next((number for number, each in enumerate(versions) if each.state == "active"), None)
    if at is None or versions[at].artifact_sha is None:
        return None
    active = versions[at]
    record = measured(active, ended.get(active.sha, Ended()))
    if record.tried < FEWEST:
        return None
    _, hopeful = _bounds(record)
    best, least, proven = None, hopeful, Record()
    for each in versions[:at]:
        known = measured(each, ended.get(each.sha, Ended()))
        cautious, _ = _bounds(known)
        if _may_return(each) and known.tried >= TRIES and cautious > least:
            best, least, proven = each, cautious, known
    if best is None and (hopeful >= HALF or active.manifest.grants.http_hosts):
        return None
    said = f"{record.failed} of the last {record.tried} tasks failed, so at best {hopeful:.0%} succeed"
    numbers: dict[str, JsonValue] = {"version": _numbers(active, record, "at_best", hopeful)}
    if best is not None:
        said += f"; of {best.sha[:12]} {proven.failed} of the last {proven.tried} did, so at least {least:.0%} succeed"
        numbers["earlier"] = _numbers(best, proven, "at_least", least)
    return Judgement(active, best, said, numbers)


def _may_return(version: Version) -> bool:
    passed = version.exam is None or version.exam.passed
    return version.replaced and version.artifact_sha is not None and passed and not version.revoked


def _bounds(record: Record) -> tuple[float, float]:
    return bounds(record.succeeded, record.failed)


def _numbers(version: Version, record: Record, bound: str, value: float) -> dict[str, JsonValue]:
    return {"sha": version.sha, "succeeded": record.succeeded, "failed": record.failed, bound: round(value, 4)}
