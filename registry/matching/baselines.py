"""Other ways of ranking, to hold a matcher against: plain BM25, and the fusion of rankings by reciprocal rank."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest

from registry.matching.documents import Document

_SPLIT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


class Bm25:
    """Plain BM25 over name, description and parameter names, identifiers split: the usual first choice."""

    def __init__(self, documents: Mapping[str, Document], k1: float = 1.5, b: float = 0.75) -> None:
        self._postings: dict[str, list[tuple[str, float]]] = defaultdict(list)
        counts = {
            id: Counter(_plain(f"{each.name} {each.name} {each.description} {each.parameters}"))
            for id, each in documents.items()
        }
        average = sum(count.total() for count in counts.values()) / max(1, len(counts)) or 1.0
        self._size = len(counts)
        for id, count in counts.items():
            length = k1 * (1 - b + b * count.total() / average)
            for word, times in count.items():
                self._postings[word].append((id, times * (k1 + 1) / (times + length)))

    def scores(self, text: str) -> dict[str, float]:
        """Of everything that shares a word with the text."""
        scores: dict[str, float] = {}
        for word in set(_plain(text)):
            postings = self._postings.get(word, ())
            weight = math.log(1 + (self._size - len(postings) + 0.5) / (len(postings) + 0.5))
            for id, value in postings:
                scores[id] = scores.get(id, 0.0) + weight * value
        return scores

    def rank(self, text: str, k: int) -> list[tuple[str, float]]:
        """The best, best first."""
        return nsmallest(k, self.scores(text).items(), key=lambda each: (-each[1], each[0]))


def fused(lists: Iterable[Sequence[str]], constant: int = 60) -> list[str]:
    """Rankings as one, by the sum of reciprocal ranks (Cormack et al., 2009)."""
    scores: dict[str, float] = {}
    for ids in lists:
        for rank, id in enumerate(ids, 1):
            scores[id] = scores.get(id, 0.0) + 1 / (constant + rank)
    return sorted(scores, key=lambda id: (-scores[id], id))


def _plain(text: str) -> list[str]:
    return [word.lower() for word in _SPLIT.split(text) if word]
