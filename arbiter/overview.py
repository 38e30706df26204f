"""What a board can do, for people: each capability with its versions, how it did, what it took, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from arbiter import display
from blackboard.trust import TrustedKey
from blackboard.types import Record
from registry import Registry, Version
from registry.canaries import Standing
from registry.matching import evidence

Health = Literal["well", "new", "failing", "away", "unsigned", "retired"]

_FAILING, _TRIED = 0.5, 3


class CapabilityRow(Record):
    """A version of a capability."""

    name: str
    sha: str
    state: str
    versions: int
    """How many the capability has, whatever their state."""
    kind: str
    effects: str
    calls: int
    """Tasks that say something about it: not those that were cancelled or refused by policy."""
    success: float | None
    """Share of them that succeeded; None without any."""
    seconds: float | None
    """What a success takes on average; None where none was measured."""
    tokens: float | None
    health: Health
    """``away``: a peer's, and no process reaches it. ``unsigned``: code that nobody vouches for. ``failing``: cautiously, fewer
    than half of its tasks succeed. ``new``: not called yet."""
    why: str = ""
    """Of what is not well, and how a canary stands."""
    description: str


class Capabilities(list[CapabilityRow]):
    """Versions by name; a list that notebooks show as a table."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": display.capabilities_html(self), "text/plain": display.capabilities_text(self)}


async def overview(registry: Registry, tenant: str | None = None, *, every: bool = False) -> Capabilities:
    """What a board can do.

    Args:
        registry: of the board; one that was given its counters.
        tenant: only what this tenant may use.
        every: all versions of every capability, oldest first, and not only the active ones and their canaries.
    """
    trials = {(each.version.name, each.version.sha): each for each in await registry.trials()}
    active = await registry.list(tenant)
    tried = (each.version for each in trials.values() if each.version.visible_to(tenant))
    found: Iterable[Version] = sorted([*active, *tried], key=lambda version: version.name)
    counts = await registry.version_counts()
    away = await registry.unavailable()
    if every:
        found = [
            version
            for name in sorted(counts)
            for version in await registry.versions(name)
            if version.visible_to(tenant)
        ]
    _, keys = await registry.trust.read()
    rows = [
        await _row(registry, version, counts.get(version.name, 1), away, keys, trials.get((version.name, version.sha)))
        for version in found
    ]
    return Capabilities(rows)


async def _row(
    registry: Registry, version: Version, versions: int, away: Mapping[str, str], keys: Mapping[str, TrustedKey],
    trial: Standing | None,
) -> CapabilityRow:  # fmt: skip
    record = await registry.record(version.name, version.sha)
    health, why = _health(version, record, away, keys)
    return CapabilityRow(
        name=version.name,
        sha=version.sha,
        state=version.state,
        versions=versions,
        kind=version.manifest.kind,
        effects=version.manifest.effects,
        calls=record.tried,
        success=record.succeeded / record.tried if record.tried else None,
        seconds=record.mean_seconds,
        tokens=record.mean_tokens,
        health=health,
        why="; ".join([*([str(trial)] if trial is not None else []), *([why] if why else [])]),
        description=version.manifest.description,
    )


def _health(
    version: Version, record: evidence.Record, away: Mapping[str, str], keys: Mapping[str, TrustedKey]
) -> tuple[Health, str]:
    if version.state == "retired":
        by = f"by {version.retired_by}" if version.retired_by else ""
        return "retired", f"{'revoked ' if version.revoked else ''}{by}".strip()
    if version.name in away:
        return "away", away[version.name]
    if version.artifact_sha is not None:
        signature = version.signature
        if signature is None:
            return "unsigned", "nobody vouches for its code, so it cannot run"
        key = keys.get(signature.key)
        if key is None or key.revoked_at(int(signature.created)):
            return "unsigned", f"what key {signature.key} signed does not count, so it cannot run"
    cautious, _ = evidence.bounds(record.succeeded, record.failed)
    if record.tried >= _TRIED and cautious < _FAILING:
        return "failing", f"{record.failed} of {record.tried} tasks failed"
    return ("well", "") if record.tried else ("new", "")
