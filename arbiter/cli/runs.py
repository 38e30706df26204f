"""The commands about runs: run, submit, call, rerun, runs, show, events."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from arbiter import loading, narration
from arbiter.cli import NOT_SUCCEEDED, OK, attended, options, output
from arbiter.fold import RunState, current
from arbiter.live import Progress, state_style, view
from arbiter.records import cost_record
from blackboard.board import Board
from blackboard.budgets import Budgets
from blackboard.events import Event
from blackboard.runs import Where, find

GRACE_SECONDS = 1.0
"""What running work gets when a command that was waiting for it is interrupted."""

NO_SANDBOX = "isolation is set to 'process': generated code is not kept from your files and the network"


@attended
async def run(arguments: argparse.Namespace) -> int:
    """Serve all roles here until one run has ended, and print its answer."""
    output.log_to_stderr(logging.ERROR)
    request = options.request(arguments.request)
    limits, plan = options.limits(arguments), options.plan(arguments.plan)
    capabilities = loading.capabilities(arguments.capabilities)
    from arbiter.sdk import Arbiter

    async with Arbiter(
        model=arguments.model, fabricator_model=arguments.fabricator_model,
        examiner_model=arguments.examiner_model, capabilities=capabilities,
        grace_seconds=GRACE_SECONDS, isolation=arguments.isolation, taint=arguments.taint_policy,
        fabrication=arguments.fabrication, choosing=arguments.choosing, matcher=arguments.encoder,
        approval=arguments.approval_policy, instructions=options.instructions(arguments),
        **options.place(arguments),
    ) as served:  # fmt: skip
        if not served.sandboxed:
            output.note(NO_SANDBOX)
        run_id = await served.submit(
            request,
            idempotency_key=arguments.key,
            tenant=arguments.tenant,
            limits=limits,
            sources=arguments.source,
            plan=plan,
        )
        if not arguments.quiet:
            output.note(f"Model: {narration.one_line(served.model_label)}    Board: {served.board.engine.label}")
        try:
            async with asyncio.timeout(arguments.timeout):
                with Progress(quiet=arguments.quiet) as progress:
                    state = await progress.follow(run_id, served.stream(run_id=run_id))
        except TimeoutError:
            raise TimeoutError(
                f"Run {run_id} has not ended after {arguments.timeout:g} s. {goes_on(run_id, arguments.board)}"
            ) from None
        except asyncio.CancelledError:
            output.note(f"interrupted: {goes_on(run_id, arguments.board)}")
            raise
    return concluded(state, as_json=arguments.json)


def _there(board: str) -> str:
    return "" if board == "main" else f" --board {board}"


def goes_on(run_id: str, board: str) -> str:
    there = _there(board)
    return f"It stays on the board: continue it with 'arbiter serve{there}', or end it with 'arbiter cancel {run_id}{there}'."


def concluded(state: RunState, *, as_json: bool, extra: dict[str, Any] | None = None) -> int:
    """Print a run that is over and return its exit code."""
    if as_json:
        output.line({**(extra or {}), **output.run_record(state)})
    elif state.answer is not None and state.status == "succeeded":
        output.text(state.answer)
    elif state.call is not None and state.status == "succeeded":
        output.text(state.data if isinstance(state.data, str) else json.dumps(state.data, ensure_ascii=False))
    if state.status == "succeeded":
        return OK
    why = f": {narration.failure(state.error, 1000)}" if state.error else ""
    output.note(f"run {state.run_id} {state.status}{why}")
    return NOT_SUCCEEDED


async def submit(arguments: argparse.Namespace) -> int:
    """Put a request on the board and print the run's id."""
    request = options.request(arguments.request)
    limits, plan = options.limits(arguments), options.plan(arguments.plan)
    from arbiter.sdk import Arbiter

    async with Arbiter(roles=(), **options.place(arguments)) as client:
        run_id = await client.submit(
            request,
            idempotency_key=arguments.key,
            tenant=arguments.tenant,
            limits=limits,
            sources=arguments.source,
            plan=plan,
        )
    return _submitted(arguments, run_id)


async def rerun(arguments: argparse.Namespace) -> int:
    """Put a rerun of a run that is over on the board and print its id."""
    from arbiter import rerunning
    from arbiter.sdk import Arbiter

    async with Arbiter(roles=(), **options.place(arguments)) as client:
        of = await options.run_id(client.board, arguments.run)
        run_id = await client.rerun(
            of,
            limits=options.limits(arguments, rerunning.limits_of((await client.show(of)).state)),
            current_versions=arguments.current_versions,
            idempotency_key=arguments.key,
        )
    return _submitted(arguments, run_id)


def _submitted(arguments: argparse.Namespace, run_id: str) -> int:
    if arguments.json:
        output.line({"run_id": run_id})
    else:
        output.text(run_id)
        if sys.stdout.isatty():  # somebody looks who may not know what comes next
            there = _there(arguments.board)
            output.note(f"'arbiter serve{there}' runs it; 'arbiter show {run_id}{there}' says how far it is.")
    return OK


