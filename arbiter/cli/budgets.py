"""The commands about budgets: what each level may spend and has spent, and setting it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import ValidationError
from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.budgets import UNITS, Budget, Budgets, LevelReport, Unit, UnitReport
from blackboard.errors import BadInput
from blackboard.levels import checked_level


async def listing(arguments: argparse.Namespace) -> int:
    """List the levels that were given a budget."""
    return await _report(arguments)


async def show(arguments: argparse.Namespace) -> int:
    """Show some levels, also those that bring their own budget, such as runs."""
    return await _report(arguments, *arguments.level)


async def _report(arguments: argparse.Namespace, *levels: str) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        found = await Budgets(board).report(*levels)
    if arguments.json:
        for report in found:
            output.line(_record(report))
    elif found:
        right = {"justify": "right"}
        head: list[tuple[str, dict[str, Any]]] = [
            ("LEVEL", {"whole": True}), ("UNIT", {}), ("BUDGET", right), ("SPENT", right), ("RESERVED", right),
            ("LEFT", right), ("NOTE", {}),
        ]  # fmt: skip
        rows = [_row(report.level, unit, one) for report in found for unit, one in report.units.items()]
        output.print_table(head, rows)
    else:
        output.note("no budgets on this board" if not levels else "no budget at any of these levels")
    return OK


async def write(arguments: argparse.Namespace) -> int:
    """Give a level a budget, or take it away."""
    level = checked_level(arguments.level)
    given: dict[Unit, str] = {unit: getattr(arguments, unit) for unit in UNITS if getattr(arguments, unit) is not None}
    if arguments.none == bool(given):
        raise BadInput("budget", level, "Give some of --tokens, --money, --seconds, --fabrications; or --none alone.")
    budget = _budget(level, given)
    async with await Board.open(**options.place(arguments)) as board:
        budgets = Budgets(board)
        if arguments.none:
            await budgets.remove(level)
            output.note(f"{level} has no budget any more")
        else:
            await budgets.set(budget)
            output.note(f"{level} has its budget")
    return OK


def _budget(level: str, given: Mapping[Unit, str]) -> Budget:
    values: dict[str, Any] = {"level": level}
    for unit, text in given.items():
        values[unit] = options.millionths("--money", text) if unit == "money" else _number(unit, text)
    try:
        return Budget.model_validate(values)
    except ValidationError as error:
        raise options.flagged(error, given) from None


def _number(unit: Unit, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise BadInput(f"--{unit}", text, "Give a number.") from None
    if unit != "seconds" and not (number.is_finite() and number == number.to_integral_value()):
        raise BadInput(f"--{unit}", text, "Give a whole number.")
    return number


def _record(report: LevelReport) -> dict[str, Any]:
    units = {
        unit: {**one.model_dump(mode="json"), "left": one.left, "overshoot": one.overshoot}
        for unit, one in report.units.items()
    }
    return {"level": report.level, "units": units}


def _row(level: str, unit: Unit, one: UnitReport) -> list[str | Text]:
    notes: list[str] = []
    if one.overshoot:
        notes.append(f"overshot by {_shown(unit, one.overshoot)}")
    if one.lapsed:
        notes.append(f"{_shown(unit, one.lapsed)} given back unseen")
    amounts = [_shown(unit, amount) for amount in (one.limit, one.spent, one.reserved, one.left)]
    return [level, unit, *amounts, ", ".join(notes)]


def _shown(unit: Unit, amount: float) -> str:
    if unit == "money":
        return narration.money(amount)
    return f"{amount:,.3f}" if unit == "seconds" else f"{amount:,.0f}"
