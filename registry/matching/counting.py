"""What words, and pairs of neighbours, count for in a capability: settled by its own texts alone.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section 3.6, for the
field weights.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from registry.matching.documents import Document
from registry.matching.words import terms

_FIELDS = (
    (2.0, 3.0, 0.3, 32),
    (1.0, 12.0, 0.75, 400),
    (0.6, 2.0, 0.75, 400),
    (0.4, 8.0, 0.75, 600),
    (0.5, 20.0, 0.75, 600),
)
"""Of each text of a document: its weight, the usual number of words, how far a longer one counts less (BM25's b), and
how many words of it are read."""
_SERVED = 0.7
"""What all words of a capability count for that is known to have served needs. It has so much more to be found by that those
that are new would come after it for needs that are theirs; a longer text counts less for the same reason."""
_SATURATION = 1.6
_REPEATED = 2
"""How often a word counts in one text. Whoever says it a third time says nothing more of what the thing does."""
PAIRS = 1 << 20
"""How many numbers pairs of words are counted under. More pairs than that share numbers, and seem a little less rare."""


class Counted(NamedTuple):
    """A document, taken apart."""

    impacts: Mapping[str, int]
    """What each word counts for, in 255ths; at least 1."""
    sequence: Sequence[str]
    """All words in their order, with an empty one before each text."""


def count(document: Document) -> Counted:
    """See :class:`Counted`."""
    counted: dict[str, float] = {}
    sequence: list[str] = []
    texts = [terms(text)[:read] if text else [] for text, (_, _, _, read) in zip(document, _FIELDS, strict=True)]
    whole = _SERVED if texts[-1] else 1.0
    for words, (weight, usual, shorter, _) in zip(texts, _FIELDS, strict=True):
        sequence.append("")
        if not words:
            continue
        each = whole * weight / (1 + shorter * (len(words) / usual - 1))
        said = dict.fromkeys(words, each)
        if len(said) < len(words):
            seen = set[str]()
            for word in words:
                if word in seen:
                    said[word] = each * _REPEATED
                seen.add(word)
        if counted:
            for word, value in said.items():
                counted[word] = counted.get(word, 0.0) + value
        else:
            counted = said
        sequence += words
    # Most words of a document count the same: there are few different values.
    impacts = {value: max(1, round(255 * value / (_SATURATION + value))) for value in set(counted.values())}
    return Counted({word: impacts[value] for word, value in counted.items()}, sequence)


def mark(word: str) -> int:
    """What stands for a word in the numbers of its pairs; never 0."""
    return crc32(word.encode("utf-8", "replace")) or 1


def pair(first: int, second: int) -> int:
    """The number a pair of neighbours is counted under, from their marks."""
    return (31 * first + second) % PAIRS


def pairs(marks: Sequence[int]) -> set[int]:
    """The numbers of the pairs in texts that are divided by marks of 0."""
    # As pair() has it; a call for each would take longer than all the rest.
    return {(31 * first + second) % PAIRS for first, second in pairwise(marks) if first and second}


def neighbours(text: array[int], asked: Mapping[tuple[int, int], float]) -> float:
    """What pairs of words add to a score: as much as one word would that occurs where they do.

    Args:
        text: the sequence of a document as numbers of words, 0 before each text.
        asked: the need's pairs, and what each weighs.
    """
    if asked.keys().isdisjoint(pairwise(text)):
        return 0.0
    found: dict[tuple[int, int], float] = {}
    seen = set[tuple[int, int]]()
    field, each, last = -1, 0.0, 0
    whole = _SERVED if text[-1] else 1.0
    for at, number in enumerate(text):
        if not number:
            field, each, seen = field + 1, 0.0, set[tuple[int, int]]()
        elif last and (both := (last, number)) in asked and both not in seen:
            seen.add(both)
            if not each:
                weight, usual, shorter, _ = _FIELDS[field]
                each = whole * weight / (1 + shorter * (_length(text, at) / usual - 1))
            found[both] = found.get(both, 0.0) + each
        last = number
    return sum(asked[both] * value / (_SATURATION + value) for both, value in found.items())


def _length(text: array[int], at: int) -> int:
    """How many words the text has that the one at a place belongs to."""
    start = at
    while start and text[start - 1]:
        start -= 1
    end = at
    while end < len(text) and text[end]:
        end += 1
    return end - start
