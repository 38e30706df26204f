"""Words and meanings together: the lexical matcher, and vectors of an encoder, each as far above its own average.

A capability's vector is the mean of two: one of its name and description, one of the needs it served. What every
capability has in common is taken out of them. Needs NumPy.

Vectors are made when they are first needed and kept in a :class:`VectorStore` by the hash of their text, so a text is
encoded once for everybody. While vectors of a new encoder are still being made, the capabilities without one rank by
their words alone; no vector of one encoder is ever compared with one of another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

from blackboard.errors import BadInput
from registry.matching.documents import Document
from registry.matching.encoders import Encoder
from registry.matching.interface import Candidate, Findings
from registry.matching.lexical import LexicalMatcher
from registry.matching.words import views

_WORDS = 0.8
_AT_ONCE = 256
_DEEP = 400
_SERVED = 0.5
_READ = 4000


class VectorStore(Protocol):
    """Keeps vectors by the identity of their encoder and the hash of their text. It may forget."""

    def get(self, identity: str, hashes: Sequence[str]) -> Sequence[bytes | None]:
        """The vectors that are kept, as little-endian 32-bit floats."""
        ...

    def put(self, identity: str, vectors: Sequence[tuple[str, bytes]]) -> None:
        """Keep vectors."""
        ...


class HybridMatcher:
    """See this module. A :class:`~registry.matching.interface.Matcher`.

    Args:
        encoder: makes the vectors.
        store: keeps them. Default: nowhere but here.
        lexical: the other half. Default: a new :class:`~registry.matching.lexical.LexicalMatcher`.
        at_once: how many missing vectors a search makes at most before it answers; the rest is for :meth:`encode_some`.
        words: what the words count for against the meanings, both in standard deviations; 0 leaves them out.

    Raises:
        BadInput: NumPy is not installed; by a search, the encoder gave vectors of several lengths.
    """

    def __init__(
        self,
        encoder: Encoder,
        store: VectorStore | None = None,
        lexical: LexicalMatcher | None = None,
        at_once: int = _AT_ONCE,
        words: float = _WORDS,
    ) -> None:
        try:
            self._np: Any = import_module("numpy")
        except ImportError:
            raise BadInput("encoder", encoder.identity, "Install NumPy, or use LexicalMatcher.") from None
        self._encoder, self._store, self._at_once, self._share = encoder, store, at_once, words
        self._lexical = lexical if lexical is not None else LexicalMatcher()
        self._texts: dict[str, tuple[str, ...]] = {}
        self._missing: dict[str, None] = {}
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._matrix: Any = None
        self._sum: Any = None

    def __len__(self) -> int:
        return len(self._lexical)

    @property
    def encoder(self) -> Encoder:
        """What makes its vectors."""
        return self._encoder

    @property
    def missing(self) -> int:
        """Capabilities that have no vector yet."""
        return len(self._missing)

    def add(self, name: str, document: Document) -> None:
        """Know this capability; replaces what was known under the name."""
        self.remove(name)
        self._lexical.add(name, document)
        about = f"{_spoken(document.name)}. {document.description}"
        self._texts[name] = (about, document.served) if document.served.strip() else (about,)
        self._missing[name] = None

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        self._lexical.remove(name)
        self._texts.pop(name, None)
        self._missing.pop(name, None)
        row = self._rows.pop(name, None)
        if row is None:
            return
        self._sum -= self._matrix[row]
        last = self._names.pop()
        if last != name:
            self._matrix[row] = self._matrix[len(self._names)]
            self._names[row], self._rows[last] = last, row

    def encode_some(self, most: int = _AT_ONCE) -> int:
        """Make at most so many of the missing vectors; returns how many are missing still. For the background."""
        names = list(self._missing)[:most]
        texts = [text for name in names for text in self._texts[name]]
        if texts:
            vectors = self._vectors(texts)
            at = 0
            for name in names:
                parts = vectors[at : at + len(self._texts[name])]
                at += len(parts)
                vector = parts[0] if len(parts) == 1 else parts[0] * (1 - _SERVED) + parts[1] * _SERVED
                self._append(name, vector / max(float(self._np.linalg.norm(vector)), 1e-12))
                del self._missing[name]
        return len(self._missing)

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        """The best at most ``k`` allowed capabilities; those with a vector also by meaning."""
        if self._missing:
            self.encode_some(self._at_once)
        words = self._lexical.search(query, k=_DEEP, allowed=allowed, told=3 * max(k, 0))
        if not self._names or not query.strip() or k <= 0:
            return Findings(words.candidates[: max(k, 0)], words.signals)
        matrix = self._matrix[: len(self._names)]
        mean = self._sum / len(self._names)
        # Centred on the average capability: a vector's likeness to everything says nothing. Of several sentences each is meant.
        asked = self._vectors(views(query[:_READ])) - mean
        close = (matrix @ asked.T - mean @ asked.T).max(axis=1)
        spread = float(close.std()) or 1.0
        middle = float(close.mean())
        count = max(1, len(self))
        scores = [each.score for each in words.candidates]
        usual = sum(scores) / count
        deviation = math.sqrt(max(sum(score * score for score in scores) / count - usual * usual, 1e-12))
        by_words = {each.name: each for each in words.candidates}
        names = self._nearest(close, max(_DEEP, k), allowed) | by_words.keys()
        ranked: list[Candidate] = []
        for name in names:
            lexical = by_words.get(name)
            row = self._rows.get(name)
            meaning = (float(close[row]) - middle) / spread if row is not None else 0.0
            total = meaning + self._share * ((lexical.score if lexical else 0.0) - usual) / deviation
            said = f"means {meaning:.1f} deviations more than most" if meaning > 0 else ""
            reasons = (*(lexical.reasons if lexical else ()), *((said,) if said else ()))
            # Rounded, so that sums made in another order give the same ranking.
            ranked.append(Candidate(name, round(1 / (1 + math.exp(-(total - 4) / 2)), 6), reasons))
        ranked.sort(key=lambda each: (-each.score, each.name))
        return Findings(ranked[:k], words.signals)

    def _nearest(self, close: Any, wanted: int, allowed: Callable[[str], bool] | None) -> set[str]:
        """The allowed ones that are nearest; looked for among more and more until there are as many as wanted."""
        look = wanted
        while True:
            look = min(len(self._names), look)
            rows: list[int] = self._np.argpartition(-close, look - 1)[:look].tolist()
            names = {self._names[row] for row in rows}
            names = names if allowed is None else {name for name in names if allowed(name)}
            if len(names) >= wanted or look == len(self._names):
                return names
            look *= 4

    def _append(self, name: str, vector: Any) -> None:
        np = self._np
        if self._matrix is None:
            self._matrix = np.zeros((64, len(vector)), dtype=np.float32)
            self._sum = np.zeros(len(vector), dtype=np.float64)
        if len(vector) != self._matrix.shape[1]:
            raise BadInput("encoder", self._encoder.identity, "Its vectors must all have one length.")
        if len(self._names) == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._rows[name] = len(self._names)
        self._matrix[len(self._names)] = vector
        self._sum += self._matrix[len(self._names)]
        self._names.append(name)

    def _vectors(self, texts: Sequence[str]) -> Any:
        """A row for each text, from the store as far as it has them."""
        np, identity = self._np, self._encoder.identity
        hashes = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
        kept = self._store.get(identity, hashes) if self._store is not None else [None] * len(texts)
        rows: list[Any] = [np.frombuffer(each, dtype="<f4") if each else None for each in kept]
        new = [at for at, row in enumerate(rows) if row is None]
        if new:
            for at, vector in zip(new, self._encoder([texts[at] for at in new]), strict=True):
                rows[at] = np.asarray(vector, dtype=np.float32)
            if self._store is not None:
                self._store.put(identity, [(hashes[at], rows[at].astype("<f4").tobytes()) for at in new])
        if len({len(row) for row in rows}) > 1:
            raise BadInput("encoder", identity, "Its vectors must all have one length.")
        return np.stack(rows)


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")
