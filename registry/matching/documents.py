"""What the matcher reads of a capability: five texts, whatever it was described in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, cast

from pydantic import JsonValue

from registry.manifest import Manifest

ENOUGH_NEEDS = 5
"""Of a capability that has so many needs of its own, served or in its manifest, no example needs count that a model wrote."""
_PROPERTIES_READ = 400
"""Of a schema with more named values than this, the first ones are read: no caller says more about one need."""


class Document(NamedTuple):
    """The texts of one capability."""

    name: str = ""
    description: str = ""
    parameters: str = ""
    """Names of its parameters, with blanks between them."""
    parameter_texts: str = ""
    """What is said about them, and the words they may be."""
    served: str = ""
    """Needs it is known to have served: examples of the manifest, and requests it was used for with success. Example needs
    that a model wrote stand in for those that are lacking."""

    @classmethod
    def of(cls, manifest: Manifest, served: Iterable[str] = (), written: Iterable[str] = ()) -> Document:
        """The texts of a manifest, of the needs it served, and of example needs that a model wrote for it."""
        names: list[str] = []
        texts: list[str] = []
        for number, (key, schema) in enumerate(_properties(manifest.input_schema)):
            if number == _PROPERTIES_READ:
                break
            names.append(key)
            if isinstance(schema.get("description"), str):
                texts.append(cast(str, schema["description"]))
            enum = schema.get("enum")
            if isinstance(enum, list):
                texts += [value for value in enum[:_PROPERTIES_READ] if isinstance(value, str)]
        examples = [example.description for example in manifest.examples]
        return cls(
            manifest.name,
            manifest.description,
            " ".join(names),
            " ".join(texts),
            "\n".join(needs([*examples, *served], written)),
        )


def needs(own: Sequence[str], written: Iterable[str]) -> list[str]:
    """A capability's own needs, and what a model wrote as far as it has fewer than :data:`ENOUGH_NEEDS`."""
    lacking = ENOUGH_NEEDS - sum(bool(each.strip()) for each in own)
    return [*own, *islice(written, max(0, lacking))]


def _properties(schema: Mapping[str, JsonValue], depth: int = 0) -> Iterable[tuple[str, Mapping[str, JsonValue]]]:
    """The named properties of a schema, two levels deep: what a caller may say about a thing."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    for key, each in sorted(properties.items()):
        if isinstance(each, dict):
            yield key, each
            if depth < 1:
                inner = each.get("items")
                yield from _properties(inner if isinstance(inner, dict) else each, depth + 1)
