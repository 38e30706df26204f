"""From words on the command line to values: requests, limits, roles, and the board or run that is meant."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import JsonValue, ValidationError

from arbiter.cli import OK, output
from blackboard import strict_json
from blackboard.errors import BadInput, UnknownRecord
from blackboard.refusing import refused
from blackboard.types import Limits

if TYPE_CHECKING:
    from arbiter.serving import Role
    from blackboard.board import Board

T = TypeVar("T")
LIMITS = ("rounds", "tasks", "fabrications", "tokens", "money", "seconds", "round_seconds")
_LOOK_BACK = 1000
"""Runs among which the beginning of an id is looked up."""


def place(arguments: argparse.Namespace) -> dict[str, Any]:
    """The board's whereabouts, as ``Board.open`` takes them."""
    return {
        "url": arguments.url,
        "data_dir": arguments.data_dir,
        "namespace": arguments.namespace,
        "board": arguments.board,
    }


@contextlib.asynccontextmanager
async def on_board(arguments: argparse.Namespace, kind: Callable[[Board], T]) -> AsyncGenerator[T, None]:
    """What ``kind`` makes of the board, which is open meanwhile."""
    from blackboard.board import Board

    async with await Board.open(**place(arguments)) as board:
        yield kind(board)


async def removal(
    arguments: argparse.Namespace, removing: Callable[[Board], Callable[[str], Awaitable[bool]]], what: str
) -> int:
    """Remove what ``arguments.name`` names on the board, and say so: the exit code.

    Args:
        removing: gives what removes one by its name, and says whether there was one.
        what: it is called.
    """
    async with on_board(arguments, removing) as remove:
        if not await remove(arguments.name):
            where = f"{arguments.namespace}/{arguments.board}"
            raise UnknownRecord("UNKNOWN", f"no {what} {arguments.name} on board {where}")
        if arguments.json:
            output.line({"name": arguments.name, "status": "removed"})
        else:
            output.text(f"removed {arguments.name}")
        return OK


def request(word: str) -> str | dict[str, JsonValue]:
    """The request in a word: text, a JSON object, ``@FILE``, or ``-`` for standard input.

    Raises:
        BadInput: a file that cannot be read, or JSON that is not strict, or no object.
    """
    if word == "-":
        return _parsed(sys.stdin.read(), "standard input", strict=False)
    if not word.startswith("@"):
        return _parsed(word, word, strict=False)
    file = Path(word[1:])
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput("request", word, f"It cannot be read as text: {why}. Name an existing file.") from error
    return _parsed(text, str(file), strict=file.suffix == ".json")


def plan(file: str | None) -> list[dict[str, JsonValue]]:
    """The steps of a plan in a file: a JSON array.

    Raises:
        BadInput: it cannot be read, or is none.
    """
    if file is None:
        return []
    try:
        steps = strict_json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput("plan", file, f"It cannot be read as strict JSON: {why}.") from error
    if (
        not isinstance(steps, list)
        or not steps
        or not all(isinstance(step, dict) for step in cast("list[object]", steps))
    ):
        raise BadInput("plan", file, "Write a JSON array of steps, each an object.")
    return cast("list[dict[str, JsonValue]]", steps)


def given(text: str) -> dict[str, JsonValue]:
    """The input of a capability: a JSON object, ``@FILE``, or ``-`` for standard input.

    Raises:
        BadInput: none.
    """
    said = request(text)
    if isinstance(said, str):
        raise BadInput("INPUT", said, 'Write the input as a JSON object, such as \'{"item": "box"}\'.')
    return said


def _parsed(text: str, origin: str, *, strict: bool) -> str | dict[str, JsonValue]:
    if not text.strip():
        raise BadInput("request", text, "Say what is to be done, as text or as a JSON object.")
    if not strict and not text.lstrip().startswith("{"):
        return text
    try:
        value = strict_json.loads(text)
    except ValueError as error:
        raise BadInput(
            "request", origin, f"It is not strict JSON: {error}. Correct it, or write plain text."
        ) from error
    if not isinstance(value, dict):
        raise BadInput("request", origin, "Its JSON must be an object.")
    return cast("dict[str, JsonValue]", value)


def limits(arguments: argparse.Namespace, default: Limits | None = None) -> Limits:
    """Bounds of a run from ``--limit-…``; what is not given is as by default.

    Raises:
        BadInput: not a number, or outside of what is allowed.
    """
    given = {name: value for name in LIMITS if (value := getattr(arguments, f"limit_{name}", None)) is not None}
    money = {"money": millionths("--limit-money", given["money"])} if "money" in given else {}
    try:
        return Limits.model_validate({**(default or Limits()).model_dump(), **given, **money})
    except ValidationError as error:
        raise flagged(error, given, "--limit-") from None


def millionths(flag: str, text: str) -> int:
    """Money as it is counted, from units of the currency.

    Raises:
        BadInput: no number, or one with more than six decimals.
    """
    try:
        number = Decimal(text) * 1_000_000
    except InvalidOperation:
        raise BadInput(flag, text, "Give a number.") from None
    if not number.is_finite() or number != number.to_integral_value():
        raise BadInput(flag, text, "Give money with at most six decimals.")
    return int(number)


def flagged(error: ValidationError, given: Mapping[Any, object], prefix: str = "--") -> BadInput:
    """The first thing that is wrong, as :func:`~blackboard.refusing.refused` says it, but named by the flag that gave it.

    Args:
        given: what came by flags, as it was written, by the name of the field.
    """
    problem = refused(error)
    if problem.field not in given:
        return problem
    return BadInput(prefix + problem.field.replace("_", "-"), given[problem.field], problem.remedy)


def instructions(arguments: argparse.Namespace) -> str | None:
    """The text in the file that ``--instructions`` names.

    Raises:
        BadInput: it cannot be read as text.
    """
    name: str | None = arguments.instructions
    if name is None:
        return None
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput("--instructions", name, f"It cannot be read as text: {why}. Name an existing file.") from None


def roles(text: str) -> tuple[Role, ...]:
    """Roles from a list with commas.

    Raises:
        BadInput: none, or one that does not exist.
    """
    from arbiter.serving import ROLES

    named = words(text)
    for name in named:
        if name not in ROLES:
            raise BadInput("--roles", name, f"Use any of {', '.join(ROLES)}.")
    if not named:
        raise BadInput("--roles", text, f"Use any of {', '.join(ROLES)}.")
    return cast("tuple[Role, ...]", named)


def words(text: str) -> tuple[str, ...]:
    """The words of a list with commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


async def run_id(board: Board, word: str) -> str:
    """The run that is meant by an id or by an unambiguous beginning of one.

    Raises:
        UnknownRecord: no such run.
        BadInput: several runs begin like this.
    """
    try:
        return (await board.summary(word)).id
    except UnknownRecord:
        found = [run.id for run in await board.runs(_LOOK_BACK) if word and run.id.startswith(word)]
        if not found:
            raise
        if len(found) > 1:
            raise BadInput("RUN", word, f"{len(found)} runs begin like this; write more of the id.") from None
        return found[0]
