"""Schemas that are valid at sight: made of usual keywords only, each with a usual value.

Holding a schema against the rules of JSON Schema takes some thirty steps for each part of it. Nearly all schemas need none of
that, and one of ten thousand parameters is looked through in milliseconds. What is not valid at sight may still be valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import cast

from registry.expressions import compiled

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def _anything(_: object) -> bool:
    return True


def _text(value: object) -> bool:
    return isinstance(value, str)


def _truth(value: object) -> bool:
    return isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: object) -> bool:
    if not isinstance(value, list):
        return False
    texts = cast("list[object]", value)
    return all(map(_text, texts)) and len({*texts}) == len(texts)


def _type(value: object) -> bool:
    return isinstance(value, str) and value in _TYPES


def _expression(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value)) and bool(compiled(value))
    except (ValueError, re.error, RecursionError, OverflowError):
        return False


_VALUES: Mapping[str, Callable[[object], bool]] = {
    "type": _type,
    "required": _texts,
    "pattern": _expression,
    **dict.fromkeys(("default", "const"), _anything),
    **dict.fromkeys(("enum", "examples"), lambda value: isinstance(value, list)),
    **dict.fromkeys(("title", "description", "format"), _text),
    **dict.fromkeys(("deprecated", "readOnly", "writeOnly", "uniqueItems"), _truth),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count),
}
_ONE = frozenset({"items", "additionalProperties", "not"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})


def valid(schema: Mapping[str, object]) -> bool:
    """Whether a schema is certainly JSON Schema 2020-12, its expressions take linear time, and it refers to nothing."""
    left: list[object] = [schema]
    while left:
        part = left.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict):
            return False
        for keyword, value in cast("dict[str, object]", part).items():
            if (right := _VALUES.get(keyword)) is not None:
                if not right(value):
                    return False
            elif keyword == "properties":
                if not isinstance(value, dict):
                    return False
                left += cast("dict[str, object]", value).values()
            elif keyword in _ONE:
                left.append(value)
            elif keyword in _LISTS and isinstance(value, list) and value:
                left += cast("list[object]", value)
            else:
                return False
    return True
