"""What does a million tokens of a model cost? The price table that budgets of money are counted with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from blackboard import strict_json
from blackboard.errors import BadInput

PRICES_VARIABLE = "ARBITER_PRICES"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in units of the currency: ``Price("3", "15")``. Tokens read from a cache count as input."""

    input: Decimal
    output: Decimal

    def __init__(self, input: str | int | float | Decimal, output: str | int | float | Decimal) -> None:
        for field, value in (("input", input), ("output", output)):
            object.__setattr__(self, field, _decimal(field, value))

    def cost(self, given: int, answered: int) -> int:
        """Millionths of the currency, rounded up."""
        # A price for a million tokens in units is the price of one token in millionths.
        return int((self.input * given + self.output * answered).to_integral_value(ROUND_CEILING))


class Prices:
    """The price table.

    Args:
        table: prices by the beginning of the model's name, such as ``bedrock:us.anthropic.claude-sonnet-4``; the longest
            that fits counts.
        unpriced: what a model without a price costs: ``refuse`` (it is not asked where a budget of money exists, and asked
            where none does), ``free``, or the name of an entry of the table, whose price it then has.

    Raises:
        BadInput: a price that is no number, or an unknown ``unpriced``.
    """

    def __init__(self, table: Mapping[str, Price] | None = None, *, unpriced: str = "refuse") -> None:
        self._table = {"scripted": Price(0, 0), **(table or {})}
        if unpriced not in ("refuse", "free") and unpriced not in self._table:
            raise BadInput("unpriced", unpriced, "Use refuse, free, or the name of an entry of the table.")
        self.unpriced = unpriced

    @classmethod
    def load(cls, path: str | Path) -> Prices:
        """The table in a JSON file: ``{"<beginning of a name>": {"input": "3", "output": "15"}, "unpriced": "refuse"}``.

        Raises:
            BadInput: the file cannot be read or is no price table.
        """
        try:
            raw: Any = strict_json.loads(Path(path).read_text("utf-8"))
            table = dict(raw)
            unpriced = str(table.pop("unpriced", "refuse"))
            return cls({name: Price(one["input"], one["output"]) for name, one in table.items()}, unpriced=unpriced)
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, BadInput):
                raise
            remedy = 'Name a JSON file such as {"anthropic:claude": {"input": "3", "output": "15"}}.'
            raise BadInput("prices", str(path), f"{type(error).__name__}: {error}. {remedy}") from error

    @classmethod
    def of(cls, given: Prices | Mapping[str, Price] | str | Path | None) -> Prices:
        """From what a program was given; None takes the file that ``ARBITER_PRICES`` names, and without it no prices."""
        if isinstance(given, Prices):
            return given
        if given is None:
            given = os.environ.get(PRICES_VARIABLE) or {}
        return cls(given) if isinstance(given, Mapping) else cls.load(given)

    def cost(self, model: str, given: int, answered: int) -> int | None:
        """Millionths of the currency; None for a model without a price that is not to be asked."""
        fits = [name for name in self._table if model.startswith(name)]
        if fits:
            return self._table[max(fits, key=len)].cost(given, answered)
        if self.unpriced == "refuse":
            return None
        return 0 if self.unpriced == "free" else self._table[self.unpriced].cost(given, answered)


def _decimal(field: str, value: object) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or not 0 <= number < 10**6:
        raise BadInput(field, value, "Give the price of a million tokens as a number from 0 to a million.")
    return number
