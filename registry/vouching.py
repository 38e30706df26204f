"""Who vouches for a version, and what may therefore run: signing, approving, revoking, loading."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple
from uuid import uuid4

from blackboard.catalog import Catalog
from blackboard.catalog_records import RecordDamaged, Signed
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from blackboard.trust import Trust
from registry.lineage import suspects
from registry.manifest import Manifest
from registry.reading import Reading
from registry.signing import SignatureRefused, Signer, Verifier, somebody
from registry.versions import HashMismatch, Version, as_version, verified_source

_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A version that may run, with its code."""

    version: Version
    source: str | None
    """Verified; None for what lives in the embedding program."""


class Vouching(Reading):
    """The signatures on a board's versions.

    Args:
        catalog: the board's storage.
        signer: signs the artifacts registered here, or finds the key when the first one is.
    """

    def __init__(self, catalog: Catalog, signer: Signer | Callable[[], Signer]) -> None:
        super().__init__(catalog)
        self._signer = signer
        self._verifier = Verifier()
        self.trust = Trust(catalog)
        """The keys whose signatures count on this board."""
        self._on_trial = set[tuple[str, str]]()

    async def load(self, name: str, sha: str | None = None) -> Loaded:
        """A version that is about to run (default: the active one), with its code. Everything is read and verified anew.

        Raises:
            UnknownRecord: as for :meth:`resolve`.
            HashMismatch: manifest or code are not what was registered.
            SignatureRefused: it is code, and nobody whose word counts on this board vouches for it as it is.
        """
        try:
            found = await self._catalog.load(name, sha)
        except RecordDamaged as error:
            raise SignatureRefused(name, sha or "", "damaged", str(error)) from None
        if found is None:
            raise await self._unknown(name, sha)
        manifest = self._manifest(found.version)
        if manifest.kind != "artifact":
            return Loaded(as_version(found.version, manifest), None)
        source = verified_source(name, found.version.artifact_sha or "", found.source)
        self._verifier.check(found.version, manifest.grants, found.trust)
        version = as_version(found.version, manifest)
        (self._on_trial.add if version.state == "canary" else self._on_trial.discard)((name, version.sha))
        if version.exam is not None and not version.exam.passed:
            raise SignatureRefused(name, version.sha, "exam", "it failed its exam. Use a version that passed.")
        return Loaded(version, source)

    def on_trial(self, name: str, sha: str) -> bool:
        """Whether a version was a canary when it was last loaded here."""
        return (name, sha) in self._on_trial

    async def vouched(self, version: Version) -> bool:
        """Whether a version could be loaded now."""
        try:
            await self.load(version.name, version.sha)
        except (SignatureRefused, HashMismatch):
            return False
        return True

    async def sign(self, name: str, sha: str, *, by: str | None = None) -> Version:
        """Vouch for a version that is there, with this process's key: after a person looked at it.

        Args:
            by: that person, for the audit. Default: the user of this process.

        Raises:
            UnknownRecord: no such version.
            BadInput: it lives in a program and has no code to sign; or there is no key that can be used.
            HashMismatch: what is stored is not what was registered.
            Conflict: its exam record was changed meanwhile.
            ScriptRefused: ``REVOKED`` or ``UNTRUSTED``, the version or the key does not count.
        """
        found = await self._catalog.load(name, sha)
        if found is None:
            raise await self._unknown(name, sha)
        stored, manifest = found.version, self._manifest(found.version)
        signed = await self._signed(manifest, stored.manifest, sha, stored.artifact_sha, stored.exam, by)
        if signed is None:
            raise BadInput("name", name, f"A {manifest.kind} lives in a program; only artifacts are signed.")
        verified_source(name, stored.artifact_sha or "", found.source)
        with told():
            await self.trust.sign(stored, signed, uuid4().hex)
        return await self.resolve(name, sha)

    async def waiting(self) -> Sequence[Version]:
        """Every version that passed its exam and waits for a person to approve its grants, by name."""
        found = [await self.versions(name) for name in await self._catalog.names()]
        return [version for versions in found for version in versions if version.waits]

    async def approve(
        self, name: str, sha: str | None = None, *, sources: Iterable[str] = (), by: str | None = None
    ) -> Version:
        """Approve a version that waits for it: sign it, and offer it. Who did is in the audit and the log.

        Args:
            name: of the capability.
            sha: of the version. Default: the latest one that waits.
            sources: every source that is not trusted and had it made, as :func:`registry.suspects` tells them: nobody
                approves what comes from them without having seen that it does.
            by: who approves. Default: the user of this process.

        Raises:
            BadInput: it was asked for by content from other sources than those named; nothing was done.
            UnknownRecord: no such capability, or nothing of it waits.
            ScriptRefused: ``REVOKED`` or ``UNTRUSTED``, the version or the approving key does not count.
        """
        # One that is signed and not offered was being approved by a process that died in between.
        open = [each for each in await self.versions(name) if each.state == "examined" and sha in (None, each.sha)]
        if not open:
            raise UnknownRecord("UNKNOWN", f"no version of {name} waits for approval")
        version, who = open[-1], somebody() if by is None else by
        asked, named = suspects(version.manifest), sorted(set(sources))
        if set(asked) - set(named):
            raise BadInput(
                "sources", named, f"{name} was made because content from {', '.join(asked)} asked for it: look at its code, "
                "then approve it by naming these sources.",
            )  # fmt: skip
        await self.sign(name, version.sha, by=who)
        knowing = f", knowing that {', '.join(asked)} asked for it" if asked else ""
        reason = f"its grants were approved by {who}{knowing}"
        await self._catalog.set_state(name, version.sha, "active", reason=reason, decided=("approved", who))
        return await self.resolve(name, version.sha)

    async def refuse(self, name: str, sha: str | None = None, *, reason: str = "", by: str | None = None) -> Version:
        """Refuse the grants of a version that waits for approval. It never runs, and the same content is not taken again.

        Args:
            name: of the capability.
            sha: of the version. Default: the latest one that waits.
            reason: for the audit.
            by: who refuses. Default: the user of this process.

        Raises:
            UnknownRecord: no such capability, or nothing of it waits.
        """
        open = [each for each in await self.versions(name) if each.waits and sha in (None, each.sha)]
        if not open:
            raise UnknownRecord("UNKNOWN", f"no version of {name} waits for approval")
        who = somebody() if by is None else by
        await self.trust.revoke_version(name, open[-1].sha, by=who, reason=reason, verb="refused")
        return await self.resolve(name, open[-1].sha)

    async def revoke(self, name: str, sha: str, *, reason: str = "", by: str | None = None) -> Version:
        """Let a version never run again, from its next attempt on, also in runs that pinned it. It is retired too.

        Args:
            reason: for the audit.
            by: who revokes. Default: the user of this process.

        Raises:
            UnknownRecord: no such version.
        """
        await self.trust.revoke_version(name, sha, by=somebody() if by is None else by, reason=reason)
        return await self.resolve(name, sha)

    async def signer(self) -> Signer:
        """The key that signs here.

        Raises:
            BadInput: it cannot be read, or others could have read it.
        """
        if not isinstance(self._signer, Signer):
            self._signer = await asyncio.to_thread(self._signer)
        return self._signer

    async def check_signer(self) -> None:
        """Whether what is made here could be signed, before work is put into it.

        Raises:
            BadInput: there is no key that can be used.
            ScriptRefused: ``UNTRUSTED`` or ``REVOKED``, the key does not count on this board.
        """
        signer, (now, keys) = await self.signer(), await self.trust.read()
        known = keys.get(signer.key)
        with told():
            if known is None and keys:
                raise ScriptRefused("UNTRUSTED", f"this board does not trust the signing key {signer.key}")
            if known is not None and known.revoked_at(now):
                raise ScriptRefused("REVOKED", f"the signing key {signer.key} is revoked on this board")

    async def _signed(
        self,
        manifest: Manifest,
        text: str,
        sha: str,
        artifact_sha: str | None,
        exam: str | None,
        by: str | None = None,
    ) -> Signed | None:
        """A signature over a version with its manifest and exam record as texts; None for what has no code."""
        if artifact_sha is None:
            return None
        signer = await self.signer()
        now, keys = await self.trust.read()
        if not keys:
            _log.info("this board trusts its first signing key from now on: %s, from %s", signer.key, signer.origin)
        return signer.signed(
            name=manifest.name, sha=sha, manifest=text, artifact_sha=artifact_sha, exam=exam, grants=manifest.grants,
            created_ms=now, by=by,
        )  # fmt: skip


@contextlib.contextmanager
def told() -> Generator[None]:
    """Adds the remedy to a refusal of a signing key."""
    try:
        yield
    except ScriptRefused as error:
        remedy = {
            "UNTRUSTED": "Run 'arbiter keys trust' where the key is, after 'arbiter keys list' showed whose the others are.",
            "REVOKED": "Sign with another key: 'arbiter keys rotate' makes one.",
        }.get(error.code)
        if remedy is None or "signing key" not in error.detail:
            raise
        raise ScriptRefused(error.code, f"{error.detail}. {remedy}") from None
