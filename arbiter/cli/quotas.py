"""The commands about quotas: what each subject may have and has in use, and setting it."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import ValidationError

from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.quotas import Quota, QuotaReport, Quotas, checked_subject

_FIELDS = (
    "at_once",
    "per_second",
    "burst",
    "tokens_per_minute",
    "open_runs",
    "runs_per_second",
    "runs_burst",
    "weight",
)


async def listing(arguments: argparse.Namespace) -> int:
    """List the quotas with what is in use."""
    async with await Board.open(**options.place(arguments)) as board:
        found = await Quotas(board).report()
    if arguments.json:
        for one in found:
            output.line({**one.quota.model_dump(mode="json"), "used": one.model_dump(mode="json", exclude={"quota"})})
    elif found:
        right = {"justify": "right"}
        head: list[tuple[str, dict[str, Any]]] = [
            ("SUBJECT", {"whole": True}), ("AT ONCE", right), ("PER SECOND", right), ("TOKENS A MINUTE", right),
            ("OPEN RUNS", right), ("RUNS PER SECOND", right), ("WEIGHT", right),
        ]  # fmt: skip
        output.print_table(head, [_row(one) for one in found])
    else:
        output.note("no quotas on this board")
    return OK


def _row(one: QuotaReport) -> list[Any]:
    quota = one.quota

    def used(now: int | None, most: int | None) -> str:
        return "" if most is None else f"{now:,} of {most:,}"

    def rate(of: float | None, burst: int) -> str:
        return "" if of is None else f"{of:g}" + (f", bursts of {burst:,}" if burst > 1 else "")

    return [
        quota.subject, used(one.running, quota.at_once), rate(quota.per_second, quota.burst),
        used(one.tokens, quota.tokens_per_minute),
        used(one.open_runs, quota.open_runs), rate(quota.runs_per_second, quota.runs_burst), str(quota.weight),
    ]  # fmt: skip


async def write(arguments: argparse.Namespace) -> int:
    """Give a subject a quota."""
    given = {field: value for field in _FIELDS if (value := getattr(arguments, field)) is not None}
    try:
        quota = Quota.model_validate({"subject": arguments.subject, **given})
    except ValidationError as error:
        raise options.flagged(error, given) from None
    async with await Board.open(**options.place(arguments)) as board:
        await Quotas(board).set(quota)
    output.note(f"{quota.subject} has its quota")
    return OK


async def remove(arguments: argparse.Namespace) -> int:
    """Take a subject's quota away."""
    subject = checked_subject(arguments.subject)
    async with await Board.open(**options.place(arguments)) as board:
        await Quotas(board).remove(subject)
    output.note(f"{subject} has no quota any more")
    return OK