@attended
async def call(arguments: argparse.Namespace) -> int:
    """Put a call of one capability on the board; print the run's id or, if asked, wait and print what it returned."""
    given = options.given(arguments.input)
    limits = options.limits(arguments)
    from arbiter.calls import Call
    from arbiter.sdk import Arbiter

    wanted = Call(arguments.name, given, arguments.sha, arguments.priority)
    async with Arbiter(roles=(), **options.place(arguments)) as client:
        run_id = await client.submit(
            wanted, idempotency_key=arguments.key, tenant=arguments.tenant, limits=limits, sources=arguments.source
        )
        if arguments.wait:
            try:
                result = await client.result(run_id, timeout=arguments.timeout)
            except asyncio.CancelledError:
                output.note(f"interrupted: {goes_on(run_id, arguments.board)}")
                raise
            return concluded(result.state, as_json=arguments.json)
    if arguments.json:
        output.line({"run_id": run_id})
    else:
        output.text(run_id)
    return OK


async def runs(arguments: argparse.Namespace) -> int:
    """List the latest runs."""
    async with await Board.open(**options.place(arguments)) as board:
        page = await find(board, Where.parse(arguments.where), limit=arguments.limit, after=arguments.after)
    found = page.runs
    if page.after is not None and arguments.where and len(found) < arguments.limit:
        output.note(f"looked at {page.examined:,} runs; go on with --after {page.after}")
    if arguments.json:
        for one in found:
            output.line(output.summary_record(one))
        return OK
    if not found:
        output.note("no such runs on this board" if arguments.where else "no runs on this board")
        return OK
    rows: list[list[str | Text]] = [
        [
            one.id,
            Text(one.status, state_style(one.status)),
            narration.moment(one.created_at),
            narration.seconds(one.ended_at - one.created_at) if one.ended_at is not None else "",
            str(one.round),
            str(one.tasks),
            one.tenant,
            narration.one_line(one.request, 200),
        ]
        for one in found
    ]
    right = {"justify": "right"}
    head: list[tuple[str, dict[str, Any]]] = [
        ("RUN", {"whole": True}),
        ("STATUS", {"whole": True}),
        ("ACCEPTED", {"whole": True}),
        ("TOOK", right),
        ("ROUNDS", right),
        ("TASKS", right),
        ("TENANT", {"max_width": 16}),
        ("REQUEST", {}),
    ]
    output.print_table(head, rows)
    return OK


async def show(arguments: argparse.Namespace) -> int:
    """Show one run as it is now."""
    async with await Board.open(**options.place(arguments)) as board:
        run_id = await options.run_id(board, arguments.run)
        state = await current(board, run_id)
        account = await Budgets(board).money(f"run:{run_id}")
    if arguments.json:
        output.line({**output.run_record(state, whole=True), **cost_record(account)})
        return OK
    console = output.console()
    console.print(view(state, state.ended_at or datetime.now(UTC), ascii_only=console.options.ascii_only))
    console.print(Text(f"Sources: {narration.sources(state.taint)}"))
    if state.plan:
        from arbiter.plans import summary

        console.print(Text(f"Plan: given, {narration.one_line(summary(state.plan), 500)}"))
    if cost := narration.cost(state, account):
        console.print(Text(f"Cost: {cost}"))
    if state.answer:
        output.text(f"\n{state.answer}")
    for said in narration.traces(state):
        output.text(f"\n{said}")
    return OK


@attended
async def events(arguments: argparse.Namespace) -> int:
    """Print events, of one run or of the latest runs, and go on with new ones if asked."""
    if arguments.archive is not None:
        from arbiter.cli import archive

        return await archive.events(arguments)
    async with (
        await Board.open(**options.place(arguments)) as board,
        contextlib.aclosing(_chosen(board, arguments)) as stream,
    ):
        async for event in stream:
            if arguments.json:
                print(narration.escaped(event.model_dump_json()), flush=True)
            elif (said := narration.narrate(event)) is not None:
                print(narration.timestamped(event, said, with_run=arguments.run is None), flush=True)
    return OK


async def _chosen(board: Board, arguments: argparse.Namespace) -> AsyncGenerator[Event, None]:
    if arguments.run is not None:
        run_id = await options.run_id(board, arguments.run)
        one: AsyncIterator[Event] = board.watch(run_id) if arguments.follow else _listed(await board.history(run_id))
        async for event in one:
            yield event
        return
    past: list[Event] = []
    async with contextlib.aclosing(board.feed.follow(board)) as feed:
        # The first step of the feed is taken before the past is read, so that nothing falls between the two.
        coming = asyncio.ensure_future(anext(feed)) if arguments.follow else None
        await asyncio.sleep(0)
        try:
            for summary in await board.runs(arguments.limit):
                past += await board.history(summary.id)
            past.sort(key=lambda event: event.sequence)
            for event in past:
                yield event
            seen = {(event.subject, event.id) for event in past}
            while coming is not None:
                event = await coming
                if (event.subject, event.id) not in seen:
                    yield event
                coming = asyncio.ensure_future(anext(feed))
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


async def _listed(log: list[Event]) -> AsyncIterator[Event]:
    for event in log:
        yield event
