"""The commands that stop runs, let them rest and let them go on: cancel, pause, resume."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from arbiter.cli import OK, options, output
from arbiter.fold import RunState
from arbiter.stopping import GOING_ON, CancelReport, each, report
from blackboard.board import Board
from blackboard.errors import BadInput, UnknownRecord
from blackboard.runs import Where, span

Act = Callable[[Board, str], Coroutine[Any, Any, str]]


async def cancel(arguments: argparse.Namespace) -> int:
    """Stop a run, one of its tasks, or every run that is meant."""
    if arguments.task is not None and arguments.where is not None:
        raise BadInput("--task", arguments.task, "Name the one RUN it belongs to.")
    return await _do(arguments, lambda board, run: board.cancel_run(run, arguments.reason))


async def pause(arguments: argparse.Namespace) -> int:
    """Let a run, or every run that is meant, rest."""
    seconds = span(arguments.span, field="--for")
    return await _do(arguments, lambda board, run: board.pause_run(run, arguments.reason, seconds=seconds))


async def resume(arguments: argparse.Namespace) -> int:
    """Let a paused run, or every one that is meant, go on."""
    return await _do(arguments, lambda board, run: board.resume_run(run))


async def _do(arguments: argparse.Namespace, act: Act) -> int:
    if (arguments.run is None) == (arguments.where is None):
        raise BadInput("RUN", arguments.run, "Name a run, or say with --where which are meant.")
    wait = getattr(arguments, "wait", False)
    async with await Board.open(**options.place(arguments)) as board:
        if arguments.where is None:
            run = await options.run_id(board, arguments.run)
            if (task := getattr(arguments, "task", None)) is not None:
                state = await board.cancel_task(await _task(board, run, task), arguments.reason)
            else:
                state = await act(board, run)
            _tell(arguments, await _ended(board, run) if wait else None, run, state)
            return OK
        where = Where.parse(arguments.where)
        if arguments.dry_run:
            act = _nothing
        told = 0
        async with contextlib.aclosing(each(board, where, lambda run: act(board, run))) as done:
            async for run, state in done:
                told += 1
                _tell(arguments, await _ended(board, run) if wait and not arguments.dry_run else None, run, state)
    if not told and not arguments.json:
        output.note(f"no such runs on this board that are {', '.join(GOING_ON)}")
    return OK


async def _nothing(board: Board, run: str) -> str:
    return (await board.summary(run)).status


async def _task(board: Board, run: str, word: str) -> str:
    """The id of the task that is meant by an id, a key with its round, or a key."""
    tasks = [event.subject for event in await board.history(run) if event.type == "dev.arbiter.task.posted.v1"]
    fits = [id for id in tasks if word in (id, id.partition("/")[2], id.partition("/")[2].partition(".")[2])]
    if not fits:
        raise UnknownRecord("UNKNOWN", f"run {run} has no task {word}")
    if len(fits) > 1:
        raise BadInput("--task", word, f"Say which round: {', '.join(id.partition('/')[2] for id in fits)}.")
    return fits[0]


async def _ended(board: Board, run: str) -> CancelReport:
    """The report when the run has ended."""
    state = RunState(run)
    async with contextlib.aclosing(board.watch(run)) as events:
        async for event in events:
            state.apply(event)
    return report(state)


def _tell(arguments: argparse.Namespace, done: CancelReport | None, run: str, state: str) -> None:
    if arguments.json:
        output.line({"run_id": run, "status": state} if done is None else done.model_dump(mode="json"))
        return
    output.text(state if arguments.where is None and done is None else f"{run}  {done.status if done else state}")
    for task, fate in done.tasks.items() if done else ():
        output.text(f"  {task.partition('/')[2]}  {fate}")
