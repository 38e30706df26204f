"""What pydantic says about bad input, in the words of this project: the field, its value, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from blackboard.errors import BadInput

_REMEDIES = {
    "missing": "It is required.",
    "extra_forbidden": "There is no such field; remove it.",
    "tuple_type": "Give a list.",
    "list_type": "Give a list.",
    "dict_type": "Give an object.",
    "model_type": "Give an object with its fields by name.",
    "string_type": "Give text.",
    "bool_type": "Give true or false.",
    "bool_parsing": "Give true or false.",
    "int_type": "Give a whole number.",
    "int_parsing": "Give a whole number.",
    "int_from_float": "Give a whole number.",
    "float_type": "Give a number.",
    "float_parsing": "Give a number.",
    "finite_number": "Give a finite number.",
    "literal_error": "Use {expected}.",
    "greater_than": "Give more than {gt}.",
    "greater_than_equal": "Give {ge} or more.",
    "less_than": "Give less than {lt}.",
    "less_than_equal": "Give {le} or less.",
    "string_too_short": "Use at least {min_length} characters.",
    "string_too_long": "Use at most {max_length} characters.",
    "too_short": "Give at least {min_length}.",
    "too_long": "Give at most {max_length}.",
    "value_error": "{error}.",
}
"""By the type of pydantic's error, with what it names; of any other its own words are used."""


def refused(
    error: ValidationError, what: str = "", remedies: Mapping[str, str] | None = None, *, whole: str = ""
) -> BadInput:
    """The first thing that is wrong.

    Args:
        what: what a refusal calls the whole; nothing stands before the field's name by default.
        remedies: what to do about a field of the whole, by its name, where something better can be said.
        whole: what a refusal names that is about no field; ``what`` by default.
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, BadInput):
        if inner.field not in (what, *path[-1:]):
            path.append(inner.field)
        return BadInput(_dotted(what, path), inner.value, inner.remedy)
    field = _dotted(what, path) or whole
    if first["type"] == "missing":
        return BadInput(field, None, _REMEDIES["missing"])
    if first["type"] == "extra_forbidden":
        return BadInput(field, first["input"], _REMEDIES["extra_forbidden"])
    given: object = first["input"]
    if isinstance(given, float) and not math.isfinite(given):
        return BadInput(field, given, "Give a finite number.")
    own = (remedies or {}).get(path[0]) if len(path) == 1 else None
    return BadInput(field, given, own or _said(first["type"], first["msg"], first.get("ctx", {})))


def _dotted(what: str, path: list[str]) -> str:
    return ".".join([what, *path] if what else path)


def _said(kind: str, message: str, context: Mapping[str, Any]) -> str:
    remedy = _REMEDIES.get(kind, message)
    if kind in _REMEDIES:
        remedy = remedy.format_map({name: _short(value) for name, value in context.items()})
    return f"{remedy.rstrip('.')}."


def _short(value: object) -> object:
    return f"{value:.15g}" if isinstance(value, float) else value
