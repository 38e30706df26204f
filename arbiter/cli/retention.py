"""How long finished runs are kept: prune, and what ``serve`` is told about it."""

from __future__ import annotations

import argparse

from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.retention import RETENTION, Pruned, Retention, prune
from blackboard.runs import span
from blackboard.types import Status

_FOREVER = "forever"


def policy(keep: str | None, keep_runs: int | None, superseded: str | None = None) -> Retention | None:
    """What a daemon keeps, from ``--keep``, ``--keep-runs`` and ``--compact``; None when that is everything.

    Raises:
        BadInput: an age or a status that makes no sense.
    """
    age = None if superseded is None else span(superseded, field="--compact")
    if keep == _FOREVER:
        if keep_runs is None and age is None:
            return None
        return RETENTION.model_copy(update={"ages": {}, "most_runs": keep_runs, "superseded": age})
    ages = dict(RETENTION.ages)
    for word in options.words(keep or ""):
        name, equals, kept = word.rpartition("=")
        for status in _statuses(name, "--keep") if equals else Status:
            if kept == _FOREVER:
                ages.pop(status, None)
            else:
                ages[status] = span(kept, field="--keep")
    return RETENTION.model_copy(
        update={
            "ages": ages,
            "most_runs": RETENTION.most_runs if keep_runs is None else keep_runs,
            "superseded": age,
        }
    )


async def run(arguments: argparse.Namespace) -> int:
    """Remove finished runs, or tell which would be removed."""
    wanted = _asked(arguments)
    async with await Board.open(**options.place(arguments)) as board:
        done = await prune(board, wanted, limit=arguments.limit, dry_run=arguments.dry_run)
    if arguments.json:
        output.line({**done.model_dump(mode="json"), "dry_run": arguments.dry_run})
    else:
        output.text(_said(done, arguments.dry_run))
        if arguments.dry_run:
            output.note("\n".join(done.ids))
    return OK


def _asked(arguments: argparse.Namespace) -> Retention:
    statuses = _statuses(arguments.status, "--status") if arguments.status else tuple(Status)
    if arguments.older_than is not None:
        ages = dict.fromkeys(statuses, span(arguments.older_than, field="--older-than"))
        return Retention(ages=ages, most_runs=arguments.keep_runs)
    if arguments.status:
        raise BadInput("--status", arguments.status, "Say with --older-than how old they must be; 0s for all.")
    if arguments.keep_runs is not None:
        return Retention(ages={}, most_runs=arguments.keep_runs)
    return RETENTION


def _said(done: Pruned, rehearsed: bool) -> str:
    verb = "would be removed" if rehearsed else "removed"
    parts = ", ".join(f"{count} {status}" for status, count in sorted(done.by_status.items()))
    more = "" if done.complete else "; there are more"
    return f"{done.runs} finished run{'s' * (done.runs != 1)} {verb}{': ' * bool(parts)}{parts}{more}"


def _statuses(text: str, field: str) -> tuple[Status, ...]:
    try:
        return tuple(Status(word) for word in text.split(","))
    except ValueError:
        raise BadInput(field, text, f"Name any of {', '.join(Status)}.") from None
