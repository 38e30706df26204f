"""Which capabilities may serve a need: a short, ranked list out of many.

:class:`Matcher` is the seam; :class:`LexicalMatcher` is the one that needs nothing but the standard library. It knows
words, not meanings: a need worded unlike the manifest is missed, so a model must be able to search again, in other
words.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), the field-weighted
form, section 3.6.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest, nsmallest
from itertools import pairwise
from typing import NamedTuple, Protocol, cast

from pydantic import JsonValue

from registry.manifest import Manifest

DEFAULT_FLOOR = 0.02
"""Below it there is hardly more in common than a frequent word. Low on purpose: what is left out cannot be chosen, and
for needs in everyday language right capabilities score as little as 0.03."""

_SATURATION = 1.6
_BIGRAM = 0.3
_ELSEWHERE = 100
"""Capabilities assumed to exist that have none of a need's words. In a registry of three, a word that all three have
still says something; without this it would count for nothing."""
_MEANT = 12
"""How many of a need's words a score is held against. A need of a thousand words, say with a table in it, does not mean
a thousand things, and no capability could cover them."""
_FIELDS = ("name", "description", "parameters", "parameter descriptions", "examples")
_WEIGHTS = (2.0, 1.0, 0.6, 0.4, 0.5)
_LENGTHS = (0.3, 0.75, 0.75, 0.75, 0.75)
"""How far a field longer than the average counts less (BM25's b)."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = """
a about all also am an and any are as at be been being but by can could did do does doing for from get give had has have
he help her here him his how i if in into is it its let like me more my need not of on one or our out please she should
show so some such tell than that the their them then there these they this those to up us use using want was we were
what when where which who why will with would you your
"""
_STOP = frozenset(_STOP_WORDS.split())


class Ranked(NamedTuple):
    """A capability's name and its score: 0 for nothing in common with the need, towards 1 the more it covers."""

    name: str
    score: float


class Matcher(Protocol):
    """Ranks capabilities for a need. Adding and removing must leave it as if it had been built from the rest."""

    def add(self, name: str, manifest: Manifest) -> None:
        """Know this capability; replaces what was known under the name."""
        ...

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        ...

    def rank(
        self, need: str, *, k: int, floor: float = DEFAULT_FLOOR, allowed: Callable[[str], bool] | None = None
    ) -> list[Ranked]:
        """The best at most ``k`` allowed capabilities that score at least ``floor``, best first, ties by name."""
        ...


class LexicalMatcher:
    """BM25F over name, description, parameters and examples; words are stemmed, identifiers split.

    A score is ``s / (s + w)``, where ``s`` is the BM25F sum and ``w`` the weight of the need's heaviest words, so one
    floor serves every need and every size of registry: words nobody knows weigh most, and a need made of them scores
    near 0 everywhere.
    """

    def __init__(self) -> None:
        self._postings: dict[str, dict[str, tuple[int, ...]]] = {}
        self._terms: dict[str, tuple[str, ...]] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        self._totals = [0] * len(_FIELDS)
        self._impacts: dict[str, list[tuple[str, float]]] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, name: str, manifest: Manifest) -> None:
        """Know this capability; replaces what was known under the name."""
        self.remove(name)
        fields = [terms(text) for text in _texts(name, manifest)]
        counts = [Counter(with_bigrams(field)) for field in fields]
        every = sorted({term for count in counts for term in count})
        for term in every:
            self._postings.setdefault(term, {})[name] = tuple(count[term] for count in counts)
        self._terms[name] = tuple(every)
        self._lengths[name] = tuple(len(field) for field in fields)
        for index, field in enumerate(fields):
            self._totals[index] += len(field)

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        self._impacts.clear()
        for term in self._terms.pop(name, ()):
            postings = self._postings[term]
            del postings[name]
            if not postings:
                del self._postings[term]
        for index, length in enumerate(self._lengths.pop(name, ())):
            self._totals[index] -= length

    def rank(
        self, need: str, *, k: int, floor: float = DEFAULT_FLOOR, allowed: Callable[[str], bool] | None = None
    ) -> list[Ranked]:
        """The best at most ``k`` allowed capabilities that score at least ``floor``, best first, ties by name.

        A floor of 0 fills the list up with capabilities that share nothing with the need.
        """
        if k <= 0:
            return []
        words = list(dict.fromkeys(terms(need)))
        pairs = [
            pair for pair in dict.fromkeys(with_bigrams(terms(need))[len(terms(need)) :]) if pair in self._postings
        ]
        weights = {term: self._idf(term) for term in words} | {pair: _BIGRAM * self._idf(pair) for pair in pairs}
        against = sum(nlargest(_MEANT, weights.values()))
        scores: dict[str, float] = {}
        for term, weight in weights.items():
            for name, impact in self._impact(term):
                scores[name] = scores.get(name, 0.0) + weight * impact
        if floor <= 0:
            scores = dict.fromkeys(self._terms, 0.0) | scores
        ranked = [
            Ranked(name, share)
            for name, score in scores.items()
            if (share := score / (score + against) if score else 0.0) >= floor and (allowed is None or allowed(name))
        ]
        return nsmallest(k, ranked, key=lambda each: (-each.score, each.name))

    def _idf(self, term: str) -> float:
        known = len(self._postings.get(term, ()))
        return math.log(1 + (len(self._terms) + _ELSEWHERE - known + 0.5) / (known + 0.5))

    def _impact(self, term: str) -> list[tuple[str, float]]:
        """What a term counts for each capability that has it; kept until a capability comes or goes."""
        found = self._impacts.get(term)
        if found is None:
            if term not in self._postings:
                return []
            found = [(name, self._saturated(name, counts)) for name, counts in self._postings[term].items()]
            self._impacts[term] = found
        return found

    def _saturated(self, name: str, counts: tuple[int, ...]) -> float:
        lengths, total = self._lengths[name], 0.0
        for index, count in enumerate(counts):
            if count:
                average = self._totals[index] / len(self._terms)
                long = 1 + _LENGTHS[index] * (lengths[index] / average - 1)
                total += _WEIGHTS[index] * count / long
        return total / (_SATURATION + total)


def terms(text: str) -> list[str]:
    """The words of a text as they are compared: identifiers split, lower case, stop words left out, stemmed."""
    words = (word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text)))
    return [stem(word) for word in words if word not in _STOP]


def with_bigrams(words: list[str]) -> list[str]:
    """The words, then each two neighbours as one term."""
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def stem(word: str) -> str:
    """A word without the commonest English endings, so that *invoices*, *invoiced* and *invoicing* are one.

    Crude on purpose: both sides lose the same letters, and no exception list has to be kept.
    """
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ations", "ation", "ating", "ated", "ator", "ing", "ed", "ment", "ly", "er", "or", "ion"):
        if word.endswith(ending) and len(word) - len(ending) >= (3 if ending in ("ing", "ed") else 4):
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    if len(word) > 4 and word[-1] in "ey":
        word = word[:-1]
    return word


def _texts(name: str, manifest: Manifest) -> tuple[str, ...]:
    names: list[str] = []
    descriptions: list[str] = []
    for key, schema in _properties(manifest.input_schema):
        names.append(key)
        if isinstance(schema.get("description"), str):
            descriptions.append(cast(str, schema["description"]))
        enum = schema.get("enum")
        if isinstance(enum, list):
            descriptions += [value for value in enum if isinstance(value, str)]
    examples = [example.description for example in manifest.examples]
    return (name, manifest.description, " ".join(names), " ".join(descriptions), " ".join(examples))


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
