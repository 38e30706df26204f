"""Which capabilities are nearly the same, and which descriptions contradict their own manifest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

from registry.manifest import Manifest
from registry.matching.documents import Document
from registry.matching.interface import Searching
from registry.matching.words import terms

DEFAULT_LEAST = 0.7
"""Likeness from which two capabilities are worth a look: 8 of 1,000 of a public corpus are so like another. Below it most
only look alike, such as those that add and remove the same."""

_WEIGHTS = (2.0, 1.0, 0.6, 0.3)
_LOOKED_AT = 8
_QUOTED = re.compile(r"`([a-z][a-z0-9_]*)`")
_CHANGING_VERBS = """
book buy cancel charge create delete insert pay post publish purge remove rename reserve save send store submit
transfer update upload write
"""
_CHANGING = frozenset(_CHANGING_VERBS.split())


class Alike(NamedTuple):
    """A capability that is much the same as another one."""

    name: str
    likeness: float
    """1 for the same words in the same places."""

    def __str__(self) -> str:
        return f"{self.likeness:.2f} the same as {self.name}: extend {self.name} instead?"


def likeness(one: Document, other: Document) -> float:
    """How much of the words of two capabilities is common to both: weighted Jaccard, 0 to 1. Symmetric."""
    mine, theirs = _weighed(one), _weighed(other)
    either = sum((mine | theirs).values())
    return sum((mine & theirs).values()) / either if either else 0.0


def similar(
    matcher: Searching,
    documents: Callable[[str], Document],
    document: Document,
    least: float = DEFAULT_LEAST,
    allowed: Callable[[str], bool] | None = None,
) -> list[Alike]:
    """The allowed capabilities a document is at least so like, most first; one of the same name is not compared."""
    found = matcher.search(f"{document.name} {document.description}", k=_LOOKED_AT, allowed=allowed).candidates
    alike = [Alike(each.name, likeness(document, documents(each.name))) for each in found if each.name != document.name]
    return sorted((each for each in alike if each.likeness >= least), key=lambda each: (-each.likeness, each.name))


def clusters(pairs: Iterable[tuple[str, Alike]]) -> list[tuple[tuple[str, ...], float]]:
    """Groups of capabilities that are nearly the same, with the least likeness that holds each together, largest first.

    Args:
        pairs: a capability's name, and one that is much the same as it.
    """
    group: dict[str, str] = {}
    weakest: dict[str, float] = {}

    def root(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    for name, each in pairs:
        first, second = sorted((root(name), root(each.name)))
        group[second] = first
        weakest[first] = min(weakest.get(first, 1.0), weakest.pop(second, 1.0), each.likeness)
    members: dict[str, list[str]] = {}
    for name in sorted(group):
        members.setdefault(root(name), []).append(name)
    found = [(tuple(names), weakest[first]) for first, names in members.items()]
    return sorted(found, key=lambda each: (-len(each[0]), each[0]))


def contradictions(manifest: Manifest) -> list[str]:
    """Where name and description say something else than the schema and the effects, one line each."""
    said: list[str] = []
    properties = manifest.input_schema.get("properties")
    known = set(properties) if isinstance(properties, dict) else set[str]()
    required = manifest.input_schema.get("required")
    for name in cast("list[str]", required) if isinstance(required, list) else []:
        if name not in known:
            said.append(f"the schema requires {name!r} and does not describe it")
    if known:
        returned = (manifest.output_schema or {}).get("properties")
        there = known | (set(returned) if isinstance(returned, dict) else set[str]())
        for name in _named(manifest.description):
            if name not in there and name != manifest.name:
                said.append(f"the description speaks of {name!r}, which the schema does not have")
    verb = manifest.name.partition("_")[0]
    if manifest.effects == "pure" and verb in _CHANGING:
        said.append(f"it is called {manifest.name} and its effects are 'pure'; say 'writes' if it changes anything")
    return said


def _named(description: str) -> Iterable[str]:
    return dict.fromkeys(_QUOTED.findall(description))


def _weighed(document: Document) -> Counter[str]:
    """Stems with what they weigh, in thousandths, so that sums are exact and likeness is the same both ways."""
    weighed: Counter[str] = Counter()
    for text, weight in zip(document, _WEIGHTS, strict=False):
        for word in set(terms(text)):
            weighed[word] += round(1000 * weight)
    return weighed
