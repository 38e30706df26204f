"""How fast is a capability found among very many, and at what cost?

Registries of made-up capabilities, whose words are as unevenly common as those of a language, and needs made of a few of
them. A lookup by words is held against plain BM25 over the same texts. A lookup by words and meanings includes what it takes to
encode the need by weights of the size of all-MiniLM-L6-v2, by onnxruntime where it is installed; that stands beside it alone, by
each runtime. It is held against the least that a scan of all vectors can be: one NumPy product with the best ten taken, and
the time in which the machine reads that much memory. Memory is what the process grows by. Rows with meanings need NumPy.

Weights that are made up take as long as others, but nothing is near anything by them. So what a text means is put together of
its words, whose vectors differ in some directions more than in others, as much more as all-MiniLM-L6-v2's vectors of the
descriptions of 12,000 public tools do; and a need lies as far beside those directions as people's needs did.
"""

from __future__ import annotations

import gc
import random
import time
import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import psutil

from benchmarks.measure import Sample, percentile, ratio
from benchmarks.report import Row, Spread
from blackboard import garbage
from registry.matching import Document, LexicalMatcher, Matcher
from registry.matching.baselines import Bm25
from registry.matching.sentences import SentenceEncoder

SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 384
_VOCABULARY = 20_000
_NEEDS = 100
_BESIDE = 0.2
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
    garbage.long_lived()
    bm25 = Bm25(documents)
    ours, theirs = _alternating(needs, lexical, [partial(bm25.rank, k=10)])
    rows = [
        _row(title, "lookup by words", ours, "plain BM25", theirs[0]),
        _added(title, "one more, until it can be found, by words", lexical, chance, lambda: None),
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
    runtimes = [each for each in (encoder, _encoder("numpy")) if each is encoder or each.runtime != encoder.runtime]
    _Encoder.meant = {need: _meant(need, _BESIDE) for need in needs}
    _Encoder.skips = True
    _meanings()
    before = _memory()
    both = HybridMatcher(encoder)
    _fill(both, documents)
    while both.encode_some():
        pass
    grown = _memory() - before
    garbage.long_lived()
    _Encoder.skips = False
    matrix = np.random.default_rng(1).standard_normal((size, DIMENSIONS), dtype=np.float32)
    asked = _Encoder.meant[needs[0]]

    def scan(_: str) -> object:
        scores = matrix @ asked
        return np.argpartition(-scores, 10)[:10]

    def read(_: str) -> object:
        return matrix.max()

    encoding = [partial(_encode, each) for each in runtimes]
    ours, theirs = _alternating(needs, both, [scan, read, *encoding])
    rows += [
        _row(
            title, "lookup by words and meanings, encoding included", ours, "NumPy, product with all vectors", theirs[0]
        ),
        _row(title, "", ours, "reading all vectors once", theirs[1]),
        *(
            _row(title, "", ours, f"encoding the need, by {each.runtime}", taken)
            for each, taken in zip(runtimes, theirs[2:], strict=True)
        ),
        _added(title, "one more, until it can be found, encoding included", both, chance, both.encode_some),
        Row(title, "memory, by words and meanings", Spread(grown, grown, grown), "B"),
    ]
    return rows


class _Encoder(SentenceEncoder):
    """Takes as long as weights do, and says what was made up."""

    meant: ClassVar[dict[str, Any]]
    skips: ClassVar[bool]
    """Says it at once."""

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        if not self.skips:
            self.encode(texts)
        return [self.meant[text] if text in self.meant else _meant(text.replace(".", "")) for text in texts]


@cache
def _encoder(runtime: Literal["numpy"] | None = None) -> _Encoder:
    """One with weights of the usual size, made once for each runtime; needs NumPy."""
    from benchmarks.weights import write

    with TemporaryDirectory() as folder:
        write(Path(folder), [_word(rank) for rank in range(1, _VOCABULARY)])
        return _Encoder(folder, runtime=runtime)


def _encode(encoder: SentenceEncoder, need: str) -> object:
    return encoder.needs.encode([need])


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


@cache
def _meanings() -> tuple[Any, dict[str, int]]:
    """A vector for each word, and its row."""
    np: Any = import_module("numpy")
    of_words = np.random.default_rng(2).standard_normal((_VOCABULARY, DIMENSIONS), dtype=np.float32)
    of_words /= np.arange(DIMENSIONS, dtype=np.float32) + 64
    return of_words, {_word(rank): rank for rank in range(_VOCABULARY)}


def _meant(text: str, beside: float = 0.0) -> Any:
    """What a text means, of length 1.

    Args:
        beside: how much of its square is not of its words.
    """
    np: Any = import_module("numpy")
    of_words, rows = _meanings()
    found = of_words[[rows[word] for word in text.replace("_", " ").split()]].sum(axis=0)
    found *= ((1 - beside) / (found @ found)) ** 0.5
    other = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSIONS, dtype=np.float32)
    return found + other * (beside / (other @ other)) ** 0.5


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


def _added(title: str, what: str, matcher: Matcher, chance: random.Random, ready: Callable[[], object]) -> Row:
    """From having a document until it can be found."""
    latencies: list[float] = []
    for number in range(_ADDED):
        document, name = _document(chance), f"added_{number}"

        def add(_: str, name: str = name, document: Document = document) -> None:
            matcher.add(name, document)
            ready()

        latencies.append(_seconds(add, ""))
        found = matcher.search(f"{document.name} {document.description}", k=10)
        assert name in [each.name for each in found.candidates]
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
