"""Words and meanings together: the lexical matcher, and how much nearer than most a capability is by vectors of an encoder.

A capability's vector is the mean of two: one of its name, description and names of parameters, one of the needs it served.
How near it is counts in standard deviations over the registry, because encoders differ in what they call near; what
words add up to counts as the share of the need that it is, which means the same in every registry. Needs NumPy.

Vectors are made when they are first needed and kept in a :class:`VectorStore` by the hash of their text, so a text is
encoded once for everybody. While more than a hundredth of the vectors is still to be made, as with a new encoder, all
rank by their words alone; no vector of one encoder is ever compared with one of another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from threading import Lock
from typing import Any, Protocol

from blackboard.errors import BadInput
from registry.matching.covering import covering
from registry.matching.documents import Document
from registry.matching.encoders import Encoder, LimitedEncoder
from registry.matching.interface import Batch, Candidate, Findings, Signals, standing
from registry.matching.lexical import LexicalMatcher
from registry.matching.nearness import Nearness
from registry.matching.words import views

_WORDS = 25.0
_OTHERWISE = 0.5
"""How many deviations it is worth that a capability does another kind of thing than any that the need speaks of."""
_AT_ONCE = 256
_DEEP = 100
_LOOKED_AT = 10
_SERVED = 0.5
_READ = 4000
_ASKED = 512
"""Needs whose vectors are kept for searches."""


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
        encoder: makes the vectors; limited in time, see :class:`~registry.matching.encoders.LimitedEncoder`.
        store: keeps them. Default: nowhere but here.
        lexical: the other half. Default: a new :class:`~registry.matching.lexical.LexicalMatcher`.
        at_once: how many missing vectors a search makes at most before it answers; the rest is for :meth:`encode_some`.
        words: how many standard deviations of meaning it is worth that the words of a capability weigh as much as the need;
            0 leaves words out.

    Raises:
        BadInput: NumPy is not installed; by a search, the encoder's vectors are not as long as those that are kept.
        ModelUnavailable: by a search, the encoder gave no vectors.
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
        self._encoder = encoder if isinstance(encoder, LimitedEncoder) else LimitedEncoder(encoder)
        self._store, self._at_once, self._share = store, at_once, words
        self._lexical = lexical if lexical is not None else LexicalMatcher()
        self._texts: dict[str, tuple[str, ...]] = {}
        self._missing: dict[str, None] = {}
        self._asked: dict[str, Any] = {}
        self._asking = Lock()
        self.background = False
        self._vectors: Nearness | None = None

    def __len__(self) -> int:
        return len(self._lexical)

    @property
    def encoder(self) -> LimitedEncoder:
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
        about = f"{_spoken(document.name)}. {document.description} {_spoken(document.parameters)}".rstrip()
        self._texts[name] = (about, document.served) if document.served.strip() else (about,)
        self._missing[name] = None

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        self._lexical.remove(name)
        self._texts.pop(name, None)
        self._missing.pop(name, None)
        if self._vectors is not None:
            self._vectors.remove(name)

    def encode_some(self, most: int = _AT_ONCE) -> int:
        """Make at most so many of the missing vectors; returns how many are missing still."""
        batch = self.pending(most)
        if batch:
            self.take(batch, self.made(batch))
        return len(self._missing)

    def pending(self, most: int = _AT_ONCE) -> Batch:
        """At most so many capabilities that have no vector yet."""
        return [(name, self._texts[name]) for name in islice(self._missing, most)]

    def made(self, batch: Batch) -> Any:
        """The vectors of a batch. May be called from any thread."""
        return self._encoded([text for _, texts in batch for text in texts], self._encoder)

    def take(self, batch: Batch, vectors: Any) -> None:
        """Use vectors from now on, for those capabilities that are still as they were."""
        at = 0
        taken: dict[str, Any] = {}
        for name, texts in batch:
            parts = vectors[at : at + len(texts)]
            at += len(texts)
            if name in self._missing and self._texts[name] == texts:
                taken[name] = parts[0] if len(parts) == 1 else parts[0] * (1 - _SERVED) + parts[1] * _SERVED
        if not taken:
            return
        rows = self._of_length_one(list(taken.values()))
        if self._vectors is None:
            self._vectors = Nearness(rows.shape[1])
        if rows.shape[1] != self._vectors.dimensions:
            raise self._several_lengths()
        self._vectors.add(list(taken), rows)
        for name in taken:
            del self._missing[name]

    def prepare(self, queries: Sequence[str]) -> None:
        """Make the vectors of needs that are about to be searched for. May be called from any thread."""
        said = [text for query in queries for text in views(query[:_READ])]
        texts = [text for text in dict.fromkeys(said) if text.strip()]
        new = [text for text in texts if text not in self._asked]
        if new:
            found = dict(zip(new, self._encoded(new, self._encoder.needs), strict=True))
            with self._asking:
                self._asked.update(found)
                while len(self._asked) > _ASKED:
                    self._asked.pop(next(iter(self._asked)))

    def _query(self, query: str) -> Any:
        """A row for each sentence of a need, and one for all; None where they were not prepared and must not be made here."""
        texts = views(query[:_READ])
        found = [self._asked.get(text) for text in texts]
        if all(each is not None for each in found):
            return self._of_length_one(found)
        return None if self.background else self._of_length_one(self._encoded(texts, self._encoder.needs))

    def _of_length_one(self, rows: Sequence[Any]) -> Any:
        np = self._np
        found = np.stack(rows)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        """The best at most ``k`` allowed capabilities; those with a vector also by meaning."""
        if self._missing and not self.background:
            self.encode_some(self._at_once)
        # What has no vector would seem to mean nothing: while more than a hundredth has none, words alone rank.
        whole = len(self._missing) * 100 <= len(self._texts)
        vectors = self._vectors if whole and query.strip() and k > 0 else None
        asked = self._query(query) if vectors is not None and len(vectors) else None
        if vectors is None or asked is None or asked.shape[1] != vectors.dimensions:
            return self._lexical.search(query, k=k, allowed=allowed)
        products = vectors.begun(asked)
        words = self._lexical.best(query, _DEEP, allowed)
        by_words = {each.name: each for each in words}
        meant, deviation = vectors.nearest(asked, max(k, _LOOKED_AT), by_words, allowed, products)
        ranked: list[tuple[float, str, float]] = []
        for name in meant.keys() | by_words.keys():
            said = by_words[name].score if name in by_words else 0.0
            close = meant.get(name, 0.0)
            total = close + self._share * said / max(1 - said, 1e-9)
            if self._share and self._lexical.otherwise(query, name):
                total -= _OTHERWISE
            ranked.append((-round(total, 4), name, close))
        ranked.sort()
        best = [by_words.get(name, Candidate(name, 0.0)) for _, name, _ in ranked[: max(k, _LOOKED_AT)]]
        explained, signals, _ = self._lexical.explained(query, best)
        found = [
            each._replace(score=_score(-total), reasons=(*each.reasons, *_told(close)))
            for each, (total, _, close) in zip(explained, ranked, strict=False)
        ]
        if not found:
            return Findings((), Signals())
        told = signals._replace(
            score=found[0].score,
            standing=standing([each.score for each in found]),
            # None is exactly 0: that says that words alone ranked.
            nearer=round(ranked[0][2] * deviation, 4) or 1e-4,
            known=len(vectors),
        )
        best = covering(found) if self._lexical.capabilities else found
        return Findings(best[:k], told, self._lexical.compared(query))

    def _encoded(self, texts: Sequence[str], encoder: Encoder) -> Any:
        """A row for each text, from the store as far as it has them."""
        np, identity = self._np, encoder.identity
        hashes = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
        kept = self._store.get(identity, hashes) if self._store is not None else [None] * len(texts)
        rows: list[Any] = [self._usable(each) for each in kept]
        new = [at for at, row in enumerate(rows) if row is None]
        if new:
            for at, vector in zip(new, encoder([texts[at] for at in new]), strict=True):
                rows[at] = np.asarray(vector, dtype=np.float32)
        known = {self._vectors.dimensions} if self._vectors is not None else set[int]()
        if len({len(row) for row in rows} | known) > 1:
            raise self._several_lengths()
        if new and self._store is not None:
            self._store.put(identity, [(hashes[at], rows[at].astype("<f4").tobytes()) for at in new])
        return np.stack(rows)

    def _usable(self, kept: bytes | None) -> Any:
        """A vector that was kept; None where it is none, which makes it anew."""
        row = self._np.frombuffer(kept, dtype="<f4") if kept and len(kept) % 4 == 0 else None
        return row if row is not None and self._np.isfinite(row).all() else None

    def _several_lengths(self) -> BadInput:
        remedy = "Its vectors must all have one length; give it another identity when its model changes."
        return BadInput("encoder", self._encoder.identity, remedy)


def _score(total: float) -> float:
    """From 0 to 1: next to nothing for what has no word in common with a need and means no more of it than most."""
    return round(1 / (1 + math.exp(-(max(-40.0, min(40.0, total)) - 8) / 2)), 6)


def _told(meant: float) -> tuple[str, ...]:
    return (f"means {meant:.1f} deviations more than most",) if meant > 0 else ()


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")
