"""Conditions on the content of an entry: ``amount>=100``, ``customer.name~acme``, ``@confidence>0.5``.

Evaluated in the process that asks, over values of any shape: what is absent, or of another type than the condition's value,
does not fit, and nothing raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from blackboard.types import Record

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "~", "?"]
MOST = 20
"""Most conditions of a query."""
CHARACTERS = 20_000
"""Longest text of them."""
_TERM = re.compile(
    r'(@?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)(!=|>=|<=|=|~|>|<|\?)("(?:[^"\\]|\\.)*"|[^\s"=<>~?]\S*|)(?=\s|\Z)'
)
_ATTRIBUTES = ("@confidence", "@author", "@kind", "@taint", "@version")
_REMEDY = (
    'Write conditions like amount>=100 status!=paid customer.name~acme note="two words" due? @confidence>0.5, with spaces '
    f"between, at most {MOST}; what begins with @ is one of {', '.join(_ATTRIBUTES)}."
)
ABSENT = object()
"""There is nothing."""


class Predicate(Record):
    """One condition."""

    path: str
    """Members of the content with dots between them, numbers for places in lists; or an attribute of the entry with ``@``."""
    sign: Sign
    """``~``: the text contains it, whatever its case; ``?``: it is there."""
    value: JsonValue = None

    def fits(self, content: JsonValue, attributes: Mapping[str, JsonValue]) -> bool:
        """Whether an entry fulfils it.

        Args:
            content: of the entry.
            attributes: of the entry, by their names with ``@``.
        """
        found: object = attributes.get(self.path, ABSENT) if self.path[0] == "@" else value_at(content, self.path)
        if found is ABSENT:
            return False
        if self.path == "@taint":
            return any(_compare(self.sign, one, self.value) for one in cast("list[object]", found))
        return _compare(self.sign, cast(object, found), self.value)


Where = str | Iterable[Predicate]
"""Conditions, as text or one by one; all of them must be fulfilled."""


def parse(where: Where) -> tuple[Predicate, ...]:
    """The conditions in a text.

    Raises:
        BadInput: something in it is none.
    """
    if not isinstance(where, str):
        found = tuple(where)
    else:
        found, at = (), 0
        text = where.strip()
        if len(text) > CHARACTERS:
            raise BadInput("where", f"{text[:80]}… ({len(text):,} characters)", f"Write at most {CHARACTERS:,}.")
        # One more than there may be is enough to refuse them all.
        while at < len(text) and len(found) <= MOST:
            match = _TERM.match(text, at)
            if match is None:
                raise BadInput("where", text[at : at + 80], _REMEDY)
            found += (_predicate(*cast("tuple[str, Sign, str]", match.groups())),)
            at = match.end()
            while at < len(text) and text[at].isspace():
                at += 1
    if len(found) > MOST:
        raise BadInput("where", f"more than {MOST} conditions", _REMEDY)
    return found


def _predicate(path: str, sign: Sign, raw: str) -> Predicate:
    bad = BadInput("where", f"{path}{sign}{raw}", _REMEDY)
    if path[0] == "@" and path not in _ATTRIBUTES:
        raise bad
    if (sign == "?") != (raw == ""):
        raise bad
    value: JsonValue = None
    if raw:
        try:
            value = json.loads(raw, parse_constant=lambda word: word)
        except (ValueError, RecursionError):
            value = raw
    if isinstance(value, list | dict) or (sign in ("<", "<=", ">", ">=") and isinstance(value, bool | None)):
        raise bad
    if sign == "~" and not isinstance(value, str):
        value = raw
    return Predicate(path=path, sign=sign, value=value)


def value_at(content: JsonValue, path: str) -> object:
    """What stands at a path of a content; :data:`ABSENT` where nothing does."""
    found: Any = content
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = cast("dict[str, Any]", found)[part]
        elif (
            isinstance(found, list)
            and part.isascii()
            and part.isdecimal()
            and int(part) < len(cast("list[Any]", found))
        ):
            found = cast("list[Any]", found)[int(part)]
        else:
            return ABSENT
    return found


def _compare(sign: Sign, found: object, value: JsonValue) -> bool:
    if sign == "?":
        return True
    if sign == "~":
        return isinstance(found, str) and isinstance(value, str) and value.lower() in found.lower()
    if sign in ("=", "!="):
        same = type(found) is type(value) or (_number(found) and _number(value))
        return (same and found == value) == (sign == "=")
    if not ((_number(found) and _number(value)) or (isinstance(found, str) and isinstance(value, str))):
        return False
    one, other = cast(Any, found), cast(Any, value)
    return bool({"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[sign])


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
