"""How well a matcher does on corpora of capabilities and labelled needs, beside other ways of ranking.

A corpus is a folder with ``tools.jsonl`` (``{id, name, description, parameters? {name: text}}``) and any number of
``queries*.jsonl`` (``{query, relevant: [ids]}``). One without queries is filler for the pooled index of all corpora.

Knowing when nothing fits is measured twice, with as many cases where something fits as where nothing does: *near*, the
labelled capabilities are taken away; *purged*, what resembles them is taken away too. Ranking never sees the difference.
"""

from __future__ import annotations

import json
import math
import random
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any, NamedTuple, cast

from blackboard.errors import BadInput
from registry.matching.calibration import Calibration, shipped
from registry.matching.decision import Prices, costs
from registry.matching.documents import Document
from registry.matching.interface import Matcher, Signals

_DEEP = 100
_BOOTSTRAPS = 500
_FOLDS = 5
_BINS = 10
_ALIKE = 0.35
_TOGETHER = 10
_SPLIT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


class Query(NamedTuple):
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Capabilities by id, and needs with the ids of those that serve them."""

    name: str
    documents: Mapping[str, Document]
    queries: Sequence[Query] = ()

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """The corpus in a folder; see this module.

        Raises:
            BadInput: no ``tools.jsonl``, or a line that is not what it should be.
        """
        documents = {str(row["id"]): _document(row) for row in _rows(folder / "tools.jsonl", ("id", "name"))}
        queries: list[Query] = []
        for path in sorted(folder.glob("queries*.jsonl")):
            for row in _rows(path, ("query", "relevant")):
                there = frozenset(map(str, row["relevant"])) & documents.keys()
                if there:
                    queries.append(Query(str(row["query"]), there))
        return cls(folder.name, documents, queries)


def read(folder: Path) -> list[Corpus]:
    """The corpus in a folder, or those in its folders, with a pool of them all at the end when they are several.

    Raises:
        BadInput: there is none.
    """
    if (folder / "tools.jsonl").exists():
        return [Corpus.read(folder)]
    found = [Corpus.read(path.parent) for path in sorted(folder.glob("*/tools.jsonl"))]
    if not any(corpus.queries for corpus in found):
        raise BadInput("DIR", str(folder), "Give a folder with tools.jsonl and queries*.jsonl, or a folder of those.")
    if len(found) > 1:
        documents = {f"{corpus.name}/{id}": each for corpus in found for id, each in corpus.documents.items()}
        queries = [
            Query(query.text, frozenset(f"{corpus.name}/{id}" for id in query.relevant))
            for corpus in found
            for query in corpus.queries
        ]
        found.append(Corpus("POOL", documents, queries))
    return [corpus for corpus in found if corpus.queries]


Rank = Callable[[str], Sequence[str]]
"""From a need to ids, best first."""


class Ranking(NamedTuple):
    """Means over the queries, each with the bounds of its 95 % bootstrap interval."""

    values: Mapping[str, tuple[float, float, float]]


class Abstention(NamedTuple):
    """How well it is known whether anything fits."""

    auroc: float
    right: float
    """Share of right decisions: a right best candidate accepted, or rightly refused; the threshold is from other folds."""
    best_f1: float
    error: float
    """Expected calibration error of the probabilities, in ten equal parts of the cases."""
    curve: Sequence[tuple[float, float]]
    """Share of the cases decided, and share of those decided wrongly, the surest first."""
    by_price: Mapping[str, float]
    """At the default prices: shares used, refused and left to the model, and the mean cost of a case."""


@dataclass(slots=True)
class Report:
    """All that was measured on one corpus."""

    corpus: str
    capabilities: int
    queries: int
    rankings: dict[str, Ranking] = field(default_factory=dict[str, Ranking])
    abstention: dict[str, Abstention] = field(default_factory=dict[str, Abstention])
    cases: list[tuple[Signals, bool]] = field(default_factory=list[tuple[Signals, bool]])
    """What a calibration is fitted on."""

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "corpus": self.corpus,
            "capabilities": self.capabilities,
            "queries": self.queries,
            "rankings": {name: dict(each.values) for name, each in self.rankings.items()},
            "abstention": {name: each._asdict() for name, each in self.abstention.items()},
        }


def evaluate(
    corpus: Corpus,
    matcher: Matcher,
    *,
    limit: int = 500,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
    calibration: Calibration | None = None,
    others: Mapping[str, Rank] | None = None,
    small: Callable[[], Matcher] | None = None,
) -> Report:
    """Measure a matcher on a corpus, beside BM25, any ``others`` and the fusion of all of them by reciprocal rank.

    Args:
        corpus: has queries.
        matcher: empty; the corpus is added to it.
        limit: of more queries a sample is taken.
        seed: of the sample and of the bootstrap.
        say: is told how far it is.
        calibration: from signals to probabilities. Default: the shipped one.
        others: further rankings of the same corpus.
        small: makes empty matchers; parts of the corpus, as small as a young registry, then add cases to fit on.
    """
    chance = random.Random(seed)
    queries = list(corpus.queries)
    if len(queries) > limit:
        queries = chance.sample(queries, limit)
    say(f"{corpus.name}: adding {len(corpus.documents):,} capabilities")
    for id, document in corpus.documents.items():
        matcher.add(id, document)
    bm25 = Bm25(corpus.documents)
    ranks: dict[str, Rank] = {
        "matcher": lambda text: [each.name for each in matcher.search(text, k=_DEEP).candidates],
        "BM25": lambda text: [id for id, _ in bm25.rank(text, _DEEP)],
        **(others or {}),
    }
    report = Report(corpus.name, len(corpus.documents), len(queries))
    found: dict[str, list[Sequence[str]]] = {}
    for name, rank in ranks.items():
        found[name] = []
        for number, query in enumerate(queries):
            if number % 50 == 0:
                say(f"{corpus.name}: {name}, {number} of {len(queries)} needs")
            found[name].append(rank(query.text))
    found["RRF"] = [fused(lists) for lists in zip(*found.values(), strict=True)]
    for name, lists in found.items():
        rows = [_measures(ids, query.relevant) for ids, query in zip(lists, queries, strict=True)]
        report.rankings[name] = _summary(rows, chance)
    _abstain(report, corpus, matcher, bm25, queries, chance, say, calibration or shipped())
    if small is not None:
        report.cases += _small(corpus, queries, chance, small)
    return report


def fused(lists: Iterable[Sequence[str]], constant: int = 60) -> list[str]:
    """Rankings as one, by the sum of reciprocal ranks (Cormack et al., 2009)."""
    scores: dict[str, float] = {}
    for ids in lists:
        for rank, id in enumerate(ids, 1):
            scores[id] = scores.get(id, 0.0) + 1 / (constant + rank)
    return sorted(scores, key=lambda id: (-scores[id], id))


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


def auroc(present: Sequence[float], absent: Sequence[float]) -> float:
    """How likely a case where something fits scores above one where nothing does; ties count half."""
    ordered = sorted(absent)
    if not ordered or not present:
        return 0.5
    below = [bisect_left(ordered, value) for value in present]
    upto = [bisect_left(ordered, math.nextafter(value, math.inf)) for value in present]
    return sum(below + upto) / 2 / (len(present) * len(ordered))


def calibration_error(said: Sequence[float], truth: Sequence[bool]) -> float:
    """Mean distance between what is said and what is so, over ten equal parts of the cases by what is said."""
    cases = sorted(zip(said, truth, strict=True))
    size = max(1, math.ceil(len(cases) / _BINS))
    parts = [cases[start : start + size] for start in range(0, len(cases), size)]
    return sum(abs(sum(p for p, _ in part) - sum(t for _, t in part)) for part in parts) / max(1, len(cases))


# ---- ranking ----------------------------------------------------------------------------------------------------------


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
        means = sorted(sum(column[at] for at in sample) / len(column) for sample in samples)
        low, high = means[int(0.025 * len(means))], means[int(0.975 * len(means))]
        values[name] = (sum(column) / len(column), low, high)
    return Ranking(values)


# ---- knowing when nothing fits ----------------------------------------------------------------------------------------


class _Case(NamedTuple):
    confidence: float
    present: bool
    right: bool
    """The best candidate is a right one."""


def _abstain(
    report: Report,
    corpus: Corpus,
    matcher: Matcher,
    bm25: Bm25,
    queries: Sequence[Query],
    chance: random.Random,
    say: Callable[[str], None],
    calibration: Calibration,
) -> None:
    cases: dict[str, list[_Case]] = {"near": [], "purged": []}
    for number, query in enumerate(queries):
        if number % 50 == 0:
            say(f"{corpus.name}: does anything fit, {number} of {len(queries)} needs")
        found = matcher.search(query.text, k=10)
        right = bool(found.candidates) and found.candidates[0].name in query.relevant
        report.cases.append((found.signals, right))
        present = _Case(calibration.probability(found.signals), True, right)
        for kind, gone in (("near", query.relevant), ("purged", _resembling(corpus, bm25, query.relevant))):
            left = matcher.search(query.text, k=10, allowed=lambda id, gone=gone: id not in gone)
            cases[kind] += [present, _Case(calibration.probability(left.signals), False, False)]
            if kind == "purged":
                report.cases.append((left.signals, False))
    for kind, each in cases.items():
        chance.shuffle(each)
        report.abstention[kind] = _knowing(each)


def _small(
    corpus: Corpus, queries: Sequence[Query], chance: random.Random, make: Callable[[], Matcher]
) -> Iterable[tuple[Signals, bool]]:
    """Cases of registries of 5 to 80 capabilities: what the needs of one are labelled with, and others by chance."""
    ids = sorted(corpus.documents)
    for start in range(0, len(queries), _TOGETHER):
        chosen = queries[start : start + _TOGETHER]
        known = {id for query in chosen for id in query.relevant}
        known |= set(chance.sample(ids, min(len(ids), chance.choice((0, 10, 30, 60)))))
        matcher = make()
        for id in known:
            matcher.add(id, corpus.documents[id])
        for query in chosen:
            found = matcher.search(query.text, k=10)
            yield found.signals, bool(found.candidates) and found.candidates[0].name in query.relevant
            left = matcher.search(query.text, k=10, allowed=lambda id, gone=query.relevant: id not in gone)
            yield left.signals, False


def _resembling(corpus: Corpus, bm25: Bm25, relevant: frozenset[str]) -> set[str]:
    gone = set(relevant)
    for id in relevant:
        document = corpus.documents[id]
        own = bm25.rank(f"{document.name} {document.description}", 30)
        gone |= {other for other, score in own if own and score >= _ALIKE * own[0][1]}
    return gone


def _knowing(cases: Sequence[_Case]) -> Abstention:
    right = 0
    for fold in range(_FOLDS):
        threshold = _threshold([case for at, case in enumerate(cases) if at % _FOLDS != fold])
        right += sum(_decided(case, threshold) for case in cases[fold::_FOLDS])
    said = [case.confidence for case in cases]
    f1 = 0.0
    positives = sum(case.present for case in cases)
    for accepted, hits in _cumulated(sorted(cases, key=lambda case: -case.confidence)):
        f1 = max(f1, 2 * hits / (accepted + positives))
    surest = sorted(cases, key=lambda case: -max(case.confidence, 1 - case.confidence))
    wrong = 0
    curve: list[tuple[float, float]] = []
    for number, case in enumerate(surest, 1):
        wrong += not _decided(case, 0.5)
        if number % max(1, len(surest) // 50) == 0:
            curve.append((number / len(surest), wrong / number))
    prices = Prices()
    counted: Counter[str] = Counter()
    cost = 0.0
    for case in cases:
        ways = costs(case.confidence, prices)
        way = min(ways, key=lambda each: (ways[each], each))
        counted[way] += 1
        if way == "use":
            cost += 0.0 if case.right else prices.wrong_match
        elif way == "fabricate":
            cost += prices.needless_fabrication if case.present else 0.0
        else:
            cost += prices.question
    shares = {way: counted[way] / len(cases) for way in ("use", "ask", "fabricate")}
    return Abstention(
        auroc=auroc(
            [case.confidence for case in cases if case.present], [case.confidence for case in cases if not case.present]
        ),
        right=right / len(cases),
        best_f1=f1,
        error=calibration_error(said, [case.right for case in cases]),
        curve=curve,
        by_price={**shares, "cost": cost / len(cases)},
    )


def _decided(case: _Case, threshold: float) -> bool:
    """Whether a threshold decides a case rightly."""
    return case.right if case.confidence >= threshold else not case.present


def _threshold(cases: Sequence[_Case]) -> float:
    """The one that decides most of the cases rightly."""
    ordered = sorted(cases, key=lambda case: -case.confidence)
    right = sum(not case.present for case in ordered)
    best, threshold = right, 1.1
    for case in ordered:
        right += case.right - (not case.present)
        if right > best:
            best, threshold = right, case.confidence
    return threshold


def _cumulated(cases: Iterable[_Case]) -> Iterable[tuple[int, int]]:
    hits = 0
    for accepted, case in enumerate(cases, 1):
        hits += case.present
        yield accepted, hits


# ---- reading ------------------------------------------------------------------------------------------------------------


def _rows(path: Path, needed: Sequence[str]) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("DIR", str(path), f"It cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or any(key not in row for key in needed):
            raise BadInput("DIR", f"{path.name}:{number}", f"Give one JSON object a line, with {', '.join(needed)}.")
        yield cast("dict[str, Any]", row)


def _document(row: Mapping[str, Any]) -> Document:
    parameters = cast("dict[str, Any]", row.get("parameters") or {})
    served = cast("list[str]", row.get("served") or [])
    texts = " ".join(str(text) for text in parameters.values() if text)
    return Document(
        str(row["name"]), str(row.get("description") or ""), " ".join(parameters), texts, "\n".join(map(str, served))
    )


def _plain(text: str) -> list[str]:
    return [word.lower() for word in _SPLIT.split(text) if word]
