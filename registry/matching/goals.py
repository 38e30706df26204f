"""What a sub-task is for: the request it belongs to helps to find what serves it.

*Book it* fits whatever books; in a request about a concert it wants tickets. So the odds of each candidate are multiplied by
those the request gives it, to a power that is the less the more words the sub-task has itself: one that says what it wants
keeps its order. The request finds nothing by itself, since most of it is other sub-tasks, and how sure a ranking is goes by
the sub-task alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from registry.matching.covering import covering
from registry.matching.interface import Candidate, Findings, Searching, odds
from registry.matching.words import plain_words

_WORDS = 0.4
_MEANINGS = 1.0
"""How much the request counts beside a sub-task of one word."""
_LEAST = 0.06
"""What counts less would cost a search and change nothing."""
_DEEP = 100
_FAR = 4.0
"""By how many powers of e the request may tell the best for it from what it says nothing of."""
_READ = 4000


def beside(matcher: Searching, goal: str) -> Searching:
    """A matcher whose searches are for sub-tasks of a goal, in words; with an empty one, as it is."""
    return _Beside(matcher, goal[:_READ]) if goal.strip() else matcher


class _Beside:
    def __init__(self, matcher: Searching, goal: str) -> None:
        self._matcher, self._goal = matcher, goal

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        found = self._matcher.search(query, k=max(k, _DEEP), allowed=allowed)
        share = (_MEANINGS if found.signals.nearer else _WORDS) / max(1, len(plain_words(query)))
        if share < _LEAST or query.strip() == self._goal.strip():
            return found._replace(candidates=found.candidates[:k])
        wanted = self._matcher.search(self._goal, k=_DEEP, allowed=allowed).candidates
        speaks = {each.name: math.log(odds(each.score)) for each in wanted}
        least = max(speaks.values(), default=0.0) - _FAR
        if len(wanted) == _DEEP:
            least = max(least, min(speaks.values()))
        weighed: list[Candidate] = []
        for each in found.candidates:
            times = math.exp(share * max(0.0, speaks.get(each.name, least) - least))
            if times > 1:
                score = round(1 - 1 / (1 + times * odds(each.score)), 6)
                each = each._replace(score=score, reasons=(*each.reasons, f"the request ×{times:.1f}"))
            weighed.append(each)
        return found._replace(candidates=covering(sorted(weighed, key=lambda each: (-each.score, each.name)))[:k])
