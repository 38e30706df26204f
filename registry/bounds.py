"""JSON Schema whose checking costs no more than it is given, however schema and value were made.

Both can come from where nobody is trusted: a schema from a model that read a page, a value from code that wants to hold up
whoever looks at it. A regular expression can take for ever on a short text, a few references that branch are 2**60 schemas,
and finding out whether items differ takes the square of their number. So expressions run in linear time on RE2
(Cox, Regular Expression Matching in the Wild, 2010), items are compared by what they are made of, and every keyword that is
judged is paid for from a number of steps. Whatever runs out of them does not fit.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators
from pydantic import JsonValue

from registry.expressions import Expression, compiled

STEPS = 4_000_000
"""What checking one value may cost: some seconds at worst. Of a keyword that looks at one number or text, it is two."""
_KEYWORD = 2
_BRANCHING: Mapping[str, int] = dict[str, int].fromkeys(
    ("$ref", "$dynamicRef", "anyOf", "oneOf", "not", "if", "contains", "dependentSchemas"), 80
)
"""Those that begin anew with another schema, or keep what did not fit."""
_MEMBERS = 4
"""Members of the value that are looked at for one step; of the schema it is one."""
_UNITS = 32
"""Characters times the size of an expression, for one step."""

Keyword = Callable[[Any, Any, Any, Any], "Iterable[ValidationError] | None"]


class TooCostly(Exception):
    """The steps were used up."""


class _Purse(threading.local):
    left = STEPS


_purse = _Purse()


def give(steps: int) -> None:
    """What the next check in this thread may cost."""
    _purse.left = steps


def _pay(steps: int) -> None:
    _purse.left -= steps
    if _purse.left < 0:
        raise TooCostly


def _size(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, list | dict) else 0


def _paid(name: str, keyword: Keyword) -> Keyword:
    least = _BRANCHING.get(name, _KEYWORD)

    def judged(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        _pay(least + _size(value) + _size(instance) // _MEMBERS)
        return keyword(validator, value, instance, schema)

    return judged


def _finds(expression: Expression, text: str) -> bool:
    _pay(1 + len(text) * expression.size // _UNITS)
    return expression.finds(text)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterable[ValidationError]:
    if isinstance(instance, str) and not _finds(compiled(pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterable[ValidationError]:
    if not isinstance(instance, dict):
        return
    members = cast("dict[str, Any]", instance)
    for pattern, subschema in patterns.items():
        expression = compiled(pattern)
        for name, value in members.items():
            if _finds(expression, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterable[ValidationError]:
    """The original, shown only the members that no pattern speaks of."""
    if isinstance(instance, dict) and (patterns := schema.get("patternProperties")):
        expressions = [compiled(pattern) for pattern in patterns]
        members = cast("dict[str, Any]", instance)
        instance = {
            name: value for name, value in members.items() if not any(_finds(each, name) for each in expressions)
        }
        schema = {keyword: value for keyword, value in schema.items() if keyword != "patternProperties"}
    yield from _ORIGINAL["additionalProperties"](validator, rule, instance, schema) or ()


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterable[ValidationError]:
    if wanted is True and isinstance(instance, list):
        items = cast("list[JsonValue]", instance)
        if len({_identity(each) for each in items}) < len(items):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _identity(value: JsonValue) -> str:
    """The same text for what JSON Schema takes for equal: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


_ORIGINAL: Mapping[str, Keyword] = cast("Mapping[str, Keyword]", Draft202012Validator.VALIDATORS)
_OWN: Mapping[str, Keyword] = {
    "pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}  # fmt: skip
_Bounded: Any = cast(Any, validators).extend(
    Draft202012Validator, {name: _paid(name, keyword) for name, keyword in {**_ORIGINAL, **_OWN}.items()}
)


@lru_cache(maxsize=4096)
def validator(schema_text: str) -> Any:
    """What checks values against a schema, given as its canonical text. Call :func:`give` before each check.

    Raises:
        ValueError: it uses keywords together that cannot be bounded.
    """
    from referencing import Registry

    if "unevaluatedProperties" in schema_text and "patternProperties" in schema_text and _unbounded(schema_text):
        raise ValueError("unevaluatedProperties cannot be used in one schema with patternProperties")
    # An empty registry resolves nothing outside the schema; the default one would go to the network.
    empty: Any = Registry[Any]()
    return _Bounded(json.loads(schema_text), registry=empty)


def _unbounded(schema_text: str) -> bool:
    """Whether both words stand as keys in a schema: how members were judged is then found out by expressions elsewhere."""
    keys = set(re.findall(r'"(unevaluatedProperties|patternProperties)":', schema_text))
    return len(keys) == 2
