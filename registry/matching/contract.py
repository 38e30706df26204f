"""Whether a capability can be used for a sub-task at all, whatever its words say."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Literal, cast, get_args

from pydantic import JsonValue

from blackboard.types import Record
from registry.manifest import Manifest
from registry.matching.related import shipped
from registry.matching.words import stem, terms

GrantName = Literal["model", "http_hosts", "files", "secrets"]
JsonType = Literal["object", "array", "string", "number", "integer", "boolean"]
JSON_TYPES: tuple[JsonType, ...] = get_args(JsonType)
_ALIKE = 0.65
"""How close two words must be (see :mod:`registry.matching.related`) for one to be another name of the same input: a *city*
is a *location*, and a *country* is not."""


class Contract(Record):
    """What the sub-task brings, needs and allows. None does not look."""

    inputs: tuple[str, ...] | None = None
    """Names of the inputs that can be supplied. Names are compared by their words: ``accountId`` is ``account``, and a
    ``city`` is a ``location``. What a schema gives a default or a choice for can always be supplied."""
    output: JsonType | None = None
    """The JSON type that the next task needs, of the result or of a property of it, which a reference reaches as well."""
    effects: tuple[str, ...] | None = None
    """Effects that are allowed."""
    without: tuple[GrantName, ...] = ()
    """Grants that policy forbids."""

    def objections(self, manifest: Manifest) -> list[str]:
        """Why a capability cannot be used; empty when it can."""
        said: list[str] = []
        if self.inputs is not None:
            there = [_words(name) for name in self.inputs]
            missing = [name for name in _required(manifest.input_schema) if not _supplied(_words(name), there)]
            if missing:
                said.append(f"needs {', '.join(missing[:5])}")
        if self.output is not None:
            given = _types(manifest.output_schema)
            if given and not _fits(self.output, given) and not _reached(self.output, manifest.output_schema):
                said.append(f"returns {' or '.join(sorted(given))}, not {self.output}")
        if self.effects is not None and manifest.effects not in self.effects:
            said.append(f"{manifest.effects} is not allowed")
        asked = [name for name in self.without if getattr(manifest.grants, name)]
        if asked:
            said.append(f"asks for {', '.join(asked)}")
        return said


def _required(schema: Mapping[str, JsonValue]) -> list[str]:
    """The inputs that somebody has to supply."""
    names, properties = schema.get("required"), schema.get("properties")
    known: Mapping[str, JsonValue] = properties if isinstance(properties, dict) else {}
    return [name for name in cast("list[str]", names) if not _given(known.get(name))] if isinstance(names, list) else []


def _given(schema: JsonValue) -> bool:
    """Whether the schema of an input says what it may be."""
    return isinstance(schema, dict) and (
        any(key in schema for key in ("default", "const", "enum")) or schema.get("type") == "boolean"
    )


def _words(name: str) -> frozenset[str]:
    return frozenset(terms(name)) or frozenset({stem(name.lower())})


def _supplied(wanted: Set[str], there: list[frozenset[str]]) -> bool:
    """Whether one of the names that are there says no other thing than the one that is wanted."""
    for words in there:
        fewer, more = sorted((wanted, words), key=len)
        if all(word in more or any(_same(word, other) for other in more) for word in fewer):
            return True
    return False


def _same(one: str, other: str) -> bool:
    related = shipped()
    return any(word == other and close >= _ALIKE for word, close in related.of(one)) or any(
        word == one and close >= _ALIKE for word, close in related.of(other)
    )


def _types(schema: Mapping[str, JsonValue] | None) -> set[str]:
    """The JSON types a schema names at its top; empty when it names none."""
    kind = (schema or {}).get("type")
    if isinstance(kind, str):
        return {kind}
    return {str(each) for each in kind} if isinstance(kind, list) else set()


def _reached(wanted: str, schema: Mapping[str, JsonValue] | None) -> bool:
    """Whether a property may be of that type: one that is, or one of which nothing is said."""
    if "object" not in _types(schema):
        return False
    properties = (schema or {}).get("properties")
    if not isinstance(properties, dict):
        return True
    kinds = [_types(each) if isinstance(each, dict) else set[str]() for each in properties.values()]
    return any(not kind or _fits(wanted, kind) for kind in kinds)


def _fits(wanted: str, given: set[str]) -> bool:
    return wanted in given or (wanted == "number" and "integer" in given)
