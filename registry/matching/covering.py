"""Needs that take several capabilities: which candidates stand first, and how likely a need is one of them.

Each next candidate counts less for what those before it answer already: of two that answer the same half of a need seldom
both are wanted, and the one for the other half is. Which of two alike ones is better is for their scores to say: the first is
always the one with the best.

Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking" (1998); what is alike here are not texts, but the
words of the need that they answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from registry.matching.interface import Candidate
from registry.matching.words import plain_words

_AGAIN = 0.2
"""What it costs a candidate at most, as a share of its score, that all it answers is answered before."""
_LONG = 20
"""It costs that much of a need of which so many words are answered by any candidate, and less of shorter ones: what is said
briefly is seldom several things."""
_LOOKED_AT = 30
"""Those further down stay where they are."""
_WEIGHTS = (1.7, 1.6, -7.75)
"""Of what another one answers, of how much is said, and of neither: fitted on 22 sets of needs that take one or several."""
_MOST = 2.0
_READ = 20_000


def covering(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates in the order in which each adds most; scores stay what they are.

    Args:
        candidates: by score, best first.
    """
    first, rest = candidates[:_LOOKED_AT], candidates[_LOOKED_AT:]
    again = _AGAIN * min(1.0, len(set[int]().union(*(each.answers for each in first))) / _LONG)
    answered: dict[int, float] = {}
    found: list[Candidate] = []
    # What is left of a score only falls as more is answered: what is still first when it is looked at again is the next.
    heap = [(-each.score, at) for at, each in enumerate(first)]
    heapify(heap)
    while heap:
        _, at = heappop(heap)
        each = first[at]
        left = -each.score * (1 - again * _share(each.answers, answered))
        if heap and (left, at) > heap[0]:
            heappush(heap, (left, at))
            continue
        found.append(each)
        for word, much in each.answers.items():
            answered[word] = max(much, answered.get(word, 0.0))
    return [*found, *rest]


def several(candidates: Sequence[Candidate], need: str) -> float:
    """How likely a need takes several capabilities, when the best candidate is one of them; 0 where there is none.

    Before anything is known of it one need in twenty does. Two things speak for it: how much another candidate answers of it
    that the best does not, and how much it says at all.
    """
    if not candidates:
        return 0.0
    rest, long, start = _WEIGHTS
    said = math.log1p(len(plain_words(need[:_READ])))
    return 1 / (1 + math.exp(-(start + rest * min(_MOST, _beyond(candidates)) + long * said)))


def _beyond(candidates: Sequence[Candidate]) -> float:
    """The most that another candidate answers and the best does not, as a share of what the best answers."""
    best = candidates[0].answers
    more = (
        sum(max(0.0, much - best.get(word, 0.0)) for word, much in each.answers.items())
        for each in candidates[1:_LOOKED_AT]
    )
    return max(more, default=0.0) / (sum(best.values()) or 1.0)


def _share(answers: Mapping[int, float], before: Mapping[int, float]) -> float:
    """How much of what is answered is answered before; 0 where nothing is."""
    whole = sum(answers.values())
    return sum(min(much, before.get(word, 0.0)) for word, much in answers.items()) / whole if whole else 0.0
