"""The commands about schedules: schedule add, list, show, remove, enable, disable, run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from arbiter.live import state_style
from arbiter.plans import summary
from arbiter.schedules import schedule_of
from blackboard.schedule import Scheduled
from blackboard.schedules import Schedules

_STYLE = {"enabled": "running", "disabled": "queued", "completed": "succeeded"}


async def add(arguments: argparse.Namespace) -> int:
    """Store a schedule, or find it already there."""
    async with options.on_board(arguments, Schedules) as schedules:
        limits = options.limits(arguments)
        wanted = schedule_of(
            arguments.name, options.request(arguments.request), at=arguments.at, rate=arguments.rate,
            cron=arguments.cron, timezone=arguments.timezone, start=arguments.start, end=arguments.end,
            window=arguments.window, catch_up=arguments.catch_up, overlap=arguments.overlap,
            delete_after_completion=arguments.delete_after_completion, tenant=arguments.tenant,
            limits=limits if limits.model_fields_set else None, sources=arguments.source,
            plan=options.plan(arguments.plan),
        )  # fmt: skip
        enabled = False if arguments.disabled else None
        return _said(await schedules.add(wanted, enabled=enabled, replace=arguments.replace), arguments)


async def listing(arguments: argparse.Namespace) -> int:
    """List the schedules of the board."""
    async with options.on_board(arguments, Schedules) as schedules:
        found = await schedules.list()
        if arguments.json:
            for one in found:
                output.line(_record(one))
        elif not found:
            output.note("no schedules on this board")
        else:
            _print_table(found)
        return OK


async def show(arguments: argparse.Namespace) -> int:
    """Show one schedule."""
    async with options.on_board(arguments, Schedules) as schedules:
        one = await schedules.get(arguments.name)
        if arguments.json:
            output.line(_record(one))
        else:
            output.text("\n".join(f"{name:10} {value}" for name, value in _lines(one)))
        return OK


async def remove(arguments: argparse.Namespace) -> int:
    """Forget a schedule."""
    return await options.removal(arguments, lambda board: Schedules(board).remove, "schedule")


async def enable(arguments: argparse.Namespace) -> int:
    """Let a schedule occur again."""
    async with options.on_board(arguments, Schedules) as schedules:
        return _said(await schedules.enable(arguments.name), arguments)


async def disable(arguments: argparse.Namespace) -> int:
    """Keep a schedule from occurring."""
    async with options.on_board(arguments, Schedules) as schedules:
        return _said(await schedules.disable(arguments.name), arguments)


async def run(arguments: argparse.Namespace) -> int:
    """Submit the request of a schedule now and print the run's id."""
    async with options.on_board(arguments, Schedules) as schedules:
        run_id = await schedules.run_now(arguments.name)
        if arguments.json:
            output.line({"run_id": run_id})
        else:
            output.text(run_id)
        return OK


def _said(one: Scheduled, arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.line(_record(one))
    else:
        coming = _when(one, one.next_at)
        output.text(f"{one.schedule.name} {one.status}{f', next {coming} {one.schedule.timezone}' if coming else ''}")
    return OK


def _when(one: Scheduled, at: float | None) -> str:
    """A time as the wall clock of the schedule's own zone shows it, which its times are written for; empty for None."""
    return "" if at is None else narration.moment(at, one.schedule.timezone)


def _record(one: Scheduled) -> dict[str, Any]:
    record = one.model_dump(mode="json")
    return {**record.pop("schedule"), **record}


def _lines(one: Scheduled) -> list[tuple[str, str]]:
    schedule = one.schedule
    bounds = [f"from {_when(one, schedule.start)}"] if schedule.start is not None else []
    bounds += [f"until {_when(one, schedule.end)}"] if schedule.end is not None else []
    window = f", within {narration.seconds(schedule.window_seconds)}" if schedule.window_seconds else ""
    request = (
        schedule.request if isinstance(schedule.request, str) else json.dumps(schedule.request, ensure_ascii=False)
    )
    found = [
        ("name", schedule.name),
        ("when", " ".join([f"{schedule.when} {schedule.timezone}{window}", *bounds])),
        ("status", one.status),
        ("next", _when(one, one.due_at) or "-"),
        ("last", f"{_when(one, one.last_at)} run {one.last_run}" if one.last_at is not None else "-"),
        ("fired", str(one.fired)),
        ("skipped", f"{one.missed} missed, {one.overlapped} overlapping, {one.failed} refused"),
        ("tenant", schedule.tenant),
        ("request", narration.printable(request)),
    ]
    if schedule.plan:
        found.append(("plan", narration.one_line(summary(schedule.plan), 500)))
    return [*found, ("error", narration.one_line(one.last_error, 500))] if one.last_error else found


def _planned(one: Scheduled) -> str:
    return f" (plan of {summary(one.schedule.plan)})" if one.schedule.plan else ""


def _print_table(found: list[Scheduled]) -> None:
    right = {"justify": "right"}
    head: list[tuple[str, dict[str, Any]]] = [
        ("NAME", {"whole": True}), ("WHEN", {"min_width": 12}), ("ZONE", {}), ("STATUS", {"whole": True}),
        ("NEXT", {"whole": True}), ("FIRED", right), ("SKIPPED", right),
        ("REQUEST", {}),
    ]  # fmt: skip
    rows: list[list[str | Text]] = [
        [
            one.schedule.name,
            one.schedule.when,
            one.schedule.timezone,
            Text(one.status, state_style(_STYLE[one.status])),
            _when(one, one.next_at),
            str(one.fired),
            str(one.missed + one.overlapped + one.failed),
            narration.one_line(str(one.schedule.request) + _planned(one), 200),
        ]
        for one in found
    ]
    output.print_table(head, rows)
