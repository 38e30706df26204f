"""Rows of a table of the reference pattern, many at a time: what can be taken, and of each other row why not.

The tables of the reference implementations have grown by hand and by models: ids twice, schemas that are none, rows that are
switched off. One bad row must not keep the others out, and whoever cleans up needs all of them named at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from blackboard import strict_json
from blackboard.errors import BadInput
from registry.tables import Imported, from_record

OFF = ("inactive", "maintenance", "deprecated", "disabled")
"""States of a row in which it is not offered."""

_TYPES = ("S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS")


class Row(NamedTuple):
    """A row that was not taken."""

    number: int
    """Counted from 0."""
    name: str
    """Its id, where it has one."""
    problem: BadInput
    """``field`` begins with ``rows[<number>]``."""


class Records(NamedTuple):
    """What came of the rows."""

    imported: tuple[Imported, ...]
    refused: tuple[Row, ...]
    off: tuple[str, ...]
    """Ids of rows that are switched off."""


def import_records(rows: Iterable[Mapping[str, JsonValue]], *, tenant: str = "*") -> Records:
    """The manifests of a table's rows; see :func:`registry.tables.from_record` for one of them.

    Args:
        rows: plain, or as DynamoDB exports them, ``{"toolId": {"S": "add"}, …}``; an exported line's ``{"Item": …}`` too.
        tenant: who may use the capabilities.

    Returns:
        The manifests in the order of the rows, with the file that holds the code of each; and every row that was not taken.
    """
    imported: list[Imported] = []
    refused: list[Row] = []
    off: list[str] = []
    names: dict[str, int] = {}
    for number, row in enumerate(rows):
        where = f"rows[{number}]"
        name = ""
        try:
            if not isinstance(cast(object, row), Mapping):
                raise BadInput("record", row, "Give an object.")
            plain = _plain_row(row)
            name = str(plain.get("toolId") or plain.get("agentId") or "")
            if _state(plain) in OFF:
                off.append(name)
                continue
            one = from_record(plain, tenant=tenant)
            if (before := names.setdefault(one.manifest.name, number)) != number:
                raise BadInput(
                    "record.toolId", name, f"rows[{before}] makes a capability of this name already; rename one."
                )
            imported.append(one)
        except BadInput as error:
            field = error.field.removeprefix("record").removeprefix("manifest").lstrip(".")
            refused.append(
                Row(number, name, BadInput(f"{where}.{field}" if field else where, error.value, error.remedy))
            )
    return Records(tuple(imported), tuple(refused), tuple(off))


def _state(row: Mapping[str, JsonValue]) -> str:
    config: Any = row.get("config")
    if isinstance(config, str):
        with contextlib.suppress(ValueError):  # it is refused as a row, with the reason
            config = strict_json.loads(config)
    inner = cast("Mapping[str, Any]", config).get("state") if isinstance(config, Mapping) else None
    return str(row.get("state") or inner or "").lower()


def _plain_row(row: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A row without the types DynamoDB writes around values."""
    item = row.get("Item")
    if isinstance(item, Mapping) and len(row) == 1:
        row = item
    if row and all(_typed(value) for value in row.values()):
        return {name: _untyped(f"record.{name}", value) for name, value in row.items()}
    return dict(row)


def _typed(value: object) -> bool:
    return isinstance(value, Mapping) and len(cast("Mapping[str, Any]", value)) == 1 and next(iter(value)) in _TYPES  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _untyped(field: str, value: Any) -> Any:
    if not _typed(value):
        raise BadInput(field, value, f"Give its type and it, as DynamoDB exports it: one of {', '.join(_TYPES)}.")
    ((kind, inner),) = value.items()
    match kind, inner:
        case "M", dict():
            return {name: _untyped(f"{field}.{name}", each) for name, each in cast("dict[str, Any]", inner).items()}
        case "L", list():
            return [_untyped(f"{field}[{at}]", each) for at, each in enumerate(cast("list[Any]", inner))]
        case "NS", list():
            return [_number(field, each) for each in cast("list[Any]", inner)]
        case (("M" | "L" | "NS"), _):
            raise BadInput(field, value, f"Give what {kind} stands for: {'an object' if kind == 'M' else 'a list'}.")
        case "N", _:
            return _number(field, inner)
        case "NULL", _:
            return None
        case _:
            return inner


def _number(field: str, text: Any) -> float | int:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(str(text))
    raise BadInput(field, text, "Give a number.")
