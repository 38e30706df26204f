"""Large values are stored once, by hash, and the board carries a reference to them: the claim check.

A request, a task's input, a completion's data or a checkpoint above the board's ``inline_bytes`` is put into the board's
store before the script that refers to it, so a crash in between leaves at most a blob that nothing refers to, and never a
reference without its blob. What stands on the board in its place is::

    {"$blob": "sha256:…", "bytes": 4194304, "mediatype": "application/json", "contains": […], "beginning": "…"}

A value of a user that has a member ``$blob`` itself is stored as a blob however small it is. So whatever has that member
in one of these four places is a reference of the board, and nobody's data can be taken for one.

Blobs belong to a run: equal values of one run are stored once, and a run's blobs go with it (:meth:`Blobs.delete_run`).

Source of the pattern: Hohpe and Woolf, *Enterprise Integration Patterns*, "Claim Check"; CloudEvents extension ``dataref``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from blackboard.errors import BadInput, BlobDamaged

MARK = "$blob"
INLINE_BYTES = 256 * 1024
"""Largest value that stands on the board itself, as JSON, unless the board says otherwise."""
LEAST_INLINE_BYTES = 1024
MOST_INLINE_BYTES = 1024 * 1024
BEGINNING_CHARACTERS = 2_000
NAMES = 50
"""How many names of an object's members a reference tells."""
ON_THE_BOARD = "redis"
"""The default store: the board's own server, on the run's shard."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_THREAD_BYTES = 1 << 20
"""From here on hashing and parsing are worth a thread."""
_OWNER = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,127}|[a-z]+:(?:[a-z0-9][a-z0-9._-]{0,63})?)\Z")
"""Whose values they are: a run's, by its id, or those of another scope of entries, which has a colon."""


class Blob(dict[str, JsonValue]):
    """The reference to a value that is not here. :meth:`Blobs.load` (or ``Board.load``) gives the value.

    It is a JSON object as well, so it can be shown, dumped and compared like one.
    """

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hexadecimal digits, over the value as compact JSON in ASCII."""
        return cast(str, self[MARK])

    @property
    def bytes(self) -> int:
        """Size of the value as JSON."""
        return cast(int, self["bytes"])

    @property
    def contains(self) -> JsonValue:
        """The names of an object's members (at most :data:`NAMES`), else what it is: ``list of 12``."""
        return self.get("contains")

    @property
    def beginning(self) -> str:
        """The first characters of the value as JSON."""
        return str(self.get("beginning", ""))

    @classmethod
    def of(cls, value: object) -> Blob | None:
        """The reference that stands in one of the four places of the board; None when the value itself stands there."""
        if isinstance(value, Blob):
            return value
        if not isinstance(value, dict) or MARK not in value:
            return None
        found = cls(cast("dict[str, JsonValue]", value))
        size = found.get("bytes")
        return found if isinstance(found[MARK], str) and _DIGEST.match(found.digest) and isinstance(size, int) else None

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes stored apart as {self.digest[:19]}…, beginning {self.beginning[:60]}"


async def reference(text: str, value: object) -> Blob:
    """The reference to a value, which is not stored by this. Arguments as for :meth:`Blobs.check`."""
    body = text.encode("ascii")
    return Blob(
        {
            MARK: f"sha256:{await _hash(body)}", "bytes": len(body), "mediatype": "application/json",
            "contains": _contains(value), "beginning": _beginning(text),
        }
    )  # fmt: skip


class Store(Protocol):
    """A place for blobs. ``name`` is the digest without its ``sha256:``."""

    label: str
    """One line for people and for error messages."""

    async def put(self, run_id: str, name: str, body: bytes) -> None:
        """Store durably; again with the same name and body: no further effect.

        Raises:
            BlobUnavailable: the store cannot be reached or refuses.
        """
        ...

    async def get(self, run_id: str, name: str) -> bytes:
        """The body.

        Raises:
            BlobMissing: there is none (any more).
            BlobUnavailable: the store cannot be reached or refuses.
        """
        ...

    async def delete(self, run_id: str, name: str) -> None:
        """Remove one blob; again: no further effect."""
        ...

    async def delete_run(self, run_id: str) -> None:
        """Remove every blob of a run; again: no further effect."""
        ...


