"""Checking values and schemas: JSON Schema 2020-12 with messages a planner or a person can act on.

Validators are compiled once for each schema and found again by its text, so checking an input costs only the check. What a
check may cost is bounded; see :mod:`registry.bounds`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urljoin

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry import sight
from registry.content import canonical

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

    from registry.manifest import Manifest

MAX_DEPTH = 64
"""How deep a schema or a checked value may be nested."""

MAX_CHARACTERS = 1024 * 1024
"""How long a schema may be, as canonical JSON."""

_MOST_PROBLEMS = 10
_FEW_STEPS = 200_000
"""What checking an empty object may cost: a schema that needs more for it is made to."""
_SIMPLER = "simplify one of them"
_ONE = (
    "items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else", "unevaluatedItems",
    "unevaluatedProperties", "contentSchema",
)  # fmt: skip
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_BROKEN = "schema: "
_VALUES = frozenset({"const", "enum", "default", "examples"})


def validate_input(manifest: Manifest, value: JsonValue) -> list[str]:
    """What is wrong with a call's input; empty when it fits the manifest's schema.

    Args:
        manifest: of the capability.
        value: the input.

    Returns:
        At most ten lines such as ``items[0].price: 'abc' is not of type 'number'``.
    """
    return problems(manifest.input_text, value)


def validate_output(manifest: Manifest, value: JsonValue) -> list[str]:
    """What is wrong with a result; empty when it fits, or when the manifest has no schema for it."""
    return [] if manifest.output_text is None else problems(manifest.output_text, value)


def problems(schema_text: str, value: JsonValue) -> list[str]:
    """What is wrong with a value under a schema given as its canonical text."""
    return _problems(schema_text, value, None)


def _problems(schema_text: str, value: JsonValue, steps: int | None) -> list[str]:
    from referencing.exceptions import Unresolvable

    from registry import bounds

    if too_deep(value):
        return [f"value: nested deeper than {MAX_DEPTH} levels"]
    bounds.give(bounds.STEPS if steps is None else steps)
    try:
        errors = sorted(
            cast("Iterable[ValidationError]", bounds.validator(schema_text).iter_errors(value)),
            key=lambda error: [str(part) for part in error.absolute_path],
        )
    except bounds.TooCostly:
        return [f"value: it takes too much to hold it against its schema; {_SIMPLER}"]
    except ValueError as error:
        return [f"{_BROKEN}{error}"]
    except Unresolvable as error:
        return [f"{_BROKEN}{error}"]
    except RecursionError:
        return [f"{_BROKEN}it refers to itself without end"]
    except OverflowError:
        return ["value: a number is too large to be compared with the schema's"]
    lines = list(dict.fromkeys(_line(error) for error in errors))
    if len(lines) > _MOST_PROBLEMS:
        lines[_MOST_PROBLEMS:] = [f"… and {len(lines) - _MOST_PROBLEMS} more"]
    return lines


def check_schema(field: str, schema: Mapping[str, JsonValue], *, top: Literal["object"] | None = None) -> None:
    """Refuse what is not a self-contained JSON Schema.

    Args:
        field: its name in messages.
        schema: the document.
        top: the type its top level must have.

    Raises:
        BadInput: naming the place inside the schema.
    """
    if too_deep(schema):
        raise BadInput(field, "…", f"Nest it at most {MAX_DEPTH} levels deep.")
    text = canonical(schema)
    if len(text) > MAX_CHARACTERS:
        raise BadInput(field, f"{len(text):,} characters", f"Write it in at most {MAX_CHARACTERS:,}.")
    if top is not None and schema.get("type") != top:
        raise BadInput(f"{field}.type", schema.get("type"), f"Its top level must be {{'type': '{top}'}}.")
    usual = sight.valid(schema)
    if not usual:
        _check_rules(field, schema)
    _check_references(field, schema, schema)
    if not usual:
        _check_expressions(field, schema)
    for said in _problems(text, {}, _FEW_STEPS):
        if said.startswith(_BROKEN):
            raise BadInput(field, said, "Correct the references in it.")
        if _SIMPLER in said:
            raise BadInput(field, said, "Let fewer references branch.")


def _check_rules(field: str, schema: Mapping[str, JsonValue]) -> None:
    """The rules of the specification."""
    from jsonschema import exceptions

    try:
        error: ValidationError | None = cast(Any, exceptions).best_match(_rules().iter_errors(dict(schema)))
    except (RecursionError, OverflowError):
        raise BadInput(field, "…", "One of its expressions is nested too deep or repeats too much.") from None
    if error is not None:
        where = _path(error.absolute_path, field)
        raise BadInput(where, error.instance, f"It is not JSON Schema 2020-12: {_short(error.message)}.")


@lru_cache(maxsize=1)
def _rules() -> Any:
    """The rules of JSON Schema 2020-12 for schemas, from the specification's own seven documents put together as one, so that
    no part of a schema is looked at seven times, each by way of an address: what a parameter costs is a fraction of that."""
    from jsonschema import Draft202012Validator, validators
    from jsonschema_specifications import REGISTRY  # pyright: ignore[reportMissingTypeStubs]

    whole = cast("dict[str, Any]", Draft202012Validator.META_SCHEMA)
    known = dict[str, Any](whole["properties"])
    named = dict[str, Any]()
    for part in whole["allOf"]:
        rules = cast("dict[str, Any]", cast(Any, REGISTRY).contents(urljoin(whole["$id"], part["$ref"])))
        known |= rules["properties"]
        named |= rules.get("$defs", {})
    known, named = json.loads(json.dumps([known, named]).replace('"$dynamicRef": "#meta"', '"$ref": "#"'))
    rules = {"type": whole["type"], "properties": known}

    def refer(validator: Any, ref: str, instance: Any, _: Any) -> Iterable[ValidationError]:
        return validator.descend(instance, rules if ref == "#" else named[ref.rpartition("/")[2]])

    kind = cast(Any, validators).extend(Draft202012Validator, {"$ref": refer})
    return kind(rules, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _check_expressions(field: str, schema: JsonValue | Mapping[str, JsonValue]) -> None:
    """Expressions must be such that matching them takes no longer than reading the text."""
    from registry.expressions import REMEDY, compiled

    left: list[tuple[str, object]] = [(field, schema)]
    while left:
        where, node = left.pop()
        if not isinstance(node, Mapping):
            continue
        parts = cast(Mapping[str, object], node)
        named = parts.get("patternProperties")
        patterns = [("pattern", parts.get("pattern")), *(("patternProperties", each) for each in _members(named))]
        for keyword, pattern in patterns:
            try:
                if isinstance(pattern, str):
                    compiled(pattern)
            except ValueError as error:
                raise BadInput(f"{where}.{keyword}", pattern, f"{REMEDY} ({error})") from None
        for keyword in _ONE:
            left.append((f"{where}.{keyword}", parts.get(keyword)))
        for keyword in _MAPS:
            left += [(f"{where}.{keyword}.{name}", each) for name, each in _members(parts.get(keyword)).items()]
        for keyword in _LISTS:
            inner = parts.get(keyword)
            if isinstance(inner, list):
                left += [(f"{where}.{keyword}[{at}]", each) for at, each in enumerate(cast("list[object]", inner))]


def _members(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _check_references(field: str, node: object, root: Mapping[str, JsonValue]) -> None:
    """References must lead into the same document: one that leads out would be fetched from the network."""
    if isinstance(node, Mapping):
        for key, value in cast(Mapping[str, object], node).items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not _resolves(value, root):
                raise BadInput(f"{field}.{key}", value, "Refer only to parts of the same schema, '#/$defs/<name>'.")
            if key == "$id" and isinstance(value, str) and node is not root:
                raise BadInput(f"{field}.$id", value, "Only the top level may have an $id; remove it.")
            if key not in _VALUES or isinstance(value, Mapping):
                _check_references(field, cast(object, value), root)
    elif isinstance(node, list):
        for value in cast(list[object], node):
            _check_references(field, value, root)


def _resolves(reference: str, root: Mapping[str, JsonValue]) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    at: object = root
    for raw in reference[2:].split("/"):
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(at, Mapping) and part in at:
            at = cast(Mapping[str, object], at)[part]
        elif isinstance(at, list) and part.isdecimal() and int(part) < len(cast(list[object], at)):
            at = cast(list[object], at)[int(part)]
        else:
            return False
    return isinstance(at, Mapping | bool)


def _line(error: ValidationError) -> str:
    import jsonschema.exceptions

    context = cast("list[ValidationError] | None", error.context)
    if context:
        # A failed anyOf says nothing by itself; its closest branch does.
        closest = cast("ValidationError | None", cast(Any, jsonschema.exceptions).best_match([error]))
        error = closest or error
    return f"{_path(error.absolute_path, 'value')}: {_short(error.message)}"


def _path(parts: Any, start: str) -> str:
    text = "" if start == "value" else start
    for part in parts:
        # A name may be as long as a value.
        text += f"[{part}]" if isinstance(part, int) else f".{_short(part)}" if text else _short(str(part))
    return text or start


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:200]} … {message[-90:]}"


def too_deep(value: object) -> bool:
    """Whether lists and objects nest deeper than is safe to walk recursively."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                deeper.extend(cast(Mapping[str, object], one).values())
            elif isinstance(one, list | tuple):
                deeper.extend(cast(list[object], one))
        if not deeper:
            return False
        level = deeper
    return any(isinstance(one, Mapping | list | tuple) for one in level)
