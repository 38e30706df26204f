"""The command doctor."""

from __future__ import annotations

import argparse

from rich.text import Text

from arbiter.cli import NOT_SUCCEEDED, OK, options, output
from arbiter.doctor import examine
from arbiter.narration import one_line
from blackboard.checkup import Finding

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


async def run(arguments: argparse.Namespace) -> int:
    """Examine this installation and the board's server; exits with 1 when something fails."""
    failed = False
    console = output.console()
    place = options.place(arguments)
    async for finding in examine(
        **place,
        model=arguments.model,
        call=arguments.call,
        isolation=arguments.isolation,
        encoder=arguments.encoder,
        from_sqs=arguments.from_sqs,
    ):
        failed |= finding.level == "fail"
        if arguments.json:
            output.line(finding.model_dump(mode="json"))
        else:
            console.print(_line(finding), soft_wrap=True)
    return NOT_SUCCEEDED if failed else OK


def _line(finding: Finding) -> Text:
    line = Text.assemble(
        (f"{finding.level:<5}", _STYLE[finding.level]), f"{finding.name:<13}", one_line(finding.said, 400)
    )
    return line.append(f"\n{'':18}→ {finding.remedy}") if finding.remedy else line
