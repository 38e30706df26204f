"""Does the handler that was really loaded take what the input schema promises? Checked by deed, after the import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue


def mismatches(described: Mapping[str, Any], input_schema: Mapping[str, JsonValue]) -> list[str]:
    """How a handler's parameters differ from the input it will be called with; empty when they fit.

    Args:
        described: what ``import`` found, see :func:`wrapper.isolation.inspection.describe`; or what the module, which ran by
            then, had said in its place.
        input_schema: of the specification.
    """
    listed = described.get("parameters")
    if listed is None:
        return ["handler has no readable signature; make it a plain function."]
    if not isinstance(listed, list) or not all(map(_is_parameter, cast("list[object]", listed))):
        return ["the module interferes with how its handler is read; make handler a plain function and nothing else."]
    parameters = cast("list[Mapping[str, Any]]", listed)
    by_name = {str(each["name"]): each for each in parameters if each["kind"] in _NAMED}
    open_ended = bool(described.get("accepts_kwargs"))
    properties = cast("Mapping[str, JsonValue]", input_schema.get("properties") or {})
    required = set(cast("list[str]", input_schema.get("required") or []))
    found: list[str] = []
    for each in parameters:
        name = str(each["name"])
        if each["kind"] == "positional_only":
            found.append(f"parameter {name!r} is positional only; handler is called with keywords.")
        elif each["kind"] in _NAMED and each["required"] and name not in required:
            instead = (
                "give it a default, input may come without it"
                if name in properties
                else "the input has no such property"
            )
            found.append(f"parameter {name!r} is required, but {instead}.")
    if not open_ended:
        found += [f"property {name!r} of the input has no parameter." for name in properties if name not in by_name]
        found += [
            f"property {name!r} is required by the input schema and has no parameter."
            for name in sorted(required - set(properties) - set(by_name))
        ]
        if input_schema.get("additionalProperties", True) is not False or input_schema.get("patternProperties"):
            found.append("the input may hold further properties; accept them with **rest.")
    return found


def _is_parameter(each: object) -> bool:
    one = cast("Mapping[str, object]", each if isinstance(each, dict) else {})
    return (
        isinstance(one.get("name"), str) and isinstance(one.get("kind"), str) and isinstance(one.get("required"), bool)
    )


_NAMED = ("positional_or_keyword", "keyword_only")
