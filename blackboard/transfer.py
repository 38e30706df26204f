"""A finished run as it is stored, to be taken from one board and put on another as history."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from blackboard import _script, entry, events
from blackboard.board import Board
from blackboard.errors import BadInput, UnknownRecord
from blackboard.types import Status

LOG_BYTES = 64 * 1024 * 1024
"""Largest log that can be put on a board: it is written in one step."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_POSITION = re.compile(r"(\d{1,15})-(\d{1,15})\Z")
_PAGE = 200


class Entry(NamedTuple):
    """One event of a log, as stored."""

    position: str
    type: str
    subject: str
    id: str
    data: str


async def take(board: Board, run_id: str) -> tuple[dict[str, Any], list[Entry]]:
    """Header and log of a finished run.

    Raises:
        UnknownRecord: no such run.
        BadInput: it is not over.
    """
    shard, client = board.shard_of(run_id), cast(Any, board.client)
    raw: str | None = await _script.retrying(lambda: client.hget(shard.runs, run_id))
    if raw is None:
        raise UnknownRecord("UNKNOWN", f"no run {run_id} on board {board.namespace}/{board.name}")
    header: dict[str, Any] = json.loads(raw)
    if "ended" not in header:
        raise BadInput("run", run_id, f"It is {header['state']}. Wait for its end, or cancel it.")
    found: list[Entry] = []
    start = "-"
    while True:
        page: list[tuple[str, Mapping[str, str]]] = await _script.retrying(
            lambda at=start: cast(Awaitable[Any], client.xrange(shard.log(run_id), min=at, count=_PAGE))
        )
        found += [Entry(at, f["type"], f["subject"], f["id"], f["data"]) for at, f in page]
        if len(page) < _PAGE:
            break
        start = "(" + page[-1][0]
    if not found:
        raise UnknownRecord("UNKNOWN", f"run {run_id} was removed while it was read")
    return header, found


async def put(
    board: Board, run_id: str, log: Sequence[Entry], *, text: str, fingerprint: str, at: int = 0, ended: int = 0
) -> None:
    """Put a finished run on a board as history: listed and shown, never executed. All of it or nothing.

    Args:
        log: from ``run.accepted`` to ``run.completed``.
        text: first characters of the request, for listings.
        fingerprint: hash of the request, so that its idempotency key stays taken.
        at, ended: when it was accepted and when it ended, in ms, where the log's own times are almost the same.

    Raises:
        BadInput: not the log of one finished run, or a log too large.
        Conflict: the board has a run of this id.
    """
    accepted, over = checked(run_id, log)
    header: dict[str, JsonValue] = {
        "tenant": accepted["tenant"], "sha": fingerprint, "text": text[:120], "state": over["status"],
        "at": _about(at, log[0]), "ended": _about(ended, log[-1]), "dl": _ms(log[-1]), "ver": 1, "sats": 0, "smax": 0,
        "round": sum(one.type == "round.planned" for one in log),
        "n": sum(one.type == "task.posted" and json.loads(one.data)["kind"] not in ("step", "control") for one in log),
    }  # fmt: skip
    flat = [part for one in log for part in one]
    shard = board.shard_of(run_id)
    await _script.run(
        board.client, _script.load("import_run"), [*shard.declare((), run_id), *shard.entries(run_id)],
        [0, run_id, secrets.token_hex(16), json.dumps(header), *_entries(run_id, board.source, log), *flat],
        recover=board.engine.ensure,
    )  # fmt: skip


def _entries(run_id: str, source: str, log: Sequence[Entry]) -> list[str | int]:
    """What the entries in a log are found by, as the script takes it."""
    facts = [one for one in log if one.type.startswith(entry.FACTS)]
    fold = entry.Fold().apply(
        events.parse(
            one.position, {"type": one.type, "subject": one.subject, "id": one.id, "data": one.data}, run_id, source
        )
        for one in facts
    )
    said: list[str | int] = [len(fold.entries)]
    for one in fold.entries.values():
        links = entry.link_members(one) if one.state == "live" else []
        said += [one.id, entry.header(one), entry.member(one) if one.state == "live" else "", len(links), *links]
    return [*said, len(fold.topics), *(part for pair in fold.topics.items() for part in pair)]


def checked(run_id: str, log: Sequence[Entry]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data of the first and of the last event of a log that is whole.

    Raises:
        BadInput: it is not.
    """
    if not _RUN_ID.match(run_id):
        raise BadInput("run_id", run_id, "It cannot be the id of a run.")
    last = (0, 0)
    for one in log:
        match = _POSITION.match(one.position)
        at = (int(match[1]), int(match[2])) if match else (0, 0)
        if at <= last:
            raise BadInput("position", one.position, "Positions of a log rise; it was changed.")
        last = at
        if one.subject != run_id and not one.subject.startswith(f"{run_id}/"):
            raise BadInput("subject", one.subject, f"It is not of run {run_id}; the log was changed.")
        if one.type.startswith(entry.FACTS) and entry.owner_of_entry(one.subject) != run_id:
            raise BadInput("subject", one.subject, f"It is not an entry of run {run_id}; the log was changed.")
    if sum(len(one.data) for one in log) > LOG_BYTES:
        raise BadInput("log", f"{len(log)} events", f"At most {LOG_BYTES:,} bytes can be put on a board.")
    if not log or log[0].type != "run.accepted" or log[-1].type != "run.completed":
        raise BadInput("log", f"{len(log)} events", "It must reach from run.accepted to run.completed.")
    accepted, ended = json.loads(log[0].data), json.loads(log[-1].data)
    if ended.get("status") not in set(Status):
        raise BadInput("status", ended.get("status"), f"A run ends as {', '.join(Status)}.")
    return accepted, ended


def _about(said: int, entry: Entry) -> int:
    """The header's time, which may be a little beside the event's; the event's when it is not."""
    return said if abs(said - _ms(entry)) < 1000 else _ms(entry)


def _ms(entry: Entry) -> int:
    return int(entry.position.partition("-")[0])
