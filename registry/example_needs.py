"""What makes a good example need: words somebody would ask with who wants what a capability does and has never heard of it.

A model writes them from what the capability says of itself, which may come from anybody. So each is judged by code before it
counts: by its form, by the words of the capability, and by what others say of themselves. They reach the matcher and no
prompt, and what they can add there is bounded like what was served.

Source of the idea to keep only what is not answered by another document: Gospodinov et al., "Doc2Query--: When Less is More"
(2023).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from blackboard.lessons import need_text
from registry.content import canonical, sha256
from registry.manifest import Manifest
from registry.matching import verbs
from registry.matching.documents import ENOUGH_NEEDS as MOST
from registry.matching.documents import Document
from registry.matching.words import terms

LEAST = 3
"""Example needs that are worth having; a manifest whose examples describe so many needs has enough."""
MOST_CHARACTERS = 160
_LEAST_WORDS = 3
_ALIKE = 0.8
"""Share of words in common from which two texts say the same."""
_DELETES = "delete"
"""The kind of thing that no example may make of another, nor another of it; of the rest people speak loosely."""
_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_MARKUP = re.compile(r"[<>{}\[\]|\\`]|://|^(?:[-•]|\d+[.)])\s")
_SENTENCE = re.compile(r"[.;!?]\s+|\n+")


class Judged(NamedTuple):
    """What became of needs that a model wrote."""

    needs: tuple[str, ...]
    objections: tuple[str, ...]
    """Why others are left out, for whoever wrote them."""


def contract(manifest: Manifest) -> Mapping[str, JsonValue]:
    """What a capability says of itself."""
    return {
        "name": manifest.name,
        "description": manifest.description,
        "input_schema": manifest.input_schema,
        "output_schema": manifest.output_schema,
    }


def contract_hash(manifest: Manifest) -> str:
    """Changes when the capability says something else of itself, and not when its code alone does."""
    return sha256(canonical(contract(manifest)))


def wants(manifest: Manifest) -> bool:
    """Whether its own examples describe too few needs."""
    return sum(bool(example.description.strip()) for example in manifest.examples) < LEAST


def judge(needs: Iterable[object], name: str, description: str, names: Collection[str] = ()) -> Judged:
    """Keep the first :data:`MOST` of some needs that are well-formed, distinct, and say something the capability does not say.

    Args:
        needs: as a model wrote them.
        name, description: of the capability.
        names: of others. A need may mention none of them; nobody who asks knows them.
    """
    kept: list[str] = []
    known: list[set[str]] = []
    said = [set(terms(each)) for each in _SENTENCE.split(description)]
    does = verbs.does(Document(name, description))
    objections: list[str] = []
    for given in needs:
        text = need_text(given) if isinstance(given, str) and "\n" not in given.strip() else None
        words = set(terms(text or ""))
        why = _unfit(text, words, {*names, name})
        if text is not None and not why:
            if text.casefold() in description.casefold() or any(_same(words, each) for each in said):
                why = "it only repeats the description."
            elif any(_same(words, each) for each in known):
                why = "it says what an earlier one says."
            else:
                why = _otherwise(verbs.asked(text), does)
        if why:
            objections.append(f"{str(given)[:MOST_CHARACTERS]!r}: {why}")
        elif text is not None and len(kept) < MOST:
            kept.append(text)
            known.append(words)
    return Judged(tuple(kept), tuple(objections))


def _unfit(text: str | None, words: Collection[str], names: Collection[str]) -> str:
    """Why a text is no need at all."""
    if text is None or len(text) > MOST_CHARACTERS:
        return f"it is not one line of text of at most {MOST_CHARACTERS} characters."
    if not text.isprintable() or _MARKUP.search(text):
        return "it is not plain text."
    if len(text.split()) < _LEAST_WORDS or not words:
        return "it says too little."
    if named := [each for each in _IDENTIFIER.findall(text.casefold()) if each in names]:
        return f"it mentions the capability {named[0]}; whoever asks knows none."
    return ""


def _otherwise(asked: frozenset[str], does: frozenset[str]) -> str:
    if asked and does and asked.isdisjoint(does) and _DELETES in asked | does:
        return f"it asks for another kind of thing: {', '.join(sorted(asked))}, not {', '.join(sorted(does))}."
    return ""


def _same(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= _ALIKE * len(one | other) > 0
