"""Where the registry keeps what a board can do: versions, artifacts, which version is active, and every change.

All of it lies under one hash tag, so that each change is one script: a reader sees a version with its manifest, its
artifact and its announcement, or nothing of it. Manifests, exam records and sources are stored as the text they came in
and never decoded on the server. What they mean is the business of ``registry``; nothing else should import this module.

A version is identified by ``name`` and ``sha``, the content hash the caller computed. What it contains never changes;
its state does (``draft``, ``examined``, ``active``, ``retired``, ``canary``), and at most one version of a name is active, and
one its canary. The
**revision** grows with every change, so a reader that holds a list asks one small question to learn whether it is still
right. The log of changes is complete and is not trimmed: it grows with registrations, not with work.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from typing import Any, Literal, cast
from uuid import uuid4

import redis.asyncio

from blackboard import _script
from blackboard._script import retrying
from blackboard.catalog_records import (
    Behalf,
    Change,
    Loadable,
    Pointers,
    Sharing,
    Signed,
    StoredVersion,
    Trial,
    Verdict,
    Written,
    change,
    stored,
    written,
)
from blackboard.errors import BadInput
from blackboard.types import type_name

ANY = "*"
"""Value of ``expected_active`` that accepts whatever version is active; the empty string expects none."""

MAX_MANIFEST_BYTES = 256 * 1024
MAX_SOURCE_BYTES = 1024 * 1024
MAX_EXAM_BYTES = 256 * 1024

_KEYS = ("rev", "header", "manifest", "exam", "active", "events", "names", "artifacts")
_MORE_KEYS = (
    "signatures", "trust", "audit", "tokens", "uses", "permits", "served", "lessons", "taught", "learnt", "peers",
    "illustrated", "illustrating", "withdrawn",
)  # fmt: skip
_PRELUDE = "_catalog"
_MOST_CHANGES = 1000
_READ_AT_ONCE = 200


class Catalog:
    """The registry's part of one board.

    Args:
        client: command client that decodes replies; its own retries off.
        namespace, board: as the board was opened with; together they name the keys.

    Raises:
        BadInput: a name that cannot be part of a key.
    """

    def __init__(self, client: redis.asyncio.Redis, namespace: str = "arbiter", board: str = "main") -> None:
        for field, value in (("namespace", namespace), ("board", board)):
            if not re.match(type_name, value):
                raise BadInput(field, value, "Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.")
        self._client = client
        self._prefix = f"arb:{{{namespace}/{board}#reg}}:"

    async def register(
        self,
        *,
        name: str,
        sha: str,
        tenant: str,
        manifest: str,
        source: str | None = None,
        artifact_sha: str | None = None,
        exam: str | None = None,
        verdict: Verdict | None = None,
        activate: bool = True,
        expected_active: str = ANY,
        operation: str | None = None,
        signed: Signed | None = None,
        by_rule: tuple[str, str] | None = None,
        canary: Sharing | None = None,
        unasked: bool = False,
    ) -> Written:
        """Store a version, its artifact and its exam record, and make it the active one if asked.

        A version that is there already is left as it is; a different exam record replaces the stored one, and
        ``activate`` makes the version active again if another one is.

        Args:
            name, sha, tenant: identity of the version and the tenant that owns the name.
            manifest: JSON text, stored as given.
            source, artifact_sha: the artifact and its SHA-256; both or neither.
            exam, verdict: JSON text of the exam record and whether it was passed; both or neither.
            activate: make it the active version of its name; the version that was active is retired.
            expected_active: refuse unless this sha is the active one now (``""``: none; :data:`ANY`: do not look).
            operation: identity of this call. A call with an operation that was carried out answers as it did then and
                changes nothing; the operation that first registered a version is remembered for ever, others for an
                hour. Default: a new one for each call.
            signed: a signature over the version with this exam record. A version whose signature counts keeps it.
            by_rule: the policy that lets it have its grants without a person, in words, and JSON text of what it allows; for
                the audit, when the call makes the version active.
            canary: with ``activate``, let a share of the runs use it beside the active version, where there is one.
            unasked: with ``activate``, leave it as it is where a person or reflection has decided that it is not offered, or
                tries it; and any version of a name that a person has withdrawn.

        Returns:
            What was done.

        Raises:
            BadInput: a text beyond its size limit, or not encodable.
            Conflict: the name belongs to another tenant, or ``expected_active`` is not the active version.
            ScriptRefused: code ``EXAM``, when ``activate`` is asked for a version that failed its exam; ``REVOKED``, the
                version or the key is revoked; ``UNTRUSTED``, the board does not trust the key; ``CLOCK``, the signature
                states a time far off the server's.
            EngineUnavailable: the server stayed unreachable.
        """
        _fits("manifest", manifest, MAX_MANIFEST_BYTES)
        _fits("source", source or "", MAX_SOURCE_BYTES)
        _fits("exam", exam or "", MAX_EXAM_BYTES)
        operation = operation or uuid4().hex
        reply = await _script.run(
            self._client,
            _script.load("catalog_register", _PRELUDE),
            self._keys(name, operation),
            [
                *(operation, name, sha, tenant, manifest, artifact_sha or "", source or ""),
                *(exam or "", verdict or "", "1" if activate else "0", expected_active),
                *_args(signed),
                *(by_rule or ("", "")),
                *(("", "") if canary is None else canary.args()),
                "1" if unasked else "0",
            ],
        )
        return written(name, cast(list[str], reply))

    async def set_state(
        self,
        name: str,
        sha: str | None,
        state: Literal["examined", "active", "retired", "canary"],
        *,
        exam: str | None = None,
        verdict: Verdict | None = None,
        expected_active: str = ANY,
        reason: str = "",
        operation: str | None = None,
        signed: Signed | None = None,
        decided: tuple[Literal["approved", "activated", "retired", "tried"], str] | None = None,
        behalf: Behalf = "person",
        detail: str = "",
        forgiven: int | None = None,
        canary: Sharing | None = None,
        trial: Trial | None = None,
    ) -> Written:
        """Move a version to another state. Asking for the state it is in changes nothing.

        Args:
            name: capability.
            sha: version; None means the active one, and nothing happens when there is none.
            state: ``active`` retires the version that was active. A retired version can become active again. ``retired`` of
                one that was replaced says that it is retired for its own sake. ``canary``, beside the active version, ends the
                canary there was. One whose active version is replaced or retired is retired.
            exam, verdict, expected_active, operation: as in :meth:`register`.
            signed: a signature over the version with that exam record.
            reason: words for the log.
            decided: what was decided with it, and by whom, for the audit; when it makes the version active, or retires it.
            behalf: for whom; kept with what is retired by it. A person who retires a version so that none is active withdraws
                the name, until a version is active again.
            detail: JSON text of what that was taken from, for the audit.
            forgiven: how many tasks of a version that becomes active had failed and are not held against it. Default: as before.
            canary: of what becomes a canary.
            trial: refuse unless the version is a canary in this trial.

        Raises:
            UnknownRecord: no such capability or version.
            Conflict: ``expected_active`` is not the active version; ``trial`` is over; a canary, and no version is active.
            ScriptRefused: ``EXAM`` (not passed), ``STATE`` (a move the lifecycle does not have) or ``ALONE`` (a canary without
                ``canary``: there was nothing to compare it with); ``REVOKED``,
                ``UNTRUSTED`` and ``CLOCK`` as in :meth:`register`.
            EngineUnavailable: the server stayed unreachable.
        """
        _fits("exam", exam or "", MAX_EXAM_BYTES)
        operation = operation or uuid4().hex
        reply = await _script.run(
            self._client,
            _script.load("catalog_state", _PRELUDE),
            self._keys(name, operation),
            [
                *(operation, name, sha or "", state, expected_active, exam or "", verdict or "", reason),
                *_args(signed),
                *(decided or ("", "")),
                *(detail, "" if forgiven is None else str(forgiven)),
                *(("", "") if canary is None else canary.args()),
                "" if trial is None else trial.identity,
                "" if decided is None else behalf,
            ],
        )
        return written(name, cast(list[str], reply))

    async def get(self, name: str, sha: str | None = None) -> StoredVersion | None:
        """One version, or the active one; None when there is none."""
        return (await self.get_many([(name, sha)]))[0]

    async def get_many(self, wanted: Sequence[tuple[str, str | None]]) -> list[StoredVersion | None]:
        """Several versions in the order asked for, a few hundred in each call to the server."""
        found: list[StoredVersion | None] = []
        script = _script.load("catalog_versions", _PRELUDE)
        for start in range(0, len(wanted), _READ_AT_ONCE):
            chunk = wanted[start : start + _READ_AT_ONCE]
            args = [part or "" for pair in chunk for part in pair]
            reply = cast(list[str], await _script.run(self._client, script, self._keys(), args))
            for (name, _), row in zip(chunk, range(0, len(reply), 5), strict=True):
                found.append(stored(name, *reply[row : row + 5]))
        return found

    async def load(self, name: str, sha: str | None = None) -> Loadable | None:
        """A version (default: the active one) with all that decides whether it may run; None when there is none."""
        reply = await self.call("catalog_load", [name, sha or ""])
        version = stored(name, *reply[:5]) if reply else None
        if version is None:
            return None
        return Loadable(version=version, trust=reply[5] or None, source=reply[6] or None)

    async def call(self, script: str, args: Sequence[str], *, operation: str = "") -> list[str]:
        """Call one of the catalog's scripts. For the parts of the catalog that are in modules of their own."""
        return cast(
            list[str],
            await _script.run(self._client, _script.load(script, _PRELUDE), self._keys(operation=operation), args),
        )

    async def pointers(self, held: str | None = None) -> Pointers:
        """Which versions are active.

        Args:
            held: the revision of the list the caller has; None when it has none.

        Returns:
            What changed since ``held``, or everything when that cannot be told (no list, too many changes, or a server
            that lost the revision in a failover).
        """
        script = _script.load("catalog_pointers", _PRELUDE)
        reply = cast(list[str], await _script.run(self._client, script, self._keys(), [held or "", str(_MOST_CHANGES)]))
        revision, mark, kind, *pairs = reply
        active = {name: sha or None for name, sha in zip(pairs[::2], pairs[1::2], strict=True)}
        return Pointers(revision=revision, learnt=mark, full=kind == "full", active=active)

    async def names(self) -> dict[str, str]:
        """Every name that was ever registered, sorted, with the tenant that owns it."""
        owners = cast(dict[str, str], await self._read("hgetall", "names"))
        return dict(sorted(owners.items()))

    async def counts(self) -> dict[str, int]:
        """How many versions each name has."""
        found: dict[str, int] = {}
        for id in cast(list[str], await self._read("hkeys", "header")):
            name = id.partition("|")[0]
            found[name] = found.get(name, 0) + 1
        return found

    async def shas(self, name: str) -> list[str]:
        """The versions of a name in the order they were registered; empty for a name that is not there."""
        return cast(list[str], await self._read("lrange", f"versions:{name}", 0, -1))

    async def artifact(self, sha: str) -> str | None:
        """The source stored under a SHA-256, unverified; None when it is not there."""
        return cast("str | None", await self._read("hget", "artifacts", sha))

    async def changes(self, after: str = "0", limit: int = 100) -> list[Change]:
        """The next changes after a cursor, oldest first; ``"0"`` starts at the beginning."""
        start = "-" if after == "0" else f"({after}"
        entries = cast(list[tuple[str, dict[str, str]]], await self._read("xrange", "events", start, "+", limit))
        return [change(cursor, fields) for cursor, fields in entries]

    async def audit(self, verbs: Sequence[str], limit: int = 100) -> list[tuple[str, dict[str, str]]]:
        """The latest entries of the audit with one of these verbs, newest first."""
        found: list[tuple[str, dict[str, str]]] = []
        end = "+"
        while len(found) < limit:
            page = cast("list[tuple[str, dict[str, str]]]", await self._read("xrevrange", "audit", end, "-", 500))
            found += [entry for entry in page if entry[1]["verb"] in verbs]
            if len(page) < 500:
                break
            end = f"({page[-1][0]}"
        return found[:limit]

    def trail(self, stream: Literal["audit", "uses"]) -> str:
        """The key of one of the streams that :mod:`blackboard.audit` reads."""
        return self._prefix + stream

    def _keys(self, name: str = "", operation: str = "") -> list[str]:
        return [
            *(self._prefix + key for key in _KEYS),
            f"{self._prefix}versions:{name}",
            f"{self._prefix}op:{operation}",
            *(self._prefix + key for key in _MORE_KEYS),
        ]

    async def _read(self, command: str, key: str, *args: str | int) -> Any:
        call = getattr(self._client, command)
        return await retrying(lambda: cast(Awaitable[Any], call(self._prefix + key, *args)))


def _args(signed: Signed | None) -> list[str]:
    return ["", "", "", "", ""] if signed is None else signed.args()


def _fits(field: str, text: str, most: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadInput(field, text, "It holds half of a surrogate pair; only text that UTF-8 can carry.") from None
    if size > most:
        raise BadInput(field, f"{size} bytes", f"Keep it within {most} bytes.")
