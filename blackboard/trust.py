"""The keys whose signatures a board accepts: kept beside its catalog, changed by one script each, every change audited.

What a key is and what it signs is the business of ``registry``. A key is never removed: it is revoked, wholly or for what
it signed within a time, and a revocation stays. A board that has no key yet trusts the first one that signs for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

from blackboard.catalog import Catalog
from blackboard.catalog_records import Signed, StoredVersion
from blackboard.errors import BadInput
from blackboard.types import Record

KEY_ID = re.compile(r"[0-9a-f]{32}")


class Span(Record):
    """Signatures from ``after`` on and before ``before`` (milliseconds, server's clock) count no more."""

    after: int = 0
    before: int | None = None

    def holds(self, at: int) -> bool:
        """Whether a moment is within it."""
        return at >= self.after and (self.before is None or at < self.before)


class TrustedKey(Record):
    """A key as a board knows it."""

    id: str
    public: str
    """Raw public key in hex."""
    added_at: float
    """Seconds since the epoch, on the server's clock."""
    by: str = ""
    """Who trusted it, in words."""
    note: str = ""
    revoked: tuple[Span, ...] = ()

    def revoked_at(self, at: int) -> bool:
        """Whether what it signed at a moment (milliseconds, server's clock) is revoked."""
        return any(span.holds(at) for span in self.revoked)

    @classmethod
    def read(cls, id: str, text: str) -> TrustedKey:
        """The key in a stored entry.

        Raises:
            ValueError: the entry is damaged.
        """
        try:
            entry = cast("dict[str, Any]", json.loads(text))
            spans = [
                Span(after=int(span["after"]), before=int(span["before"]) if span["before"] else None)
                for span in entry.get("revoked") or ()
            ]
            return cls(
                id=id, public=entry["public"], added_at=int(entry["added"]) / 1000, by=entry["by"],
                note=entry["note"], revoked=tuple(spans),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the trust entry is damaged: {error!r}") from None


class Keys(NamedTuple):
    """The keys of a board and the server's time when they were read."""

    now_ms: int
    keys: Mapping[str, TrustedKey]


class Entry(Record):
    """One line of the audit of keys and versions; :mod:`blackboard.audit` has all of it."""

    cursor: str
    verb: Literal["trusted", "signed", "revoked", "approved", "refused"]
    subject: str
    """A key id, or ``<name>|<sha>`` of a version."""
    key: str
    by: str
    reason: str
    at: float
    """Seconds since the epoch, on the server's clock."""


_VERBS = ("trusted", "signed", "revoked", "approved", "refused")


class Trust:
    """The keys of one board.

    Args:
        catalog: of the board.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def read(self) -> Keys:
        """Every key the board trusts or trusted, and the server's time. A damaged entry is left out: it vouches for nothing."""
        reply = await self._catalog.call("catalog_keys", [])
        found: dict[str, TrustedKey] = {}
        for id, text in zip(reply[1::2], reply[2::2], strict=True):
            try:
                found[id] = TrustedKey.read(id, text)
            except ValueError:
                continue
        return Keys(int(reply[0]), found)

    async def add(self, id: str, public: str, *, by: str, note: str = "") -> bool:
        """Trust a key from now on.

        Returns:
            False when it was trusted already.

        Raises:
            BadInput: not the id of a key.
            ScriptRefused: ``REVOKED``, it was revoked.
        """
        return await self._changed("catalog_trust", [_checked(id), public, by, note])

    async def revoke(
        self, id: str, *, by: str, reason: str = "", after_ms: int = 0, before_ms: int | None = None
    ) -> bool:
        """Take the trust in what a key signed within a time; by default in all of it, past and future.

        Args:
            id: of the key.
            by, reason: for the audit.
            after_ms, before_ms: the time, from the first on and before the second; milliseconds on the server's clock.

        Returns:
            False when that was revoked already.

        Raises:
            UnknownRecord: no such key on this board.
            BadInput: not the id of a key, or an empty time.
        """
        if after_ms < 0 or (before_ms is not None and before_ms <= after_ms):
            raise BadInput("before", before_ms, f"Give a time later than {after_ms} ms.")
        before = "" if before_ms is None else str(before_ms)
        return await self._changed("catalog_revoke", ["key", by, reason, _checked(id), str(after_ms), before, ""])

    async def revoke_version(
        self, name: str, sha: str, *, by: str, reason: str = "", verb: Literal["revoked", "refused"] = "revoked"
    ) -> bool:
        """Let a version never run again, whoever signed it; it is no longer offered either.

        Args:
            by, reason: for the audit.
            verb: the same; ``refused`` for one whose grants were not approved.

        Returns:
            False when it was revoked already.

        Raises:
            UnknownRecord: no such version.
        """
        return await self._changed("catalog_revoke", ["version", by, reason, name, sha, "", verb])

    async def sign(self, stored: StoredVersion, signed: Signed, operation: str) -> None:
        """Store a signature for a version that is there.

        Args:
            stored: the version as the signature speaks of it.

        Raises:
            UnknownRecord: no such version.
            Conflict: its manifest or exam record is another one by now.
            ScriptRefused: ``REVOKED``, ``UNTRUSTED`` or ``CLOCK``, see :meth:`blackboard.catalog.Catalog.register`.
        """
        args = [operation, stored.name, stored.sha, stored.manifest, stored.exam or "", *signed.args()]
        await self._catalog.call("catalog_sign", args, operation=operation)

    async def audit(self, limit: int = 100) -> list[Entry]:
        """The latest lines about keys and versions, newest first."""
        return [
            Entry(
                cursor=cursor, verb=cast(Any, fields["verb"]), subject=fields["subject"], key=fields["key"],
                by=fields["by"], reason=fields["reason"], at=int(fields["at"]) / 1000,
            )
            for cursor, fields in await self._catalog.audit(_VERBS, limit)
        ]  # fmt: skip

    async def _changed(self, script: str, args: list[str]) -> bool:
        return (await self._catalog.call(script, args))[0] == "1"


def _checked(id: str) -> str:
    if not KEY_ID.fullmatch(id):
        raise BadInput("key", id, "Give the id of a key: 32 hexadecimal digits, as 'arbiter keys list' prints them.")
    return id
