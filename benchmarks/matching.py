"""How fast is a capability found among very many, and at what cost?

Registries of made-up capabilities, whose words are as unevenly common as those of a language, and needs made of a few of
them. A lookup by words is held against plain BM25 over the same texts. A lookup by words and meanings includes what it takes to
encode the need by weights of the size of all-MiniLM-L6-v2, which stands beside it alone; capabilities are encoded by a
function that costs next to nothing. It is held against the least that a scan of all vectors can be: one NumPy product with
the best ten taken, and the time in which the machine reads that much memory. Memory is what the process grows by. Rows with
meanings need NumPy.
"""

from __future__ import annotations

import gc
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.measure import Sample, percentile, ratio
from benchmarks.report import Row, Spread
from registry.matching import Document, LexicalMatcher, Matcher
from registry.matching.baselines import Bm25
from registry.matching.encoders import CallableEncoder

SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 384
_VOCABULARY = 20_000
_NEEDS = 100
_ADDED = 20
_REPETITIONS = 3


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    found: list[Row] = []
    for size in SIZES[:2] if quick else SIZES:
        found += _size(size, say)
    return found


def _size(size: int, say: Callable[[str], None]) -> list[Row]:
    chance = random.Random(size)
    documents = {f"capability_{number}": _document(chance) for number in range(size)}
    needs = [" ".join(words(chance, chance.randint(4, 12))) for _ in range(_NEEDS)]
    title = f"matching, {size:,} capabilities"
    LexicalMatcher().add("first", Document("first"))  # the shipped tables are read by now, once for all sizes
    before = _memory()
    say(f"{size:,} capabilities, by words")
    lexical = LexicalMatcher()
    _fill(lexical, documents)
    grown = _memory() - before
    bm25 = Bm25(documents)
    ours, theirs = _alternating(needs, lexical, [partial(bm25.rank, k=10)])
    rows = [
        _row(title, "lookup by words", ours, "plain BM25", theirs[0]),
        _added(title, "one more, found at once, by words", lexical, chance),
        Row(title, "memory, by words", Spread(grown, grown, grown), "B"),
    ]
    try:
        np: Any = import_module("numpy")
        from registry.matching.hybrid import HybridMatcher
    except ImportError:
        return rows
    say(f"{size:,} capabilities, by words and meanings")
    del lexical, bm25
    gc.collect()
    encoder = _encoder()
    asking = set(needs)

    def encoded(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return encoder(texts) if asking.issuperset(texts) else _encoded(texts)

    before = _memory()
    both = HybridMatcher(CallableEncoder(encoded, "made up"))
    _fill(both, documents)
    while both.encode_some():
        pass
    grown = _memory() - before
    matrix = np.random.default_rng(1).standard_normal((size, DIMENSIONS), dtype=np.float32)
    asked = np.asarray(_encoded(needs[:1])[0], dtype=np.float32)

    def scan(_: str) -> object:
        scores = matrix @ asked
        return np.argpartition(-scores, 10)[:10]

    def read(_: str) -> object:
        return matrix.max()

    ours, theirs = _alternating(needs, both, [scan, read, lambda need: encoder([need])])
    rows += [
        _row(
            title, "lookup by words and meanings, encoding included", ours, "NumPy, product with all vectors", theirs[0]
        ),
        _row(title, "", ours, "reading all vectors once", theirs[1]),
        _row(title, "", ours, "encoding the need", theirs[2]),
        _added(title, "one more, found at once, by words and meanings", both, chance),
        Row(title, "memory, by words and meanings", Spread(grown, grown, grown), "B"),
    ]
    return rows


@cache
def _encoder() -> Callable[[Sequence[str]], Sequence[Sequence[float]]]:
    """One with weights of the usual size, made once; needs NumPy."""
    from benchmarks.weights import write
    from registry.matching.sentences import SentenceEncoder

    with TemporaryDirectory() as folder:
        write(Path(folder), [_word(rank) for rank in range(1, _VOCABULARY)])
        return SentenceEncoder(folder)


def _document(chance: random.Random) -> Document:
    """About as long as tools of public collections are described."""
    return Document(
        "_".join(words(chance, 3)),
        " ".join(words(chance, chance.randint(6, 24))),
        " ".join(words(chance, chance.randint(0, 5))),
        " ".join(words(chance, chance.randint(0, 20))),
    )


def words(chance: random.Random, count: int) -> list[str]:
    """Words by Zipf's law: the tenth is ten times as rare as the first."""
    return [_word(int(_VOCABULARY ** chance.random())) for _ in range(count)]


@cache
def _word(rank: int) -> str:
    chance = random.Random(rank)
    return "".join(chance.choice("bcdfghklmnprstvwz") + chance.choice("aeiou") for _ in range(chance.randint(2, 4)))


def _encoded(texts: Sequence[str]) -> list[list[float]]:
    """Vectors that depend on nothing but the text, at next to no cost: what an encoder takes is its own affair."""
    found: list[list[float]] = []
    for text in texts:
        seed = hashlib.shake_128(text.encode()).digest(DIMENSIONS)
        found.append([each - 127.5 for each in seed])
    return found


def _fill(matcher: Matcher, documents: dict[str, Document]) -> None:
    for name, document in documents.items():
        matcher.add(name, document)


def _alternating(
    needs: Sequence[str], matcher: Matcher, others: Sequence[Callable[[str], object]]
) -> tuple[list[Sample], list[list[Sample]]]:
    """Samples of lookups and of each other way, in turn; the first repetition only warms up."""
    ways: list[Callable[[str], object]] = [lambda need: matcher.search(need, k=10), *others]
    samples: list[list[Sample]] = [[] for _ in ways]
    for repetition in range(_REPETITIONS + 1):
        for way, taken in zip(ways, samples, strict=True):
            latencies = [_seconds(way, need) for need in needs]
            if repetition:
                taken.append(Sample(len(needs), sum(latencies), latencies))
    return samples[0], samples[1:]


def _added(title: str, what: str, matcher: Matcher, chance: random.Random) -> Row:
    """From having a document to having found it."""
    latencies: list[float] = []
    for number in range(_ADDED):
        document = _document(chance)
        name = f"added_{number}"

        def add(need: str, name: str = name, document: Document = document) -> None:
            matcher.add(name, document)
            assert name in [each.name for each in matcher.search(need, k=10).candidates]

        latencies.append(_seconds(add, f"{document.name} {document.description}"))
        matcher.remove(name)
    return Row(
        title, what, Spread.of(latencies), "s", p50=percentile(latencies, 0.5), p99=percentile(latencies, 0.99)
    )  # fmt: skip


def _seconds(way: Callable[[str], object], need: str) -> float:
    began = time.perf_counter()
    way(need)
    return time.perf_counter() - began


def _row(title: str, what: str, ours: Sequence[Sample], against: str, theirs: Sequence[Sample]) -> Row:
    latencies = [each for sample in ours for each in sample.latencies]
    return Row(
        benchmark=title, what=what, value=Spread.of([sample.each for sample in ours]), unit="s",
        p50=percentile(latencies, 0.5), p99=percentile(latencies, 0.99), against=against,
        theirs=Spread.of([sample.each for sample in theirs]), ratio=ratio(ours, theirs),
    )  # fmt: skip


def _memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss
