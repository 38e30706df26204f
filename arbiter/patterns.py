"""Event patterns: which events are meant, said as JSON that mirrors the event.

Every field a pattern names must be there and match; a list means any of its members. A member is a value, or an object with
one operator: ``prefix``, ``suffix``, ``equals-ignore-case``, ``anything-but``, ``numeric``, ``exists``. ``$or`` takes a list of
patterns of which one must match. Where the event has a list, one of its members must match::

    {"type": [{"prefix": "dev.arbiter.task."}],
     "data": {"status": [{"anything-but": "succeeded"}], "attempts": [{"numeric": [">", 1]}]}}

The language is that of Amazon EventBridge's event patterns, without ``wildcard`` and ``cidr``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from blackboard import strict_json
from blackboard.errors import BadInput

_Test = Callable[[Any], bool]
_ABSENT: Any = object()
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip
_MOST_LEVELS = 16


class Pattern:
    """A pattern that was read and found good.

    Args:
        pattern: the pattern, as an object or as JSON.

    Raises:
        BadInput: it is no pattern; the message names the field.
    """

    def __init__(self, pattern: str | Mapping[str, JsonValue]) -> None:
        read: Any = pattern
        if isinstance(pattern, str):
            try:
                read = strict_json.loads(pattern)
            except ValueError as error:
                raise BadInput("pattern", pattern, f"It is not strict JSON: {error}.") from error
        self._fields = _fields(read, "pattern", 0)

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether an event, as JSON, is meant."""
        return self.mismatch(event) is None

    def mismatch(self, event: Mapping[str, Any]) -> str | None:
        """The first field of the pattern that an event does not match, as ``data.status``; None when it matches."""
        return _mismatch(self._fields, event)


class _Or(list[Any]):
    """Patterns of which one must match."""


def _fields(pattern: Any, where: str, level: int) -> dict[str, Any]:
    if not isinstance(pattern, Mapping) or not pattern:
        raise BadInput(
            where,
            cast(object, pattern),
            'Write an object of fields, such as {"type": [{"prefix": "dev.arbiter.task."}]}.',
        )
    if level > _MOST_LEVELS:
        raise BadInput(where, "...", f"At most {_MOST_LEVELS} levels are read.")
    found: dict[str, Any] = {}
    for name, wanted in cast("Mapping[str, Any]", pattern).items():
        here = f"{where}.{name}"
        if name == "$or":
            if not isinstance(wanted, list) or not wanted:
                raise BadInput(here, cast(object, wanted), "Write a list of patterns.")
            found[name] = _Or(_fields(one, here, level + 1) for one in cast("list[Any]", wanted))
        elif isinstance(wanted, list):
            if not wanted:
                raise BadInput(here, cast(object, wanted), "An empty list matches nothing; name what is meant.")
            found[name] = [_test(one, here) for one in cast("list[Any]", wanted)]
        else:
            found[name] = _fields(wanted, here, level + 1)
    return found


def _test(wanted: Any, where: str) -> _Test:
    if isinstance(wanted, list):
        raise BadInput(where, cast(object, wanted), "A list is in no list; name its members.")
    if not isinstance(wanted, Mapping):
        return lambda value: _same(value, wanted)
    given = cast("Mapping[str, Any]", wanted)
    if len(given) != 1:
        raise BadInput(where, cast(object, wanted), "Use one operator.")
    [(name, operand)] = given.items()
    match name, operand:
        case "prefix", str():
            return lambda value: isinstance(value, str) and value.startswith(operand)
        case "suffix", str():
            return lambda value: isinstance(value, str) and value.endswith(operand)
        case "equals-ignore-case", str():
            return lambda value: isinstance(value, str) and value.casefold() == operand.casefold()
        case "exists", bool():
            return lambda value: (value is not _ABSENT) is operand
        case "anything-but", _:
            members = cast("list[Any]", operand if isinstance(operand, list) else [operand])
            tests = [_test(one, where) for one in members]
            return lambda value: value is not _ABSENT and not any(test(value) for test in tests)
        case "numeric", list():
            return _numeric(cast("list[Any]", operand), where)
        case _:
            remedy = (
                "Use prefix, suffix, equals-ignore-case, anything-but, numeric or exists, with an operand that fits."
            )
            raise BadInput(where, cast(object, wanted), remedy)


def _numeric(operand: Sequence[Any], where: str) -> _Test:
    bounds = list(zip(operand[::2], operand[1::2], strict=False))
    if len(operand) not in (2, 4) or not all(sign in _COMPARE and _number(bound) for sign, bound in bounds):
        raise BadInput(where, list(operand), 'Write numeric bounds as [">=", 1] or [">", 0, "<=", 5].')
    return lambda value: _number(value) and all(_COMPARE[sign](value, bound) for sign, bound in bounds)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, wanted: Any) -> bool:
    return value is not _ABSENT and value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _mismatch(fields: Mapping[str, Any], value: Any) -> str | None:
    for name, wanted in fields.items():
        if isinstance(wanted, _Or):
            if all(_mismatch(one, value) is not None for one in wanted):
                return name
            continue
        found = cast("Mapping[str, Any]", value).get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        members = cast("list[Any]", found) if isinstance(found, list) else [found]
        if isinstance(wanted, list):
            tests = cast("list[_Test]", wanted)
            if not any(test(one) for test in tests for one in members or [_ABSENT]):
                return name
            continue
        deeper = [_mismatch(cast("Mapping[str, Any]", wanted), one) for one in members or [_ABSENT]]
        if None not in deeper:
            return f"{name}.{deeper[0]}"
    return None
