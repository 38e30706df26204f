"""What a matcher is: the seam between the registry and whatever ranks capabilities for a need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from registry.matching.documents import Document

_LEAST = 1e-6
"""Scores have six places."""
_AFTER = 9


class Candidate(NamedTuple):
    """A capability that may serve a need."""

    name: str
    score: float
    """0 for nothing in common with the need, towards 1 the more of it the capability answers to."""
    reasons: tuple[str, ...] = ()
    """What spoke for it, the weightiest first, in words."""
    answers: Mapping[int, float] = {}
    """Which words of the need it answers, by number, and how much each adds to its score; nothing where that is not known."""


class Signals(NamedTuple):
    """How sure a ranking looks, in numbers a calibration turns into a probability. All are 0 when nothing was found."""

    score: float = 0.0
    """Of the best candidate."""
    standing: float = 0.0
    """How far the best stands before the nine after it: 1 less the mean of their odds as a share of the best's. Where there are
    fewer than nine the others count as 0: a second that comes near tells against the best in a registry of five as well."""
    answered: float = 0.0
    """Share of what the best candidate says of itself, by what its words weigh, that the need asks for."""
    alike: float = 0.0
    """How nearly the best candidate means what the need does by the shipped table of words, from -1 to 1."""
    nearer: float = 0.0
    """How much nearer to the need than most it is by an encoder's vectors, as a cosine; 0 where words alone ranked."""
    known: float = 0.0
    """How many capabilities there are: of many the best stands further from most than of few."""

    @property
    def found(self) -> bool:
        """Whether there is a best candidate."""
        return self.score > 0


def standing(scores: Sequence[float]) -> float:
    """How far the first of some scores stands before the nine after it: see :attr:`Signals.standing`."""
    first, *others = map(odds, scores[: 1 + _AFTER])
    return 1 - sum(others) / (_AFTER * first)


def odds(score: float) -> float:
    """Of a score: a millionth at least, a million at most."""
    bounded = min(max(score, _LEAST), 1 - _LEAST)
    return bounded / (1 - bounded)


class Findings(NamedTuple):
    """The answer to one search."""

    candidates: Sequence[Candidate]
    """Best first; equal scores by name. Behind the first, each has the place it has for what those before it do not answer:
    see :func:`registry.matching.covering.covering`."""
    signals: Signals
    compared: float = 1.0
    """Share of the need that could be compared with what is known, by its script and its language, whether or not anything was
    found: 0 for one in Japanese or in Spanish where all else is English."""


class Searching(Protocol):
    """Answers searches."""

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        """The best at most ``k`` allowed capabilities that have anything to do with the need."""
        ...


class Matcher(Searching, Protocol):
    """Ranks capabilities for a need.

    Adding and removing must leave it as if it had been built from the rest, in any order: processes that followed the
    registry for a year and one that started a moment ago answer the same.
    """

    def __len__(self) -> int: ...

    def add(self, name: str, document: Document) -> None:
        """Know this capability; replaces what was known under the name."""
        ...

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        ...


Batch = Sequence[tuple[str, tuple[str, ...]]]
"""Names of capabilities, each with the texts a vector is to be made of."""


@runtime_checkable
class Encoding(Protocol):
    """A matcher that needs vectors, and lets somebody else make them, so that nothing waits for an encoder or a server.

    All of it belongs to the thread of the matcher, except :meth:`made` and :meth:`prepare`, which may take long and can be
    called from any other, several at once.
    """

    background: bool
    """True where vectors are made apart from searches: a search then makes none, and goes by words where it has none."""

    def pending(self, most: int = ...) -> Batch:
        """At most so many capabilities that have no vector yet."""
        ...

    def made(self, batch: Batch) -> Any:
        """The vectors of a batch, made or read; for :meth:`take`."""
        ...

    def take(self, batch: Batch, vectors: Any) -> None:
        """Use vectors from now on, for those capabilities that are still as they were."""
        ...

    def prepare(self, queries: Sequence[str]) -> None:
        """Make the vectors of needs that are about to be searched for, and keep them for a while."""
        ...
