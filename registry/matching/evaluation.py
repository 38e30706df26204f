"""How well matchers do on corpora of capabilities and labelled needs, beside other ways of ranking.

See :mod:`registry.matching.corpora` for what a corpus is. Knowing when nothing fits is measured twice, with as many
cases where something fits as where nothing does: *near*, the labelled capabilities are taken away; *purged*, what
resembles them is taken away too. They are removed, and not only refused: a registry that still holds the words of what it
is not to offer gives away that there is something. What is decided about needs that take several capabilities is measured apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from registry.matching.abstention import Abstention, Case, knowing
from registry.matching.baselines import Bm25, fused
from registry.matching.calibration import Calibration, shipped
from registry.matching.composing import Composing, composing
from registry.matching.corpora import Corpus, Query
from registry.matching.decision import decide
from registry.matching.documents import Document
from registry.matching.goals import beside
from registry.matching.interface import Encoding, Findings, Matcher, Searching, Signals

_DEEP = 100
_BOOTSTRAPS = 500
_ALIKE = 0.35
_TOGETHER = 10
_SHOWN = 5
_SAID = 10
_AT_ONCE = 256
_WHOLE, _PARTS, _DRAWN = 250, 125, 500
"""How much a corpus counts in a fit, together: its cases as a whole, those of its parts, and those of what is drawn of it. The
last are what most registries look like."""
_ENOUGH = 120
"""Of how few needs on a corpus counts less."""
_REFUSED = 0.3
"""What a case counts whose capabilities were only refused, against one whose were removed for the rest."""
_SIZES = {5: 25, 10: 14, 30: 6}
"""How many registries of how many capabilities are drawn."""

Rank = Callable[[str], Sequence[str]]
"""From a need to ids, best first."""


class Seen(NamedTuple):
    """What a ranking looked like."""

    signals: Signals
    right: bool
    """The best candidate was a right one."""
    weight: float = 1.0
    """How much it counts in a fit."""


class Ranking(NamedTuple):
    """Means over the queries, each with the bounds of its 95 % bootstrap interval."""

    values: Mapping[str, tuple[float, float, float]]


@dataclass(slots=True)
class Report:
    """All that was measured on one corpus."""

    corpus: str
    capabilities: int
    queries: int
    rankings: dict[str, Ranking] = field(default_factory=dict[str, Ranking])
    abstention: dict[str, dict[str, Abstention]] = field(default_factory=dict[str, dict[str, Abstention]])
    """By matcher, then ``near`` and ``purged``."""
    composing: dict[str, Composing] = field(default_factory=dict[str, Composing])
    """By matcher, where needs are labelled with several capabilities."""
    cases: list[Seen] = field(default_factory=list[Seen])
    """What a calibration is fitted on."""

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "corpus": self.corpus,
            "capabilities": self.capabilities,
            "queries": self.queries,
            "rankings": {name: dict(each.values) for name, each in self.rankings.items()},
            "abstention": {
                name: {kind: each.record() for kind, each in kinds.items()} for name, kinds in self.abstention.items()
            },
            "composing": {name: each.record() for name, each in self.composing.items()},
        }


def evaluate(
    corpus: Corpus,
    matchers: Mapping[str, Matcher],
    *,
    limit: int = 500,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
    calibration: Calibration | None = None,
    fusions: Mapping[str, Sequence[str]] | None = None,
    small: Sequence[Callable[[], Matcher]] = (),
    later: Mapping[str, Corpus] | None = None,
    fitted: Collection[str] | None = None,
) -> Report:
    """Measure matchers on a corpus, beside BM25 and fusions by reciprocal rank.

    Args:
        corpus: has queries.
        matchers: empty, by the names they are reported under; the corpus is added to each.
        limit: of more queries a sample is taken.
        seed: of the sample and of the bootstrap.
        say: is told how far it is.
        calibration: from signals to probabilities. Default: the shipped one.
        fusions: what is fused, by the name it is reported under; names of matchers, and ``BM25``.
        small: make empty matchers; parts of the corpus, as small as a young registry, then add cases of each to fit on.
        later: for some matchers, the corpus with other documents under the same ids, instead of it.
        fitted: names of the matchers whose rankings a calibration is to be fitted on. Default: the first.
    """
    chance = random.Random(seed)
    queries = list(corpus.queries)
    if len(queries) > limit:
        queries = chance.sample(queries, limit)
    for name, matcher in matchers.items():
        for number, (id, document) in enumerate((later or {}).get(name, corpus).documents.items()):
            if number % _AT_ONCE == 0:
                say(f"{corpus.name}: adding to {name}, {number:,} of {len(corpus.documents):,} capabilities")
            matcher.add(id, document)
        _encode(
            matcher,
            lambda done, name=name: say(f"{corpus.name}: {name}, {done:,} of {len(corpus.documents):,} vectors"),
        )
    bm25 = Bm25(corpus.documents)
    report = Report(corpus.name, len(corpus.documents), len(queries))
    found: dict[str, list[Sequence[str]]] = {}
    for name, rank in {**{name: _ranks(each) for name, each in matchers.items()}, "BM25": _bm25(bm25)}.items():
        found[name] = []
        for number, query in enumerate(queries):
            if number % _SAID == 0:
                say(f"{corpus.name}: {name}, {number:,} of {len(queries):,} needs")
            found[name].append(rank(query.text))
    for name, matcher in matchers.items() if any(query.goal for query in queries) else ():
        say(f"{corpus.name}: {name}, beside what needs are for")
        found[f"{name}, goal"] = [_ranks(beside(matcher, query.goal))(query.text) for query in queries]
    for name, parts in (fusions or {}).items():
        found[name] = [fused(lists) for lists in zip(*(found[part] for part in parts), strict=True)]
    for name, lists in found.items():
        say(f"{corpus.name}: intervals, {name}")
        rows = [_measures(ids, query.relevant) for ids, query in zip(lists, queries, strict=True)]
        report.rankings[name] = _summary(rows, chance)
    several = [query for query in queries if len(query.relevant) > 1]
    for name, matcher in matchers.items() if several else ():
        say(f"{corpus.name}: needs of several capabilities, {name}")
        decided = [(decide(matcher, query.text, calibration=calibration), query.relevant) for query in several]
        report.composing[name] = composing(decided)
    enough = min(1.0, len(queries) / _ENOUGH)
    gone = {query.relevant: set[str]() for query in queries}
    for number, relevant in enumerate(gone):
        if number % _SAID == 0:
            say(f"{corpus.name}: what resembles what is asked for, {number:,} of {len(gone):,}")
        gone[relevant] = _resembling(corpus, bm25, relevant)
    for name, matcher in matchers.items():
        documents = (later or {}).get(name, corpus).documents
        report.abstention[name], cases = _abstain(
            matcher, documents, queries, gone, chance, calibration or shipped(),
            lambda done, name=name: say(f"{corpus.name}: does anything fit, {name}, {done}"),
        )  # fmt: skip
        if name in (fitted or [next(iter(matchers))]):
            report.cases += _counting(cases, _WHOLE * enough)
    for make in small:
        report.cases += _counting(_small(corpus, queries, gone, chance, make), _PARTS * enough)
        report.cases += _counting(_drawn(corpus, chance, make), _DRAWN * enough)
    return report


def _counting(cases: Iterable[Seen], whole: float) -> list[Seen]:
    """Cases that count so much together."""
    found = list(cases)
    each = whole / (sum(case.weight for case in found) or 1.0)
    return [case._replace(weight=case.weight * each) for case in found]


def _encode(matcher: Matcher, say: Callable[[int], None]) -> None:
    """Make all vectors, where there are any to be made."""
    done = 0
    while isinstance(matcher, Encoding) and (batch := matcher.pending(_AT_ONCE)):
        say(done)
        matcher.take(batch, matcher.made(batch))
        done += len(batch)


# ---- ranking ----------------------------------------------------------------------------------------------------------


def _ranks(matcher: Searching) -> Rank:
    return lambda text: [each.name for each in matcher.search(text, k=_DEEP).candidates]


def _bm25(bm25: Bm25) -> Rank:
    return lambda text: [id for id, _ in bm25.rank(text, _DEEP)]


def _measures(ids: Sequence[str], relevant: frozenset[str]) -> dict[str, float]:
    hits = [id in relevant for id in ids]
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:10]) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
    first = next((place for place, hit in enumerate(hits) if hit), None)
    return {
        "nDCG@10": gain / ideal,
        "hit@1": float(hits[:1] == [True]),
        "recall@1": sum(hits[:1]) / len(relevant),
        "recall@5": sum(hits[:5]) / len(relevant),
        "recall@10": sum(hits[:10]) / len(relevant),
        "MRR": 0.0 if first is None else 1 / (first + 1),
    }


def _summary(rows: Sequence[Mapping[str, float]], chance: random.Random) -> Ranking:
    samples = [chance.choices(range(len(rows)), k=len(rows)) for _ in range(_BOOTSTRAPS)]
    values: dict[str, tuple[float, float, float]] = {}
    for name in rows[0]:
        column = [row[name] for row in rows]
        means = sorted(sum(map(column.__getitem__, sample)) / len(column) for sample in samples)
        low, high = means[int(0.025 * len(means))], means[int(0.975 * len(means))]
        values[name] = (sum(column) / len(column), low, high)
    return Ranking(values)


# ---- knowing when nothing fits ----------------------------------------------------------------------------------------


def _abstain(
    matcher: Matcher,
    documents: Mapping[str, Document],
    queries: Sequence[Query],
    gone: Mapping[frozenset[str], set[str]],
    chance: random.Random,
    calibration: Calibration,
    say: Callable[[str], None],
) -> tuple[dict[str, Abstention], list[Seen]]:
    cases: dict[str, list[Case]] = {"near": [], "purged": []}
    seen: list[Seen] = []
    # What is taken away for several needs is taken away once.
    together: dict[frozenset[str], list[str]] = {}
    for query in queries:
        together.setdefault(query.relevant, []).append(query.text)
    left: dict[tuple[frozenset[str], str], list[Signals]] = {}
    for relevant, texts in together.items():
        say(f"taken away for {len(left):,} of {len(queries):,} needs")
        for text, signals in zip(texts, _without(matcher, documents, (relevant, gone[relevant]), texts), strict=True):
            left[relevant, text] = signals
    for number, query in enumerate(queries):
        if number % _SAID == 0:
            say(f"{number:,} of {len(queries):,} needs")
        found = matcher.search(query.text, k=10)
        names = [each.name for each in found.candidates]
        right = bool(names) and names[0] in query.relevant
        seen.append(Seen(found.signals, right))
        # A contract or another tenant's ownership only refuses; a calibration has to know both.
        alike = gone[query.relevant]
        refused = matcher.search(query.text, k=10, allowed=lambda id, alike=alike: id not in alike).signals
        seen.append(Seen(refused, False, _REFUSED))
        shown = not query.relevant.isdisjoint(names[:_SHOWN])
        present = Case(calibration.probability(found.signals), True, right, shown)
        near, purged = left[query.relevant, query.text]
        for kind, signals in (("near", near), ("purged", purged)):
            cases[kind] += [present, Case(calibration.probability(signals), False, False, False)]
        seen.append(Seen(purged, False, 1 - _REFUSED))
    for each in cases.values():
        chance.shuffle(each)
    return {kind: knowing(each) for kind, each in cases.items()}, seen


def _without(
    matcher: Matcher, documents: Mapping[str, Document], gone: Sequence[Collection[str]], texts: Sequence[str]
) -> list[list[Signals]]:
    """For each need, what its ranking looks like while capabilities are not there, more and more of them."""
    removed: set[str] = set()
    seen: list[list[Signals]] = [[] for _ in texts]
    for ids in gone:
        for id in sorted(set(ids) - removed):
            matcher.remove(id)
        removed.update(ids)
        for text, signals in zip(texts, seen, strict=True):
            signals.append(matcher.search(text, k=10).signals)
    for id in sorted(removed):
        matcher.add(id, documents[id])
    return seen


def _small(
    corpus: Corpus,
    queries: Sequence[Query],
    alike: Mapping[frozenset[str], set[str]],
    chance: random.Random,
    make: Callable[[], Matcher],
) -> Iterable[Seen]:
    """Cases of registries of 5 to 80 capabilities: what the needs of one are labelled with, and others by chance; in every
    second one the others resemble these, as the capabilities of one installation do."""
    ids = sorted(corpus.documents)
    for number, start in enumerate(range(0, len(queries), _TOGETHER)):
        chosen = queries[start : start + _TOGETHER]
        known = {id for query in chosen for id in query.relevant}
        others = sorted(set[str]().union(*(alike[query.relevant] for query in chosen)) - known) if number % 2 else ids
        known |= set(chance.sample(others, min(len(others), chance.choice((0, 10, 30, 60)))))
        matcher = make()
        for id in sorted(known):
            matcher.add(id, corpus.documents[id])
        for query in chosen:
            found = matcher.search(query.text, k=10)
            yield _seen(found, query)
            yield Seen(_without(matcher, corpus.documents, [query.relevant], [query.text])[0][0], False)


def _drawn(corpus: Corpus, chance: random.Random, make: Callable[[], Matcher]) -> Iterable[Seen]:
    """Cases of registries of 5, 10 and 30 capabilities, drawn by chance among those that few needs are labelled with and
    others: needs that are labelled with some of them alone, and as many that are labelled with none."""
    ids = sorted(corpus.documents)
    for size, times in _SIZES.items():
        for _ in range(times if len(ids) > size + 2 else 0):
            known = set[str]()
            for query in chance.sample(corpus.queries, min(len(corpus.queries), size // 2)):
                known |= query.relevant if len(known | query.relevant) <= size else set[str]()
            known |= set(chance.sample(ids, size - len(known)))
            served = [query for query in corpus.queries if query.relevant <= known]
            others = [query for query in corpus.queries if query.relevant.isdisjoint(known)]
            most = min(_TOGETHER, len(served), len(others))
            matcher = make()
            for id in sorted(known):
                matcher.add(id, corpus.documents[id])
            for query in (*chance.sample(served, most), *chance.sample(others, most)):
                yield _seen(matcher.search(query.text, k=10), query)


def _seen(found: Findings, query: Query) -> Seen:
    return Seen(found.signals, bool(found.candidates) and found.candidates[0].name in query.relevant)


def _resembling(corpus: Corpus, bm25: Bm25, relevant: frozenset[str]) -> set[str]:
    gone = set(relevant)
    for id in relevant:
        document = corpus.documents[id]
        own = bm25.rank(f"{document.name} {document.description}", 30)
        gone |= {other for other, score in own if own and score >= _ALIKE * own[0][1]}
    return gone