class Blobs:
    """The claim check of a board.

    Args:
        store: where large values go.
        inline_bytes: largest value that stays on the board.
    """

    def __init__(self, store: Store, inline_bytes: int = INLINE_BYTES) -> None:
        self.store, self.inline_bytes = store, inline_bytes

    async def check(self, run_id: str, text: str, value: object, most: int | None = None) -> str:
        """What to put on the board for a value: its JSON, or the JSON of a reference to it, which is stored then.

        Args:
            text: the value as compact JSON in ASCII, as :func:`~blackboard.payloads.dump` writes it.
            most: bytes of it that may stay on the board, where that is less than ``inline_bytes``.

        Raises:
            BlobUnavailable: the store cannot be reached or refuses.
        """
        looks_like_one = isinstance(value, dict) and MARK in value
        room = self.inline_bytes if most is None else min(most, self.inline_bytes)
        if len(text) <= room and not looks_like_one:
            return text
        return json.dumps(await self.keep(run_id, text, cast(object, value)), separators=(",", ":"))

    async def keep(self, run_id: str, text: str, value: object) -> Blob:
        """Store a value whatever its size; the reference to it. Arguments and errors as for :meth:`check`."""
        blob = await reference(text, value)
        await self.store.put(_run(run_id), blob.digest.removeprefix("sha256:"), text.encode("ascii"))
        return blob

    async def load(self, run_id: str, value: JsonValue) -> JsonValue:
        """The value a reference stands for; anything but a :class:`Blob` is returned as it is.

        Raises:
            BlobMissing: the store has nothing under that hash (any more).
            BlobDamaged: what it has is not what was stored.
            BlobUnavailable: the store cannot be reached.
        """
        if not isinstance(value, Blob):
            return value
        text = await self.text(run_id, value)
        if len(text) < _THREAD_BYTES:
            return cast(JsonValue, json.loads(text))
        return cast(JsonValue, await asyncio.to_thread(json.loads, text))

    async def text(self, run_id: str, blob: Blob) -> str:
        """The JSON a reference stands for, verified. Errors as in :meth:`load`."""
        name = blob.digest.removeprefix("sha256:")
        body = await self.store.get(_run(run_id), name)
        if await _hash(body) != name:
            raise BlobDamaged(
                f"{blob.digest} of run {run_id} is damaged in {self.store.label}: its hash is another one. "
                "Restore it from a copy, or submit the request again."
            )
        return body.decode("ascii")

    async def delete(self, run_id: str, blob: Blob) -> None:
        """Remove what a reference stands for; again: no further effect. Nothing else may refer to it.

        Raises:
            BlobUnavailable: the store cannot be reached or refuses.
        """
        await self.store.delete(_run(run_id), blob.digest.removeprefix("sha256:"))

    async def delete_run(self, run_id: str) -> None:
        """Remove every blob of a run, also those that nothing refers to. For retention, after the run's log.

        Raises:
            BadInput: not the id of a run.
            BlobUnavailable: the store cannot be reached; call again.
        """
        await self.store.delete_run(_run(run_id))


def choose(url: str | None) -> str:
    """The store's URL in one form: ``redis``, ``file:///folder`` or ``s3://bucket/prefix``.

    Raises:
        BadInput: anything else.
    """
    if url is None or url in (ON_THE_BOARD, ""):
        return ON_THE_BOARD
    remedy = f"Use {ON_THE_BOARD!r} (the board's own server), file:///absolute/folder or s3://bucket/prefix."
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username or parts.password:
        raise BadInput("blobs", parts.scheme + "://…", f"It takes no options and no credentials. {remedy}")
    path = unquote(parts.path).rstrip("/")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and path.startswith("/"):
        return "file://" + os.path.normpath(path)
    if parts.scheme == "s3" and parts.netloc:
        return f"s3://{parts.netloc}{path}"
    raise BadInput("blobs", url, remedy)


def _run(run_id: str) -> str:
    if not _OWNER.match(run_id):
        raise BadInput("run_id", run_id, "Pass the id that submit() returned.")
    return run_id


async def _hash(body: bytes) -> str:
    if len(body) < _THREAD_BYTES:
        return hashlib.sha256(body).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()


def _contains(value: object) -> JsonValue:
    if isinstance(value, dict):
        names = sorted(str(name) for name in cast("dict[object, object]", value))
        return [name[:100] for name in names[:NAMES]]
    if isinstance(value, list):
        return f"list of {len(cast('list[object]', value))}"
    return "text" if isinstance(value, str) else type(value).__name__


def _beginning(text: str) -> str:
    """The first characters as people read them; the text's last escape may be cut."""
    cut = text[:BEGINNING_CHARACTERS]
    return re.sub(r"(?:\\u[0-9a-f]{4})+", lambda found: _unescaped(found.group()), cut)


def _unescaped(escapes: str) -> str:
    shown = cast(str, json.loads(f'"{escapes}"'))
    return shown.encode("utf-8", "replace").decode("utf-8")  # half a pair at the cut
