"""Reading JSON that somebody else wrote: what readers could take for different things is refused.

The standard library takes the last of two members of one name, so that ``{"effects": ["irreversible"], "effects": []}``
says something else to it than to whoever reads the line from its beginning. Half of a surrogate pair is no character: some
readers replace it, others fail. (Source: RFC 7493, I-JSON, sections 2.1 and 2.3.) What
the board wrote itself is not read with this: it is slower.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, cast

_SHOWN = 80
"""Characters of a key that a message has."""
_HALF = re.compile("[\ud800-\udfff]|" + r"\\u[dD][89a-fA-F]")


class NotStrict(ValueError):
    """JSON that Python would read, but that does not say one thing to every reader. The message says what and where."""


class _Twice(dict[str, Any]):
    """An object in which ``key`` stands more than once."""

    key: str


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        NotStrict: a key stands twice in an object, a number is NaN or Infinity, a text has half of a surrogate pair, or it is
            nested too deeply to be read.
        ValueError: it is no JSON, or no UTF-8.
    """
    seen = False

    def of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal seen
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        seen, twice, keys = True, _Twice(found), set[str]()
        twice.key = next(key for key, _ in pairs if key in keys or keys.add(key))
        return twice

    try:
        value = json.loads(text, object_pairs_hook=of, parse_constant=_constant)
    except RecursionError:
        raise NotStrict("it is nested too deeply") from None
    if seen:
        raise NotStrict(_where(value))
    if _HALF.search(text if isinstance(text, str) else text.decode()):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise NotStrict("a text has half of a surrogate pair, which is no character") from None
    return value


def _constant(word: str) -> NoReturn:
    raise NotStrict(f"{word} is no number of JSON")


def _where(value: Any) -> str:
    """Says which key stands twice, and in which object, as ``$.rules[0]``: outer ones before inner ones."""
    # By the number of what holds it: the paths of all of a large value would take much more room than the value.
    left: list[tuple[int, str, Any]] = [(0, "", value)]
    for number, (_, _, one) in enumerate(left):
        if isinstance(one, _Twice):
            said = f"the key {json.dumps(one.key[:_SHOWN])} stands twice"
            return f"{said} in ${_path(left, number)}" if number else said
        if isinstance(one, dict):
            left += [(number, f".{key}", inner) for key, inner in cast("dict[str, Any]", one).items()]
        elif isinstance(one, list):
            left += [(number, f"[{at}]", inner) for at, inner in enumerate(cast("list[Any]", one))]
    raise AssertionError("no object has a key twice")


def _path(found: list[tuple[int, str, Any]], number: int) -> str:
    steps: list[str] = []
    while number:
        number, step, _ = found[number]
        steps.append(step[:_SHOWN])
    return "".join(reversed(steps))
