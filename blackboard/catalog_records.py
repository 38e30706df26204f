"""What the catalog hands out, and how it is read out of what the scripts reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from blackboard.errors import ArbiterError
from blackboard.types import Record

State = Literal["draft", "examined", "active", "retired", "canary"]
Verdict = Literal["passed", "failed"]
Behalf = Literal["person", "reflection", "peer"]
"""For whom something is decided."""
Verb = Literal["registered", "examined", "signed", "activated", "retired", "revoked", "tried"]


class Trial(Record):
    """Which part of the runs use a canary, and what it is compared by."""

    share: float
    """Of the runs: above 0, below 1."""
    since: float
    """Seconds since the epoch, on the server's clock."""
    before: tuple[int, int, int, int]
    """Tasks until then: of the active version those that succeeded and failed, then of the canary."""

    @property
    def identity(self) -> str:
        """As the catalog knows it."""
        return " ".join(map(str, (round(self.since * 1000), *self.before)))


class Sharing(NamedTuple):
    """What a canary begins with."""

    share: float
    before: tuple[int, int, int, int]
    """As in :class:`Trial`."""

    def args(self) -> list[str]:
        """As the scripts take it."""
        return [repr(self.share), " ".join(map(str, self.before))]


class StoredVersion(Record):
    """One version as the catalog holds it; ``manifest`` and ``exam`` are JSON texts."""

    name: str
    sha: str
    state: State
    tenant: str
    manifest: str
    exam: str | None = None
    artifact_sha: str | None = None
    created_at: float
    """Seconds since the epoch, on the server's clock."""
    updated_at: float
    signature: str | None = None
    """JSON text; see :mod:`registry.signing`."""
    signed_ms: int = 0
    """When the signature was stored: milliseconds on the server's clock; 0 without one."""
    revoked: bool = False
    replaced: bool = False
    """It was the active one until another took its place, and nobody has retired it for its own sake."""
    forgiven: int = 0
    """Tasks of it that had failed when somebody last made it the active one."""
    retired_by: str = ""
    """Of a retired version: who decided that; empty where another one was merely registered, or nobody wrote it down."""
    retired_for: Behalf | None = None
    """On whose behalf."""
    canary: str | None = None
    """Of an active version: the one that a share of the runs use instead."""
    trial: Trial | None = None
    """Of a canary."""


class Signed(Record):
    """A signature for the catalog to store with what it signs."""

    text: str
    key: str
    """Id of the key."""
    public: str
    """The public key in hex, for a board that has no key yet."""
    created: str
    """The time the signature states: milliseconds, on the server's clock."""
    by: str
    """Who signs, in words, for the audit."""

    def args(self) -> list[str]:
        """As the scripts take it."""
        return [self.text, self.key, self.public, self.created, self.by]


class Loadable(Record):
    """A version with its source and the trust entry (JSON text) of the key that signed it, all as of one moment."""

    version: StoredVersion
    source: str | None
    trust: str | None


class Written(Record):
    """What a change did."""

    name: str
    sha: str
    """The version the call was about; empty when it was about the active version and there was none."""
    changed: bool
    """False when everything already was as asked."""
    revision: str
    state: State | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    artifact_sha: str | None = None
    previous: str | None = None
    """The version that was active before."""


class Change(Record):
    """One entry of the log of changes."""

    cursor: str
    """Position in the log; give it to :meth:`Catalog.changes` to go on after it."""
    verb: Verb
    name: str
    sha: str
    state: State
    reason: str = ""
    at: float
    """Seconds since the epoch, on the server's clock."""

    @property
    def type(self) -> str:
        """The CloudEvents type of this change."""
        return f"dev.arbiter.capability.{self.verb}.v1"


class Pointers(Record):
    """Which versions are active, as far as a reader does not know it already."""

    revision: str
    full: bool
    """True: ``active`` is the whole truth. False: only what changed since the revision the reader held."""
    active: Mapping[str, str | None]
    """Name to active sha; None where no version is active any more."""
    learnt: str = ""
    """Differs when something else was learnt meanwhile; see :mod:`blackboard.lessons`."""


class RecordDamaged(ArbiterError):
    """What the catalog holds of a version cannot be read; it must not be used."""


def header_of(raw: str) -> dict[str, str]:
    """What is stored of a version beside its texts."""
    return cast(dict[str, str], json.loads(raw))


def written(name: str, reply: list[str]) -> Written:
    """What a script said about a change."""
    changed, revision, raw, previous, identity = reply
    header = header_of(raw) if raw else {}
    return Written.model_validate(
        {
            "name": name,
            "sha": identity.partition("|")[2],
            "changed": changed == "1",
            "revision": revision,
            "state": header.get("state"),
            "created_at": seconds(header.get("created")),
            "updated_at": seconds(header.get("updated")),
            "artifact_sha": header.get("artifact") or None,
            "previous": previous or None,
        }
    )


def stored(name: str, sha: str, raw: str, manifest: str, exam: str, signature: str) -> StoredVersion | None:
    """A version as a script tells it; None where there is none.

    Raises:
        RecordDamaged: what is stored cannot be read.
    """
    if not raw:
        return None
    try:
        header = header_of(raw)
        return StoredVersion(
            name=name,
            sha=sha,
            state=cast(State, header["state"]),
            tenant=header["tenant"],
            manifest=manifest,
            exam=exam or None,
            artifact_sha=header["artifact"] or None,
            created_at=seconds(header["created"]),
            updated_at=seconds(header["updated"]),
            signature=signature or None,
            signed_ms=int(header.get("signed") or 0),
            revoked="revoked" in header,
            replaced="replaced" in header,
            forgiven=int(header.get("forgiven") or 0),
            retired_by=header.get("retired_by", ""),
            retired_for=cast("Behalf | None", header.get("retired_for")),
            canary=header.get("canary"),
            trial=_trial(header["share"], header["trial"]) if "trial" in header else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordDamaged(
            f"The record of {name} {sha[:12]} is damaged ({error!r:.200}); register it again."
        ) from None


def _trial(share: str, trial: str) -> Trial:
    since, good, bad, new_good, new_bad = map(int, trial.split(" "))
    return Trial(share=float(share), since=since / 1000, before=(good, bad, new_good, new_bad))


def change(cursor: str, fields: dict[str, str]) -> Change:
    """An entry of the log of changes."""
    return Change(
        cursor=cursor,
        verb=cast(Verb, fields["verb"]),
        name=fields["name"],
        sha=fields["sha"],
        state=cast(State, fields["state"]),
        reason=fields["reason"],
        at=seconds(fields["at"]),
    )


def seconds(milliseconds: str | None) -> float:
    """Seconds out of milliseconds as text; 0 without any."""
    return int(milliseconds) / 1000 if milliseconds else 0.0
