"""A version of a capability as its users see it: manifest, state, exam, and proof that it is what its hash says."""

from __future__ import annotations

import json

from blackboard.catalog_records import Behalf, State, StoredVersion, Trial
from blackboard.errors import ArbiterError
from blackboard.types import Record
from registry.content import sha256, text_hash
from registry.manifest import ExamRecord, Manifest
from registry.signing import Signature, read_quietly


class HashMismatch(ArbiterError):
    """What is stored under a content hash is not what was hashed: damaged or tampered with. It must not be used.

    Args:
        what: the manifest or the artifact, with its name.
        expected, found: SHA-256 in hex.
    """

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what} has hash {found[:12]}…, not {expected[:12]}… under which it is stored. It was damaged or changed "
            "outside the registry and is not used; register it again."
        )
        self.what, self.expected, self.found = what, expected, found


class Version(Record):
    """One immutable version of a capability and the state it is in."""

    name: str
    sha: str
    """Content hash of manifest and source; see :meth:`registry.manifest.Manifest.content_hash`."""
    state: State
    manifest: Manifest
    exam: ExamRecord | None = None
    artifact_sha: str | None = None
    """SHA-256 of the source; None for what lives in the embedding program."""
    created_at: float
    """Seconds since the epoch, on the server's clock."""
    updated_at: float
    signature: Signature | None = None
    """Who is said to vouch for it; nothing here has verified that, :meth:`registry.Registry.load` does."""
    revoked: bool = False
    """Whether it may never run again."""
    replaced: bool = False
    """Whether it was the active one until another took its place, and nobody has retired it for its own sake."""
    forgiven: int = 0
    """How many of its tasks had failed when somebody last made it the active one: they are not held against it."""

    retired_by: str = ""
    """Of a retired version: who decided that; empty where another one was merely registered, or nobody wrote it down."""
    retired_for: Behalf | None = None
    """On whose behalf."""

    canary: str | None = None
    """Of the active version: content hash of the one that a share of the runs use instead, see :mod:`registry.canary`."""
    trial: Trial | None = None
    """Of a canary: which part of the runs use it, and what it is compared by."""

    @property
    def waits(self) -> bool:
        """Whether it passed its exam and waits for a person to approve its grants."""
        return self.state == "examined" and self.artifact_sha is not None and self.signature is None

    def visible_to(self, tenant: str | None) -> bool:
        """Whether a tenant may use it; None asks for no tenant in particular."""
        return tenant is None or self.manifest.tenant in ("*", tenant)


def verified_manifest(stored: StoredVersion) -> Manifest:
    """The manifest of a stored version, if it and the artifact's hash are what the version's hash was made of.

    Raises:
        HashMismatch: they are not.
    """
    what = f"The manifest of {stored.name}"
    try:
        found = text_hash(stored.manifest, stored.artifact_sha)
        if found != stored.sha:
            raise HashMismatch(what, stored.sha, found)
        return Manifest.stored(stored.manifest)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise HashMismatch(what, stored.sha, "none: it is no manifest") from None


def verified_source(name: str, artifact_sha: str, source: str | None) -> str:
    """The source of an artifact, if it is what its hash says.

    Raises:
        HashMismatch: it is not, or is gone.
    """
    found = sha256(source) if source is not None else "nothing"
    if source is None or found != artifact_sha:
        raise HashMismatch(f"The artifact of {name}", artifact_sha, found)
    return source


def as_version(stored: StoredVersion, manifest: Manifest) -> Version:
    """The public form of a stored version whose manifest was verified."""
    return Version.model_construct(
        name=stored.name,
        sha=stored.sha,
        state=stored.state,
        manifest=manifest,
        exam=None if stored.exam is None else ExamRecord.model_validate(json.loads(stored.exam)),
        artifact_sha=stored.artifact_sha,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        signature=read_quietly(stored.signature),
        revoked=stored.revoked,
        replaced=stored.replaced,
        forgiven=stored.forgiven,
        retired_by=stored.retired_by,
        retired_for=stored.retired_for,
        canary=stored.canary,
        trial=stored.trial,
    )
