"""What one scope learned, kept in another that lasts longer: a session's, a tenant's, or everybody's."""

from __future__ import annotations

import hashlib

from blackboard import taint
from blackboard.entries import Entries, Written
from blackboard.entry import owner_of, owner_of_entry
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from blackboard.events import Author


class _AsItWas(Entries):
    """Entries that are written in the name of whoever wrote them first."""

    def _by(self, author: Author | None) -> str:
        return (author or self._author).model_dump_json(exclude_none=True)


async def promote(
    entries: Entries, entry_id: str, to: str, *, topic: str | None = None, operation: str | None = None
) -> Written:
    """Write what an entry says in another scope: with its author, confidence and sources, ``derived_from`` it.

    The same entry in the same version, promoted again, is the entry that is there. Later amendments of the first do not reach
    the other; promote it again.

    Args:
        entries: of the entry's scope.
        to: ``tenant:NAME``, ``session:NAME``, ``group:NAME`` or ``public``.
        topic: where it is found there. Default: as here.
        operation: as of :meth:`~blackboard.entries.Entries.post`. Default: named by the entry, its version and the topic.

    Raises:
        BadInput: no such scope, the entry's own, or a run's: what is in one ends with it.
        UnknownRecord: there is no such entry.
        ScriptRefused: ``ENDED``, it does not count any more.
        Oversized, Conflict: as :meth:`~blackboard.entries.Entries.post`.
    """
    if ":" not in owner_of(to) or owner_of(to) == owner_of_entry(entry_id):
        raise BadInput(
            "to", to, "Name a scope that lasts and is not the entry's own: tenant:NAME, session:NAME or public."
        )
    entry = await entries.read(entry_id)
    if entry is None:
        raise UnknownRecord("UNKNOWN", f"no entry {entry_id} on this board")
    if not entry.counts:
        raise ScriptRefused("ENDED", f"entry {entry_id} is {entry.state}")
    found_at = entry.topic if topic is None else topic
    named = hashlib.sha256(f"{entry_id}\0{entry.said_version}\0{found_at}".encode()).hexdigest()
    return await _AsItWas(entries.board, to, checker=entries.checker).post(
        found_at, entry.content, confidence=entry.confidence, links=[("derived_from", entry_id)],
        taint=entry.taint or taint.UNKNOWN, author=entry.author, operation=operation or f"promote:{named}",
    )  # fmt: skip
