"""The command ask: a request that names nobody, the bids on it, the award, and the answer."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from typing import Any

from arbiter import answering, narration
from arbiter.answering import Answered
from arbiter.cli import NOT_SUCCEEDED, OK, attended, options, output
from arbiter.cli.runs import goes_on
from arbiter.volunteering import AWARDS, BIDS, OpenRequest, asked
from blackboard.entry import Entry


@attended
async def ask(arguments: argparse.Namespace) -> int:
    """Ask openly, tell what is bid and awarded, and print the answer."""
    request = _request(arguments)
    limits = options.limits(arguments)
    from arbiter.sdk import Arbiter

    async with Arbiter(roles=(), **options.place(arguments)) as client:
        run_id = await answering.begin(
            client, request, arguments.name, arguments.run, arguments.key, arguments.tenant, limits, arguments.source
        )
        output.note(f"requests.{arguments.name} is in run {run_id}")
        found = Answered(run_id, arguments.name, None)
        try:
            async with (
                asyncio.timeout(arguments.timeout),
                contextlib.aclosing(answering.follow(client, run_id, arguments.name)) as entries,
            ):
                async for entry in entries:
                    _told(entry)
                    if entry.topic in answering.ends(arguments.name):
                        found = Answered(run_id, arguments.name, entry)
        except TimeoutError:
            raise TimeoutError(f"No answer after {arguments.timeout:g} s. {goes_on(run_id, arguments.board)}") from None
        except asyncio.CancelledError:
            output.note(f"interrupted: {goes_on(run_id, arguments.board)}")
            raise
        if arguments.json:
            output.line(await answering.record(client, run_id, arguments.name))
        elif found.succeeded:
            said = found.answer
            output.text(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))
    if not found.succeeded:
        output.note(f"unanswered: {narration.one_line(found.reason, 1000)}")
    return OK if found.succeeded else NOT_SUCCEEDED


def _request(arguments: argparse.Namespace) -> OpenRequest:
    said: dict[str, Any] = {"question": arguments.question, "input": options.given(arguments.input)}
    if arguments.seconds is not None:
        said["seconds"] = arguments.seconds
    if arguments.fabricate is not None:
        said |= {"otherwise": "fabricate", "missing": {"name": arguments.fabricate, "need": arguments.need or ""}}
    return asked(said)


def _told(entry: Entry) -> None:
    """A bid or an award, in a line beside the answer."""
    said: dict[str, Any] = entry.content if isinstance(entry.content, dict) else {}
    match entry.topic.partition(".")[0]:
        case word if word == BIDS:
            text = f"bid: {said.get('capability')}, confidence {entry.confidence:g}, cost {said.get('cost', 1)}"
        case word if word == AWARDS:
            text = f"award: {said.get('capability', 'nobody')}, {said.get('reason', 'by hand')}"
        case _:
            return
    output.note(narration.one_line(text, 500))
