"""References from a task's input to the data of earlier tasks: ``{"$ref": "<key>#/json/pointer"}``.

The object stands for the value it points at. The part before ``#`` is the key of a task, the part after it a JSON
Pointer (RFC 6901) into that task's data; without ``#`` the whole data is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import JsonValue

from blackboard.errors import BadInput

MARK = "$ref"
_INDEX = re.compile(r"(?:0|[1-9][0-9]*)\Z")
"""An array index as RFC 6901 has it: ASCII digits without leading zeros."""


def split(reference: str) -> tuple[str, str]:
    """The task key and the pointer of ``<key>#<pointer>``."""
    key, _, pointer = reference.partition("#")
    return key, pointer


def is_reference(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    items = cast(dict[str, object], value)
    return len(items) == 1 and isinstance(items.get(MARK), str)


def keys(value: JsonValue) -> Iterator[str]:
    """Every task key the value refers to, in order, repeats included."""
    if isinstance(value, dict):
        if is_reference(value):
            yield split(cast(str, value[MARK]))[0]
            return
        for item in value.values():
            yield from keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item)


def resolve(value: JsonValue, data: Mapping[str, JsonValue]) -> JsonValue:
    """A copy of ``value`` with every reference to a key in ``data`` replaced; others stay as they are.

    Raises:
        BadInput: a pointer leads nowhere in the data it points into.
    """
    if isinstance(value, dict):
        if is_reference(value):
            reference = cast(str, value[MARK])
            key, pointer = split(reference)
            return point(data[key], pointer, reference) if key in data else value
        return {name: resolve(item, data) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, data) for item in value]
    return value


def point(document: JsonValue, pointer: str, reference: str) -> JsonValue:
    """The value at a JSON Pointer (RFC 6901).

    Raises:
        BadInput: the pointer is malformed or leads nowhere; the remedy lists what there is instead.
    """
    if pointer == "":
        return document
    if not pointer.startswith("/"):
        raise BadInput(MARK, reference, "A pointer is empty or begins with '/', as in 'load#/rows/0'.")
    here = document
    for token in pointer[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, list) and _INDEX.match(name) and int(name) < len(here):
            here = here[int(name)]
        else:
            raise BadInput(MARK, reference, f"There is no {name!r} here; available: {_available(here)}.")
    return here


def _available(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(sorted(value)[:20]) or "an empty object"
    if isinstance(value, list):
        return f"indexes below {len(value)}" if value else "an empty list"
    return f"a {type(value).__name__}, which has no members"
