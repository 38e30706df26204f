"""The registry of one board: register, find, list and retire capabilities.

The list of active versions is kept in memory and brought up to date with one small question to the server whenever it
is used, so a step costs no reload and still sees what was registered a moment ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeVar
from uuid import uuid4

from pydantic import JsonValue, ValidationError

from blackboard.catalog import ANY, Catalog, Change, RecordDamaged, Signed, StoredVersion, Verdict
from blackboard.errors import ArbiterError, BadInput, ScriptRefused, UnknownRecord
from blackboard.trust import Trust
from blackboard.types import Status
from registry.content import canonical, sha256
from registry.lineage import suspects
from registry.manifest import ExamRecord, Manifest, refused
from registry.matching import (
    Candidate,
    Contract,
    Document,
    LexicalMatcher,
    MatchDecision,
    Matcher,
    Prices,
    decide,
    duplicates,
    evidence,
)
from registry.signing import SignatureRefused, Signer, Verifier, somebody
from registry.versions import HashMismatch, Version, as_version, verified_manifest, verified_source

T = TypeVar("T")
K = TypeVar("K")

_log = logging.getLogger(__name__)

Outcomes = Callable[[], Awaitable[Mapping[str, int]]]
"""Reads the board's counters of ended tasks, ``<name>|<sha>|<status>`` to number."""

DEFAULT_FLOOR = 0.02
"""Below it there is hardly more in common than a frequent word. Low on purpose: what is left out cannot be chosen, and
for needs in everyday language right capabilities score as little as 0.03."""

_RECORDS_SECONDS = 10.0
_UNKNOWN = evidence.factor({})
_MANIFESTS_KEPT = 4096
_SOURCES_KEPT = 64


class Match(NamedTuple):
    """A capability that may serve a need."""

    name: str
    score: float
    """0 for nothing in common with the need, towards 1 the more it covers."""
    version: Version
    reasons: tuple[str, ...] = ()
    """What spoke for it, the weightiest first."""


class Loaded(NamedTuple):
    """A version that may run, with its code."""

    version: Version
    source: str | None
    """Verified; None for what lives in the embedding program."""


