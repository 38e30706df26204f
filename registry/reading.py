"""Reading the versions of a board, each verified against its hash."""

from __future__ import annotations

import difflib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from blackboard.catalog import Catalog
from blackboard.catalog_records import StoredVersion
from blackboard.errors import BadInput, UnknownRecord
from registry.manifest import Manifest
from registry.versions import HashMismatch, Version, as_version, verified_manifest, verified_source

T = TypeVar("T")
K = TypeVar("K")

_log = logging.getLogger(__name__)

_MANIFESTS_KEPT = 4096
_SOURCES_KEPT = 64


class Reading:
    """What is registered on a board.

    Args:
        catalog: the board's storage.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._manifests: OrderedDict[tuple[str, ...], Manifest] = OrderedDict()
        self._sources: OrderedDict[str, str] = OrderedDict()

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

    async def names(self) -> Sequence[str]:
        """Every name that was ever registered, sorted; retired ones too."""
        return list(await self._catalog.names())

    async def version_counts(self) -> Mapping[str, int]:
        """How many versions each name has, whatever their state."""
        return await self._catalog.counts()

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

    async def _unknown(self, name: str, sha: str | None) -> UnknownRecord:
        names = list(await self._catalog.names())
        if name in names:
            if sha is None:
                why = "it was retired, revoked or never activated"
                return UnknownRecord("UNKNOWN", f"the capability {name!r} has no active version: {why}.")
            return UnknownRecord(
                "UNKNOWN", f"the capability {name!r} has no version {sha!r}; its versions are listed by versions()."
            )
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        return UnknownRecord("UNKNOWN", f"there is no capability {name!r}.{hint}")


def _keep(kept: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
