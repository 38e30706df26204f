"""The command demo."""

from __future__ import annotations

import argparse
import asyncio
import logging

from arbiter import demo as demonstrations
from arbiter.cli import OK, attended, options, output
from arbiter.cli.runs import concluded
from arbiter.fold import RunState
from arbiter.live import Progress


@attended
async def demo(arguments: argparse.Namespace) -> int:
    """Play one or all demonstrations."""
    output.log_to_stderr(logging.ERROR)
    names = demonstrations.NAMES if arguments.which == "all" else (arguments.which,)
    show = demonstrations.open_show(names, **options.place(arguments), fresh=arguments.fresh)

    def said(text: str) -> None:
        if not arguments.quiet:
            output.note(text)

    if show.continued:
        said(f"Continuing the show on board {show.board}; --fresh would start a new one.")
    worst, ended = OK, list[RunState]()
    try:
        with Progress(quiet=arguments.quiet) as progress:
            for name in names:
                async with demonstrations.play(show, name) as played:
                    said(f"\n{played.example.title}")
                    said(f"Model: {played.arbiter.model_label}")
                    said(f"       {demonstrations.LABEL}")
                    said(f"Board: {show.board} on {played.arbiter.board.engine.label}\n")
                    state = await progress.follow(played.run_id, played.arbiter.stream(run_id=played.run_id))
                said("")
                worst = max(worst, concluded(state, as_json=arguments.json, extra={"demo": name, "board": show.board}))
                ended.append(state)
    except asyncio.CancelledError:
        said("interrupted: the same command continues this show")
        raise
    show.finish()
    if show.lasting:
        said("\n".join(["\nLook closer:", *_hints(show, ended)]))
    return worst


def _hints(show: demonstrations.Show, ended: list[RunState]) -> list[str]:
    where = " ".join(show.where)
    hints = [f"  arbiter show {state.run_id} {where}" for state in ended]
    for state in ended:
        for task in state.work:
            done = task.completion
            if task.kind == "fabrication" and done is not None and isinstance(done.data, dict):
                hints.append(f"  arbiter capabilities show {done.data.get('capability')} {where}")
    return hints
