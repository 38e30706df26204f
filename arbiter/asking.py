"""Open requests of a planned run: the model asks without naming who shall do it, and what comes of it answers its call.

The decision that has the call is committed like any other, and everything that follows is made of it: the request is an entry
that the process that committed posts at once, and the next step once more, which changes nothing if it is there. What a call
asked for is read from the log, so whoever goes on asks the same thing under the same name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pydantic import JsonValue

from arbiter.fold import Round, RunState, fold
from arbiter.tools import OPEN
from arbiter.volunteering import REQUESTS, OpenRequest, asked
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.errors import ArbiterError, BadInput, Stale
from blackboard.events import Author, Call
from registry import schema
from registry.manifest import RESERVED_NAMES

log = logging.getLogger(__name__)

_BY = Author(kind="program", name="arbiter")


@dataclass(frozen=True, slots=True)
class Asked:
    """An open request of the model."""

    name: str
    """Of its topics: ``requests.NAME``, ``bids.NAME``, …"""
    tool_use_id: str
    turn: Round
    request: OpenRequest


def request_of(given: Mapping[str, JsonValue]) -> OpenRequest:
    """What the input of the model's call asks for.

    Raises:
        BadInput: it is no open request, or would have a capability fabricated under a name that is taken.
    """
    said: dict[str, Any] = {name: value for name, value in given.items() if name in ("question", "input", "seconds")}
    if given.get("fabricate") is not None:
        said |= {"otherwise": "fabricate", "missing": given["fabricate"]}
    request = asked(said)
    if request.missing is not None and request.missing.name in RESERVED_NAMES:
        raise BadInput("fabricate.name", request.missing.name, "It is reserved; choose another name.")
    return request


def names(state: RunState) -> set[str]:
    """The names under which the model has asked in this run."""
    return {str(turn.inputs.get(call.tool_use_id, {}).get("name")) for turn in state.rounds for call in _calls(turn)}


def pending(state: RunState) -> list[Asked]:
    """The open requests of the model's last round that its next one has to be told about."""
    since = list(takewhile(lambda turn: turn.attending, reversed(state.rounds)))
    replied = {call.tool_use_id for turn in since for call in turn.calls}
    if len(since) == len(state.rounds):
        return []
    turn = state.rounds[-1 - len(since)]
    return [
        Asked(str(given["name"]), call.tool_use_id, turn, request_of(given))
        for call in _calls(turn)
        if call.tool_use_id not in replied
        for given in [turn.inputs[call.tool_use_id]]
    ]


async def post(entries: Entries, one: Asked) -> bool:
    """Write a request on the board of its run, once. False where somebody else has asked under its name before.

    Args:
        entries: of the run.
    """
    try:
        await entries.post(
            f"{REQUESTS}.{one.name}", one.request.content(), author=_BY, taint=one.turn.taint, expect_topic=0,
            operation=f"{OPEN}:{one.turn.number}:{one.tool_use_id}"[:200],
        )  # fmt: skip
    except Stale:
        return False
    return True


async def announce(board: Board, run_id: str) -> None:
    """Post what the decision that was just committed asks for, so that sources bid while its tasks run. The next step makes
    sure of it, so a failure is no loss."""
    try:
        for one in pending(fold(run_id, await board.history(run_id))):
            await post(entries_of(board, run_id), one)
    except ArbiterError as error:
        log.warning("run %s: the open requests of its last round are left to its next step: %s", run_id, error)


def entries_of(board: Board, run_id: str) -> Entries:
    return Entries(board, f"run:{run_id}", checker=schema)


def _calls(turn: Round) -> list[Call]:
    return [call for call in turn.calls if call.name == OPEN and call.valid and not turn.attending]
