"""The command why: what the matcher decided in a run and what led to it, what of the board its model was shown, and which
tasks waited for a person."""

from __future__ import annotations

import argparse
import asyncio

from rich.console import Console
from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from arbiter.fold import Task, fold
from arbiter.outcomes import outcomes
from blackboard.board import Board
from blackboard.events import Context
from blackboard.taint import TaintPolicy
from registry.matching import MatchDecision


def why(arguments: argparse.Namespace) -> int:
    """Tell, of each round of a run, what was chosen to be shown, which capabilities were found for what, and what followed."""
    return asyncio.run(_why(arguments))


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
            "no decision of the matcher, nothing that was chosen to be shown, and no wait for a person is recorded in this run"
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
    if decision.note:
        console.print(Text(f"    {decision.note}"), soft_wrap=True)
    for each in decision.candidates:
        reasons = "; ".join(each.reasons)
        console.print(Text(f"    {each.score:.3f}  {each.name}  {narration.one_line(reasons, 200)}"), soft_wrap=True)
    for said in decision.left_out:
        console.print(Text(f"    left out: {narration.one_line(said, 200)}"), soft_wrap=True)
