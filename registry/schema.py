"""Checking values and schemas: JSON Schema 2020-12 with messages a planner or a person can act on.

Validators are compiled once for each schema and found again by its text, so checking an input costs only the check.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry.content import canonical

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    from registry.manifest import Manifest

MAX_DEPTH = 64
"""How deep a schema or a checked value may be nested."""

_MOST_PROBLEMS = 10
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
    from referencing.exceptions import Unresolvable

    if too_deep(value):
        return [f"value: nested deeper than {MAX_DEPTH} levels"]
    try:
        errors = sorted(
            cast("Iterable[ValidationError]", cast(Any, _validator(schema_text)).iter_errors(value)),
            key=lambda error: [str(part) for part in error.absolute_path],
        )
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
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if too_deep(schema):
        raise BadInput(field, "…", f"Nest it at most {MAX_DEPTH} levels deep.")
    if top is not None and schema.get("type") != top:
        raise BadInput(f"{field}.type", schema.get("type"), f"Its top level must be {{'type': '{top}'}}.")
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        where = _path(error.absolute_path, field)
        raise BadInput(where, error.instance, f"It is not JSON Schema 2020-12: {_short(error.message)}.") from None
    _check_references(field, schema, schema)
    for said in problems(canonical(schema), {}):
        if said.startswith(_BROKEN):
            raise BadInput(field, said, "Correct the references in it.")


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


@lru_cache(maxsize=4096)
def _validator(schema_text: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry resolves nothing outside the schema; the default one would go to the network.
    empty: Any = Registry[Any]()
    return Draft202012Validator(json.loads(schema_text), registry=empty)


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
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
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
