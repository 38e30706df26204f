"""The command demo."""

from __future__ import annotations

import argparse
import logging

from arbiter import demo as demonstrations
from arbiter.cli import OK, options, output
from arbiter.cli.runs import attended, concluded
from arbiter.live import Progress


def demo(arguments: argparse.Namespace) -> int:
    """Play one or all demonstrations."""
    output.log_to_stderr(logging.ERROR)
    return attended(_demo(arguments))


async def _demo(arguments: argparse.Namespace) -> int:
    names = demonstrations.NAMES if arguments.which == "all" else (arguments.which,)
    show = demonstrations.open_show(names, **options.place(arguments), fresh=arguments.fresh)

    def said(text: str) -> None:
        if not arguments.quiet:
            output.note(text)

    if show.continued:
        said(f"Continuing the show of board {show.board}; --fresh would start a new one.")
    worst = OK
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
    show.finish()
    where = " ".join(["", *show.where])
    said(f"\nLook closer: arbiter runs{where}; arbiter show RUN{where}; arbiter capabilities{where}")
    return worst
