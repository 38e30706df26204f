"""The registry of one board: register, find, list and retire capabilities.

The list of active versions is kept in memory and brought up to date with one small question to the server whenever it
is used, so a step costs no reload and still sees what was registered a moment ago.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from pydantic import JsonValue, ValidationError

from blackboard.catalog import ANY, Catalog, Change, StoredVersion, Verdict
from blackboard.errors import ArbiterError, BadInput, UnknownRecord
from blackboard.types import Status
from registry.content import canonical, sha256
from registry.manifest import ExamRecord, Manifest, refused
from registry.shortlist import DEFAULT_FLOOR, LexicalMatcher, Matcher
from registry.versions import HashMismatch, Version, as_version, verified_manifest, verified_source

T = TypeVar("T")

_log = logging.getLogger(__name__)

Outcomes = Callable[[], Awaitable[Mapping[str, int]]]
"""Reads the board's counters of ended tasks, ``<name>|<sha>|<status>`` to number."""

_MANIFESTS_KEPT = 4096
_SOURCES_KEPT = 64


class Match(NamedTuple):
    """A capability that may serve a need."""

    name: str
    score: float
    """0 for nothing in common with the need, towards 1 the more it covers."""
    version: Version


class Registry:
    """What a board can do.

    Args:
        catalog: the board's storage.
        outcomes: reads the counters of ended tasks; without it :meth:`outcomes` is empty.
        matcher: ranks capabilities for :meth:`shortlist`. Default: a new :class:`LexicalMatcher`.
    """

    def __init__(self, catalog: Catalog, outcomes: Outcomes | None = None, matcher: Matcher | None = None) -> None:
        self._catalog = catalog
        self._outcomes = outcomes
        self._matcher: Matcher = matcher if matcher is not None else LexicalMatcher()
        self._revision: str | None = None
        self._active: dict[str, Version] = {}
        self._unreadable: dict[str, str] = {}
        self._refreshing = asyncio.Lock()
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
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

        Returns:
            The version as it is now.

        Raises:
            BadInput: source missing, superfluous or too large; a failed exam with ``activate``; no valid exam record.
            Conflict: the name belongs to another tenant, or another version is active than expected.
            EngineUnavailable: the server stayed unreachable; sending the call again is safe.
        """
        if manifest.kind == "artifact" and (source is None or not source.strip()):
            raise BadInput("source", source, "Give the code of the artifact.")
        if manifest.kind != "artifact" and source is not None:
            raise BadInput("source", source, f"A {manifest.kind} lives in its program; register it without source.")
        record = _exam(exam)
        if activate and record is not None and not record.passed:
            raise BadInput("activate", True, "It failed its exam; register it with activate=False or not at all.")
        written = await self._catalog.register(
            name=manifest.name,
            sha=manifest.content_hash(source),
            tenant=manifest.tenant,
            manifest=manifest.text(),
            source=source,
            artifact_sha=None if source is None else sha256(source),
            exam=None if record is None else canonical(record.model_dump(mode="json")),
            verdict=_verdict(record),
            activate=activate,
            expected_active=expected_active or "",
            operation=operation,
        )
        return await self.resolve(manifest.name, written.sha)

    async def resolve(self, name: str, sha: str | None = None) -> Version:
        """One version of a capability; without ``sha`` the active one. A pinned version resolves whatever its state.

        Raises:
            UnknownRecord: no such capability, version, or no active version; names what is close.
            HashMismatch: what is stored is not what was registered.
        """
        stored = await self._catalog.get(name, sha)
        if stored is None:
            raise await self._unknown(name, sha)
        return self._version(stored)

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
        allowed = {name for name, version in self._active.items() if version.visible_to(tenant)}
        pinned = [name for name in dict.fromkeys(always) if name in allowed]
        most = max(k, len(pinned))
        ranked = self._matcher.rank(query, k=most, floor=floor, allowed=allowed.__contains__)
        scores = {each.name: each.score for each in ranked}
        if any(name not in scores for name in pinned):
            scored = self._matcher.rank(query, k=len(pinned), floor=0.0, allowed=set(pinned).__contains__)
            scores = {each.name: each.score for each in scored} | scores
        first = [Match(name, scores.get(name, 0.0), self._active[name]) for name in pinned]
        rest = [Match(name, score, self._active[name]) for name, score in ranked if name not in set(pinned)]
        return [*first, *rest][:most]

    async def activate(
        self, name: str, sha: str, *, expected_active: str | None = ANY, reason: str = "", operation: str | None = None
    ) -> Version:
        """Make a version the active one, for example to go back to an older one; the one before is retired.

        Raises:
            UnknownRecord: no such version.
            Conflict: another version is active than expected.
            ScriptRefused: code ``EXAM``, it failed its exam.
        """
        await self._catalog.set_state(
            name, sha, "active", expected_active=expected_active or "", reason=reason, operation=operation
        )
        return await self.resolve(name, sha)

    async def examine(self, name: str, sha: str, exam: ExamRecord, *, operation: str | None = None) -> Version:
        """Attach a passed exam to a draft, which makes it ``examined``.

        Raises:
            UnknownRecord: no such version.
            ScriptRefused: ``EXAM``, it was not passed; ``STATE``, the version is no draft.
        """
        text = canonical(exam.model_dump(mode="json"))
        await self._catalog.set_state(name, sha, "examined", exam=text, verdict=_verdict(exam), operation=operation)
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
            self._matcher.add(name, version.manifest)

    def _forget(self, name: str) -> None:
        self._unreadable.pop(name, None)
        if self._active.pop(name, None) is not None:
            self._matcher.remove(name)

    def _version(self, stored: StoredVersion) -> Version:
        """The public form; a manifest is verified and parsed once, since what a hash names cannot change."""
        key = f"{stored.name}|{stored.sha}"
        manifest = self._manifests.get(key)
        if manifest is None:
            manifest = verified_manifest(stored)
            _keep(self._manifests, key, manifest, _MANIFESTS_KEPT)
        self._manifests.move_to_end(key)
        return as_version(stored, manifest)

    async def _unknown(self, name: str, sha: str | None) -> UnknownRecord:
        names = list(await self._catalog.names())
        if name in names:
            if sha is None:
                return UnknownRecord("UNKNOWN", f"{name} has no active version; it was retired or never activated.")
            return UnknownRecord("UNKNOWN", f"{name} has no version {sha!r}; its versions are listed by versions().")
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        return UnknownRecord("UNKNOWN", f"there is no capability {name!r}.{hint}")


def _exam(exam: ExamRecord | Mapping[str, JsonValue] | None) -> ExamRecord | None:
    if exam is None or isinstance(exam, ExamRecord):
        return exam
    try:
        return ExamRecord.model_validate(exam)
    except ValidationError as error:
        raise refused(error, "exam") from None


def _verdict(exam: ExamRecord | None) -> Verdict | None:
    return None if exam is None else "passed" if exam.passed else "failed"


def _keep(kept: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
