"""The command why: what the matcher decided in a run and what led to it, what of the board its model was shown, and which
tasks waited for a person; or why a task is what it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from arbiter.fold import Task, current, fold
from arbiter.outcomes import outcomes
from arbiter.task_reasons import AttemptEnd, TaskReasons, reasons
from blackboard.board import Board
from blackboard.events import Context
from blackboard.taint import TaintPolicy
from registry.matching import MatchDecision


async def why(arguments: argparse.Namespace) -> int:
    """Tell, of each round of a run, what was chosen to be shown, which capabilities were found for what, and what followed.

    Of a task: what made it, why this capability and version, what it waited for, and how its attempts ended.
    """
    run, slash, task = arguments.run.partition("/")
    return await (_why_task(arguments, run, task) if slash else _why(arguments))


async def _why_task(arguments: argparse.Namespace, run: str, task: str) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        run_id = await options.run_id(board, run)
        state = await current(board, run_id)
        told = reasons(state, await board.history(run_id), f"{run_id}/{task}")
    if arguments.json:
        output.line(told.model_dump(mode="json"))
        return OK
    console = output.console()
    name = narration.one_line(told.capability, 64)
    console.print(
        Text(f"{narration.one_line(told.task, 200)}  {told.kind} {name}, {told.state}", "bold"), soft_wrap=True
    )
    for line in _made(told):
        console.print(Text(f"  {line}"), soft_wrap=True)
    if told.decision is not None:
        console.print(Text(f"  The matcher's decision in round {told.decided_in}:"), soft_wrap=True)
        tell(console, told.decision)
    elif told.kind == "capability":
        console.print(Text("  No decision of the matcher names it."), soft_wrap=True)
    for line in _went(told, state.tasks[told.task]):
        console.print(Text(f"  {line}"), soft_wrap=True)
    return OK


def _made(told: TaskReasons) -> Iterator[str]:
    """What made a task, and its version."""
    if told.tool is not None:
        yield f"Posted in round {told.posted_in}: the model called {told.tool} {narration.one_line(told.given)}"
    elif told.activation is not None:
        yield f"Posted for activation {told.activation} of the run's agenda; arbiter agenda explain says why that was picked."
    elif told.kind == "capability" and told.posted_in == 0:
        yield "Posted as what the run was accepted to call."
    if told.made_by is not None:
        yield f"The capability was made by {narration.one_line(told.made_by, 200)}"
    if told.version is not None:
        pinned = {None: "not pinned", 0: "pinned when the run was accepted"}.get(
            told.pinned_in, f"pinned in round {told.pinned_in} for the rest of the run"
        )
        yield f"Version {told.version[:12]}, {pinned}."
    if told.shown:
        yield f"The model of that round was shown it, as one of {told.shown:,}."


def _went(told: TaskReasons, task: Task) -> Iterator[str]:
    """What a task waited for, and how its attempts ended."""
    for one in told.waited_for:
        took = "" if one.seconds is None else f" after {narration.seconds(one.seconds)}"
        yield f"Waited for {narration.one_line(one.task, 200)} ({narration.one_line(one.capability, 64)}): {one.state}{took}"
    if told.waited_seconds:
        yield f"Could begin {narration.seconds(told.waited_seconds)} after it was posted."
    if told.asked is not None:
        yield waited(task)
    if told.awaited is not None or told.answered is not None:
        yield outside(task)
    for stage in narration.stages(task):
        detail = f": {narration.one_line(stage.detail, 200)}" if stage.detail else ""
        yield f"{narration.stage_name(stage)} {stage.outcome}{detail}"
    if told.stopping:
        yield f"Told to stop: {narration.one_line(told.stopping, 200)}"
    if told.taken_over_from is not None:
        yield f"Nothing was done for it: its result is taken over from {narration.one_line(told.taken_over_from, 200)}"
        return
    for each in told.attempts:
        yield _ended(each, told.worker if each.ended != "repeated" else None)
    if not any(each.ended != "repeated" for each in told.attempts):
        yield f"It is {told.state}, after {narration.count(told.begun, 'attempt')} begun."


def _ended(each: AttemptEnd, worker: str | None) -> str:
    why = f": {narration.failure(each.error, 400)}" if each.error else ""
    if each.delay_seconds is not None:
        return f"Attempt {each.number} failed, again in {narration.seconds(each.delay_seconds)}{why}"
    by = f" on {narration.one_line(worker, 80)}" if worker else ""
    return (
        f"Attempt {each.number} ended as {each.ended}{by}{why}"
        if each.number
        else f"Ended as {each.ended} without an attempt{why}"
    )


async def _why(arguments: argparse.Namespace) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        run_id = await options.run_id(board, arguments.run)
        state = fold(run_id, await board.history(run_id))
    console = output.console()
    found = False
    turned_out = outcomes(state, TaintPolicy.of(None)) if state.status == "succeeded" else []
    for turn in state.rounds:
        if turn.context is not None:
            found = True
            if arguments.json:
                output.line({"round": turn.number, "context": turn.context.model_dump(mode="json")})
            else:
                console.print(Text(shown(turn.number, turn.context), "bold"), soft_wrap=True)
        called = ", ".join(dict.fromkeys(call.name for call in turn.calls)) or "an answer"
        for given in turn.matches:
            found = True
            decision = MatchDecision.model_validate(given)
            served = next((each for each in turned_out if each.decision == decision), None)
            if arguments.json:
                names = list(served.served) if served else None
                output.line({"round": turn.number, "followed": called, **given, "served": names})
                continue
            console.print(Text(f"Round {turn.number}, followed by {called}", "bold"))
            tell(console, decision)
            if served is not None:
                judged = {True: "the best candidate", False: "not the best candidate", None: "no candidate"}[
                    served.right
                ]
                console.print(Text(f"  served in the end by {', '.join(served.served)}: {judged}"), soft_wrap=True)
    for task in state.work:
        if task.awaited is not None or task.answered is not None:
            found = True
            if arguments.json:
                waited_for = task.awaited.model_dump(mode="json") if task.awaited else None
                answered = task.answered.model_dump(mode="json") if task.answered else None
                output.line({"task": task.id, "awaited": waited_for, "answered": answered})
            else:
                console.print(Text(outside(task), "bold"), soft_wrap=True)
        if task.asked is None:
            continue
        found = True
        said = task.said.model_dump(mode="json") if task.said else None
        if arguments.json:
            output.line({"task": task.id, "asked": task.asked.model_dump(mode="json"), "said": said})
        else:
            console.print(Text(waited(task), "bold"), soft_wrap=True)
    if not found:
        output.note(
            "no decision of the matcher, nothing that was chosen to be shown, and no wait for a person or for an answer from "
            "outside is recorded in this run"
        )
    return OK


def waited(task: Task) -> str:
    """What a task waits for a person to say, or what was said, in words."""
    name = f"{narration.one_line(task.key, 64)} ({narration.one_line(task.capability, 64)})"
    if task.asked is not None and task.said is None:
        ended = f", and ended as {task.state} meanwhile" if task.done else ""
        return f"{name} {narration.for_person(task.asked)}{ended}"
    said = task.said
    by = f" by {narration.one_line(said.by, 80)}" if said and said.by else ", as nobody answered in time"
    why = f": {narration.one_line(said.text, 200)}" if said and said.text else ""
    return f"{name} was {said.state if said else ''}{by}{why}"


def outside(task: Task) -> str:
    """What a task waits for from outside, or who answered, in words."""
    name = f"{narration.one_line(task.key, 64)} ({narration.one_line(task.capability, 64)})"
    if task.for_outside is not None:
        return f"{name} {narration.for_outside(task.for_outside)}"
    if task.answered is None:
        return f"{name} waited for an answer from outside, which did not come"
    return f"{name} {task.answered.status} outside, said {narration.one_line(task.answered.by, 80)}"


def shown(number: int, context: Context) -> str:
    """What a round was shown that was chosen for it, in words."""
    instead = f" instead of rounds 1 to {context.first - 1}" if context.first > 1 else ""
    listed = "".join(f"\n    {one.entry} as of {one.position}" for one in context.entries) or " nothing"
    return f"Round {number} was shown from the board{instead}:{listed}"


def tell(console: Console, decision: MatchDecision) -> None:
    """A decision in words."""
    chosen = f" {', '.join(decision.chosen)}" if decision.chosen else ""
    fitted = f", as {decision.own_cases:,} needs of this board suggest" if decision.own_cases else ""
    costs = ", ".join(f"{way} {cost:.2f}" for way, cost in decision.costs.items())
    console.print(Text(f"  {narration.one_line(decision.need, 200)}"), soft_wrap=True)
    console.print(
        Text(f"  {decision.outcome}{chosen} (p {decision.probability:.2f}{fitted}); expected costs: {costs}"),
        soft_wrap=True,
    )
    if decision.doubts:
        console.print(Text(f"    {decision.doubts}"), soft_wrap=True)
    for each in decision.candidates:
        reasons = "; ".join(each.reasons)
        console.print(Text(f"    {each.score:.3f}  {each.name}  {narration.one_line(reasons, 200)}"), soft_wrap=True)
    for said in decision.left_out:
        console.print(Text(f"    left out: {narration.one_line(said, 200)}"), soft_wrap=True)
