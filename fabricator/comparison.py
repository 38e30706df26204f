"""Is a result the expected one? JSON against JSON, strictly, with the place where they part."""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

RELATIVE = 1e-9
ABSOLUTE = 1e-12
_SHOWN = 200


def difference(expected: JsonValue, got: JsonValue, path: str = "$") -> str | None:
    """Where and how a result differs from what was expected; None when it is equal.

    The order of object members is irrelevant, the order of lists is not. ``true`` is not ``1``. JSON has one kind of
    number, so ``1`` equals ``1.0``; two integers are equal exactly, and where a fraction is involved the numbers may
    differ by rounding (relative 1e-9, absolute 1e-12), because 0.1 + 0.2 is not a wrong answer to "0.3".

    Args:
        expected, got: JSON values.
        path: of the values compared, for the message.

    Returns:
        One line such as ``$.lines[2].total: expected 12, got 13``.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected:
            if key not in got:
                return f"{path}.{_cut(key)}: expected {_shown(expected[key])}, got nothing"
        for key in got:
            if key not in expected:
                return f"{path}.{_cut(key)}: expected no such member, got {_shown(got[key])}"
        for key, value in expected.items():
            if found := difference(value, got[key], f"{path}.{_cut(key)}"):
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list):
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            if found := difference(one, other, f"{path}[{index}]"):
                return found
        if len(expected) != len(got):
            return f"{path}: expected {len(expected)} items, got {len(got)}"
        return None
    if _equal(expected, got):
        return None
    return f"{path}: expected {_shown(expected)}, got {_shown(got)}"


def _equal(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        if isinstance(one, int) and isinstance(other, int):
            return one == other
        try:
            return one == other or math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        except OverflowError:
            return False
    return type(one) is type(other) and one == other


def _shown(value: JsonValue) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, sort_keys=True))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
