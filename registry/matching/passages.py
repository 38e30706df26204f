"""What is written on the board, ranked for a question as capabilities are for a need: by words, or by meaning as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import mul

from blackboard.meaning import Meaning, Ranked
from registry.matching.documents import Document
from registry.matching.encoders import LimitedEncoder
from registry.matching.hybrid import HybridMatcher
from registry.matching.interface import Matcher
from registry.matching.lexical import LexicalMatcher

EVERYTHING = 1 << 30


class Passages:
    """A :class:`~blackboard.meaning.Ranking` by a matcher.

    Args:
        matcher: empty, and used by nobody else.
    """

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def add(self, name: str, topic: str, text: str) -> None:
        """Know a text; its topic counts like the name of a capability."""
        self._matcher.add(name, Document(topic.replace(".", " "), text))

    def remove(self, name: str) -> None:
        """Forget a text."""
        self._matcher.remove(name)

    def search(self, about: str, *, k: int, allowed: Callable[[str], bool]) -> Sequence[Ranked]:
        """The best of those allowed."""
        found = self._matcher.search(about, k=k, allowed=allowed).candidates
        return [Ranked(each.name, each.score, each.reasons) for each in found if each.score > 0]


def meaning(matcher: Matcher | None = None) -> Meaning:
    """Ranks entries by the encoder of a registry's matcher where it has one, else by their words.

    By words every entry that fits is looked at. With an encoder it is the 400 best by words and the 400 nearest by meaning of
    those that fit. Vectors are kept in this process only, so that nothing is left of what is erased.
    """
    if not isinstance(matcher, HybridMatcher):
        return Meaning(_by_words)
    encoder = matcher.encoder
    return Meaning(
        lambda: Passages(
            HybridMatcher(
                encoder, lexical=LexicalMatcher(read_at_most=EVERYTHING, capabilities=False), at_once=EVERYTHING
            )
        ),
        words=_by_words,
        likeness=lambda text, abouts: _cosines(encoder, text, abouts),
    )


def _by_words() -> Passages:
    return Passages(LexicalMatcher(read_at_most=EVERYTHING, capabilities=False))


def _cosines(encoder: LimitedEncoder, text: str, abouts: Sequence[str]) -> list[float]:
    """How near the vector of a text is to that of each question, 0 for what points elsewhere."""
    alike = encoder.needs is encoder
    vectors = encoder([text, *abouts]) if alike else [*encoder([text]), *encoder.needs(abouts)]
    said, *asked = ([float(part) for part in vector] for vector in vectors)
    found: list[float] = []
    for each in asked:
        lengths = math.hypot(*said) * math.hypot(*each)
        found.append(max(0.0, sum(map(mul, said, each)) / lengths) if lengths else 0.0)
    return found