class Registry:
    """What a board can do.

    Args:
        catalog: the board's storage.
        outcomes: reads the counters of ended tasks; without it :meth:`outcomes` is empty.
        matcher: ranks capabilities for :meth:`shortlist`. Default: a new :class:`LexicalMatcher`.
        signer: signs the artifacts registered here, or finds the key when the first one is. Default: this user's key, see
            :meth:`registry.signing.Signer.find`.
        clock: seconds that only grow; how versions did is read again after ten of them.
    """

    def __init__(
        self,
        catalog: Catalog,
        outcomes: Outcomes | None = None,
        matcher: Matcher | None = None,
        signer: Signer | Callable[[], Signer] = Signer.find,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._signer = signer
        self._verifier = Verifier()
        self.trust = Trust(catalog)
        """The keys whose signatures count on this board."""
        self._outcomes = outcomes
        self._matcher: Matcher = matcher if matcher is not None else LexicalMatcher()
        self._clock = clock
        self._records: Mapping[tuple[str, str], Mapping[Status, int]] = {}
        self._records_until = -math.inf
        self._revision: str | None = None
        self._active: dict[str, Version] = {}
        self._unreadable: dict[str, str] = {}
        self._refreshing = asyncio.Lock()
        self._manifests: OrderedDict[tuple[str, ...], Manifest] = OrderedDict()
        self._sources: OrderedDict[str, str] = OrderedDict()

    async def register(
        self,
        manifest: Manifest,
        *,
        source: str | None = None,
        exam: ExamRecord | Mapping[str, JsonValue] | None = None,
        activate: bool = True,
        expected_active: str | None = ANY,
        operation: str | None = None,
        sign: bool = True,
    ) -> Version:
        """Register a version, atomically; the same content is the same version however often it is registered.

        Args:
            manifest: what it does.
            source: its code; needed for an artifact and refused for anything else.
            exam: how it did in its exam. A version that failed can be kept as a draft, not activated.
            activate: offer it from now on; the version offered until now is retired.
            expected_active: refuse unless this version is the active one (None: none is). Default: do not look.
            operation: a stable identity of this call, for a caller that may be started again and must not repeat it
                (a version that was replaced in the meantime is then left alone).

            sign: vouch for it with the key of this process. Without a signature code cannot run until somebody signs.

        Returns:
            The version as it is now.

        Raises:
            BadInput: source missing, superfluous or too large; a failed exam with ``activate``; no valid exam record.
            Conflict: the name belongs to another tenant, or another version is active than expected.
            ScriptRefused: ``UNTRUSTED`` or ``REVOKED``, the signing key does not count on this board, or the version was
                revoked.
            EngineUnavailable: the server stayed unreachable; sending the call again is safe.
        """
        if manifest.kind == "artifact" and (source is None or not source.strip()):
            raise BadInput("source", source, "Give the code of the artifact.")
        if manifest.kind != "artifact" and source is not None:
            raise BadInput("source", source, f"A {manifest.kind} lives in its program; register it without source.")
        record = _exam(exam)
        if activate and record is not None and not record.passed:
            raise BadInput("activate", True, "It failed its exam; register it with activate=False or not at all.")
        sha, artifact_sha = manifest.content_hash(source), None if source is None else sha256(source)
        exam_text = None if record is None else canonical(record.model_dump(mode="json"))
        with _told():
            written = await self._catalog.register(
                name=manifest.name,
                sha=sha,
                tenant=manifest.tenant,
                manifest=manifest.text(),
                source=source,
                artifact_sha=artifact_sha,
                exam=exam_text,
                verdict=_verdict(record),
                activate=activate,
                expected_active=expected_active or "",
                operation=operation,
                signed=await self._signed(manifest, manifest.text(), sha, artifact_sha, exam_text) if sign else None,
            )
        if written.changed:
            self._warn(manifest)
        return await self.resolve(manifest.name, written.sha)

    async def resolve(self, name: str, sha: str | None = None) -> Version:
        """One version of a capability; without ``sha`` the active one. A pinned version resolves whatever its state.

        Raises:
            UnknownRecord: no such capability, version, or no active version; names what is close.
            HashMismatch: what is stored is not what was registered.
        """
        return self._version(await self._stored(name, sha))

    async def _stored(self, name: str, sha: str | None) -> StoredVersion:
        stored = await self._catalog.get(name, sha)
        if stored is None:
            raise await self._unknown(name, sha)
        return stored

    async def resolve_many(self, wanted: Sequence[tuple[str, str | None]]) -> list[Version | None]:
        """:meth:`resolve` for several at once: name and ``sha`` of each. None stands for what is unknown or damaged."""
        found: list[Version | None] = []
        for (name, _), stored in zip(wanted, await self._catalog.get_many(wanted), strict=True):
            try:
                found.append(None if stored is None else self._version(stored))
            except HashMismatch as damaged:
                _log.error("%s is left out: %s", name, damaged)
                found.append(None)
        return found

    async def source(self, version: Version) -> str:
        """The code of an artifact, its hash verified.

        Raises:
            BadInput: the version has no artifact.
            HashMismatch: the stored code is not what was registered, or is gone.
        """
        sha = version.artifact_sha
        if sha is None:
            raise BadInput("version", version.name, f"A {version.manifest.kind} has no source; only artifacts have.")
        if sha not in self._sources:
            found = await self._catalog.artifact(sha)
            _keep(self._sources, sha, verified_source(version.name, sha, found), _SOURCES_KEPT)
        self._sources.move_to_end(sha)
        return self._sources[sha]

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
        if version.exam is not None and not version.exam.passed:
            raise SignatureRefused(name, version.sha, "exam", "it failed its exam. Use a version that passed.")
        return Loaded(version, source)

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
        with _told():
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
        with _told():
            if known is None and keys:
                raise ScriptRefused("UNTRUSTED", f"this board does not trust the signing key {signer.key}")
            if known is not None and known.revoked_at(now):
                raise ScriptRefused("REVOKED", f"the signing key {signer.key} is revoked on this board")

    async def versions(self, name: str) -> list[Version]:
        """Every version of a capability, oldest first.

        Raises:
            UnknownRecord: no such capability; names what is close.
            HashMismatch: what is stored is not what was registered.
        """
        shas = await self._catalog.shas(name)
        if not shas:
            raise await self._unknown(name, None)
        stored = await self._catalog.get_many([(name, sha) for sha in shas])
        return [self._version(each) for each in stored if each is not None]

    async def list(self, tenant: str | None = None) -> list[Version]:
        """The active versions a tenant may use (None: all), by name. What cannot be read is in :attr:`unreadable`."""
        await self._refresh()
        return [version for _, version in sorted(self._active.items()) if version.visible_to(tenant)]

    async def names(self) -> Sequence[str]:
        """Every name that was ever registered, sorted; retired ones too."""
        return list(await self._catalog.names())

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Active capabilities :meth:`list` had to leave out, each with the reason: damaged, or from a newer program."""
        return dict(self._unreadable)

    async def shortlist(
        self,
        query: str,
        *,
        k: int = 12,
        floor: float = DEFAULT_FLOOR,
        tenant: str | None = None,
        always: Iterable[str] = (),
    ) -> Sequence[Match]:
        """The capabilities that may serve a need, best first.

        Args:
            query: the need in words.
            k: at most so many.
            floor: leave out what scores less. With 0 the list is filled up to ``k`` with what has nothing in common.
            tenant: only what this tenant may use.
            always: names that come first whatever they score, when they are active; they count towards ``k``, and all
                of them are kept even if they are more.

        Raises:
            BadInput: ``k`` below 1.
        """
        if k < 1:
            raise BadInput("k", k, "Ask for at least one.")
        await self._refresh()
        await self._read_records()
        allowed = self._visible(tenant)
        pinned = [name for name in dict.fromkeys(always) if name in (self._active if allowed is None else allowed)]
        most = max(k, len(pinned))
        found = {each.name: each for each in self._search(query, most, allowed) if each.score >= floor}
        missing = {name for name in pinned if name not in found}
        if missing:
            found |= {each.name: each for each in self._search(query, len(missing), missing)}
        first = [Match(name, *self._scored(found.get(name), name)) for name in pinned]
        rest = [Match(name, *self._scored(each, name)) for name, each in found.items() if name not in set(pinned)]
        if floor <= 0:
            shown = {each.name for each in (*first, *rest)}
            rest += [
                Match(name, *self._scored(None, name))
                for name in sorted((self._active.keys() if allowed is None else allowed) - shown)[:most]
            ]
        return [*first, *rest][:most]

    async def decide(
        self, need: str, *, tenant: str | None = None, contract: Contract | None = None, prices: Prices | None = None
    ) -> MatchDecision:
        """What to do about a need: use a capability, compose several, have one made, or ask the model.

        Args:
            need: in words.
            tenant: only what this tenant may use.
            contract: what the sub-task brings, needs and allows; what does not fit is left out, with the reason.
            prices: what mistakes cost.
        """
        await self._refresh()
        await self._read_records()

        def left_out(name: str) -> str:
            return "; ".join(contract.objections(self._active[name].manifest)) if contract is not None else ""

        allowed = self._visible(tenant)
        return decide(
            self._matcher, need, prices=prices, allowed=None if allowed is None else allowed.__contains__,
            left_out=left_out, ranked=self._by_record,
        )  # fmt: skip

    async def similar(
        self, manifest: Manifest, *, least: float = duplicates.DEFAULT_LEAST
    ) -> Sequence[duplicates.Alike]:
        """The active capabilities a manifest is nearly the same as, most first; its own name is not compared."""
        await self._refresh()
        return duplicates.similar(self._matcher, self._document, Document.of(manifest), least)

    async def clusters(self, *, least: float = duplicates.DEFAULT_LEAST) -> Sequence[tuple[tuple[str, ...], float]]:
        """Groups of active capabilities that are nearly the same, with the least likeness that holds each together."""
        await self._refresh()
        return duplicates.clusters(self._matcher, {name: self._document(name) for name in self._active}, least)

    def _document(self, name: str) -> Document:
        return Document.of(self._active[name].manifest)

    def _warn(self, manifest: Manifest) -> None:
        """Say what speaks against a manifest that was just registered, as far as the list in memory tells."""
        for each in duplicates.similar(self._matcher, self._document, Document.of(manifest)):
            _log.warning("%s is %s", manifest.name, each)
        for said in duplicates.contradictions(manifest):
            _log.warning("%s: %s", manifest.name, said)

    def _visible(self, tenant: str | None) -> Set[str] | None:
        """The names a tenant may use; None when that is all of them."""
        if tenant is None:
            return None
        names = {name for name, version in self._active.items() if version.visible_to(tenant)}
        return None if len(names) == len(self._active) else names

    def _search(self, query: str, k: int, allowed: Set[str] | None) -> Sequence[Candidate]:
        found = self._matcher.search(query, k=2 * k, allowed=None if allowed is None else allowed.__contains__)
        return self._by_record(found.candidates)[:k]

    def _by_record(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Candidates by score and record; each says what its record is."""
        weighed: list[Candidate] = []
        for each in candidates:
            record = self._records.get((each.name, self._active[each.name].sha), {})
            said = evidence.words(record)
            reasons = (*each.reasons, said) if said else each.reasons
            weighed.append(Candidate(each.name, each.score * evidence.factor(record) / _UNKNOWN, reasons))
        return sorted(weighed, key=lambda each: (-each.score, each.name))

    async def _read_records(self) -> None:
        """How versions did so far, read again when it was last read some time ago."""
        if self._outcomes is None or self._clock() < self._records_until:
            return
        self._records_until = self._clock() + _RECORDS_SECONDS
        records: dict[tuple[str, str], dict[Status, int]] = {}
        for key, number in (await self._outcomes()).items():
            parts = key.split("|")
            if len(parts) == 3:
                records.setdefault((parts[0], parts[1]), {})[Status(parts[2])] = int(number)
        self._records = records

    def _scored(self, found: Candidate | None, name: str) -> tuple[float, Version, tuple[str, ...]]:
        return (found.score if found else 0.0, self._active[name], found.reasons if found else ())

    async def activate(
        self, name: str, sha: str, *, expected_active: str | None = ANY, reason: str = "", operation: str | None = None
    ) -> Version:
        """Make a version the active one, for example to go back to an older one; the one before is retired. On record.

        Raises:
            UnknownRecord: no such version.
            Conflict: another version is active than expected.
            ScriptRefused: code ``EXAM``, it failed its exam.
        """
        await self._catalog.set_state(
            name, sha, "active", expected_active=expected_active or "", reason=reason, operation=operation,
            decided=("activated", somebody()),
        )  # fmt: skip
        return await self.resolve(name, sha)

    async def examine(self, name: str, sha: str, exam: ExamRecord, *, operation: str | None = None) -> Version:
        """Attach a passed exam to a draft, which makes it ``examined``.

        Raises:
            UnknownRecord: no such version.
            ScriptRefused: ``EXAM``, it was not passed; ``STATE``, the version is no draft.
        """
        text = canonical(exam.model_dump(mode="json"))
        stored = await self._stored(name, sha)
        with _told():
            await self._catalog.set_state(
                name, sha, "examined", exam=text, verdict=_verdict(exam), operation=operation,
                signed=await self._signed(self._manifest(stored), stored.manifest, sha, stored.artifact_sha, text),
            )  # fmt: skip
        return await self.resolve(name, sha)

    async def retire(
        self, name: str, sha: str | None = None, *, reason: str = "", operation: str | None = None
    ) -> Version | None:
        """Stop offering a version (default: the active one). Runs that pinned it can still use it.

        Returns:
            The retired version, or None when no version was active.

        Raises:
            UnknownRecord: no such capability or version; names what is close.
        """
        try:
            written = await self._catalog.set_state(name, sha, "retired", reason=reason, operation=operation)
        except UnknownRecord:
            raise await self._unknown(name, sha) from None
        return await self.resolve(name, written.sha) if written.sha else None

    async def changes(self, after: str = "0", limit: int = 100) -> Sequence[Change]:
        """The next changes after a cursor, oldest first, for a reader that follows the registry."""
        return await self._catalog.changes(after, limit)

    async def outcomes(self, name: str) -> dict[str, dict[Status, int]]:
        """How the tasks of each version of a capability ended: content hash to status to number."""
        counted: dict[str, dict[Status, int]] = {}
        if self._outcomes is None:
            return counted
        for field, number in (await self._outcomes()).items():
            parts = field.split("|")
            if len(parts) == 3 and parts[0] == name:
                counted.setdefault(parts[1], {})[Status(parts[2])] = int(number)
        return counted

    async def _refresh(self) -> None:
        async with self._refreshing:
            pointers = await self._catalog.pointers(self._revision)
            named = [(name, sha) for name, sha in pointers.active.items() if sha is not None]
            stored = await self._catalog.get_many(named) if named else []
            # From here on nothing waits, so no reader sees half of a refresh.
            gone = [name for name, sha in pointers.active.items() if sha is None]
            if pointers.full:
                gone += [name for name in (*self._active, *self._unreadable) if name not in pointers.active]
            for name in gone:
                self._forget(name)
            for (name, _), each in zip(named, stored, strict=True):
                self._take(name, each)
            self._revision = pointers.revision

    def _take(self, name: str, stored: StoredVersion | None) -> None:
        """Offer an active version, unless it cannot be read: one damaged record must not stop every run."""
        try:
            if stored is None:
                raise ArbiterError("its record is missing")
            version = self._version(stored).model_copy(update={"state": "active"})
        except (ArbiterError, ValidationError, ValueError) as error:
            self._forget(name)
            self._unreadable[name] = str(error)
            _log.warning("capability %s is not offered: %s", name, error)
            return
        self._unreadable.pop(name, None)
        known = self._active.get(name)
        self._active[name] = version
        if known is None or known.sha != version.sha:
            self._matcher.add(name, Document.of(version.manifest))

    def _forget(self, name: str) -> None:
        self._unreadable.pop(name, None)
        if self._active.pop(name, None) is not None:
            self._matcher.remove(name)

    def _version(self, stored: StoredVersion) -> Version:
        return as_version(stored, self._manifest(stored))

    def _manifest(self, stored: StoredVersion) -> Manifest:
        """The verified manifest; the same bytes are verified and parsed once."""
        key = (stored.name, stored.sha, stored.artifact_sha or "", stored.manifest)
        manifest = self._manifests.get(key)
        if manifest is None:
            manifest = verified_manifest(stored)
            _keep(self._manifests, key, manifest, _MANIFESTS_KEPT)
        self._manifests.move_to_end(key)
        return manifest

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

    async def _unknown(self, name: str, sha: str | None) -> UnknownRecord:
        names = list(await self._catalog.names())
        if name in names:
            if sha is None:
                return UnknownRecord("UNKNOWN", f"{name} has no active version; it was retired or never activated.")
            return UnknownRecord("UNKNOWN", f"{name} has no version {sha!r}; its versions are listed by versions().")
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        return UnknownRecord("UNKNOWN", f"there is no capability {name!r}.{hint}")


@contextlib.contextmanager
def _told() -> Generator[None]:
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


def _exam(exam: ExamRecord | Mapping[str, JsonValue] | None) -> ExamRecord | None:
    if exam is None or isinstance(exam, ExamRecord):
        return exam
    try:
        return ExamRecord.model_validate(exam)
    except ValidationError as error:
        raise refused(error, "exam") from None


def _verdict(exam: ExamRecord | None) -> Verdict | None:
    return None if exam is None else "passed" if exam.passed else "failed"


def _keep(kept: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
