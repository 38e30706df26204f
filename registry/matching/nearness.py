"""Which of very many vectors are nearest to a few, and by how much more than most: exactly, without multiplying them all.

All are multiplied roughly (:mod:`registry.matching.rough`); what may be among the nearest after that is multiplied in full. Mean
and standard deviation of all products follow from the sum of the vectors and of their squares. Needs NumPy.

Of several that are asked the nearest counts; how near most are to that is counted over a few thousand vectors, which is
right to about a hundredth. Their names decide which those are, so whoever knows the same vectors counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from threading import Thread
from typing import Any, NamedTuple
from zlib import crc32

from registry.matching.rough import Rough, longer

_AHEAD = 2.0
"""How many deviations nearer than most one is at least that is looked for among those first that are: one in fifty."""
_MANY = 8192
"""From how many vectors on not all are multiplied in full."""
_GROWN = 8
"""How many times as many vectors there must be for the directions that are read to be found anew."""
_COUNTED = 4096
"""Over about how many vectors at least it is counted how near most are to several."""
_ALIKE = 1e-6
"""A deviation below this is nothing but rounding: all are equally near."""


class Near(NamedTuple):
    """How near vectors are to what was asked."""

    far: dict[str, float]
    """By name, how many deviations nearer than most."""
    deviation: float
    """What one deviation is, as a product."""


class Nearness:
    """Vectors of length 1 by name.

    Args:
        dimensions: how many numbers each has.
    """

    def __init__(self, dimensions: int) -> None:
        self._np: Any = import_module("numpy")
        self.dimensions = dimensions
        """How many numbers a vector has."""
        self._names: list[str] = []
        self._rows: dict[str, int] = {}
        self._vectors = self._np.zeros((64, dimensions), dtype=self._np.float32)
        self._marks = self._np.zeros(64, dtype=self._np.uint32)
        self._counted: Any = None
        self._sum = self._np.zeros(dimensions)
        self._squares = self._np.zeros((dimensions, dimensions))
        self._rough: Rough | None = None
        self._anew = _MANY

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Sequence[str], vectors: Any) -> None:
        """Know vectors, a row for each of the names, none of which is known yet."""
        if not names:
            return
        np, start = self._np, len(self._names)
        end = start + len(names)
        if end > len(self._vectors):
            size = max(end + end % 2, 2 * len(self._vectors))
            self._vectors, self._marks = longer(np, self._vectors, size), longer(np, self._marks, size)
            if self._rough is not None:
                self._rough.lengthen(size)
        self._vectors[start:end] = vectors
        self._marks[start:end] = [crc32(name.encode("utf-8", "replace")) for name in names]
        self._names += names
        self._rows.update(zip(names, range(start, end), strict=True))
        self._count(self._vectors[start:end], 1.0)
        if end >= self._anew:
            self._rough, self._anew = Rough(self._squares, self._vectors), _GROWN * end
        else:
            self._round(start, end)

    def remove(self, name: str) -> None:
        """Forget a vector; nothing happens when it is not known."""
        row = self._rows.pop(name, None)
        if row is None:
            return
        self._count(self._vectors[row : row + 1], -1.0)
        last = self._names.pop()
        end = len(self._names)
        if last != name:
            self._vectors[row], self._marks[row] = self._vectors[end], self._marks[end]
            self._names[row], self._rows[last] = last, row
            self._round(row, row + 1)
        self._vectors[end] = 0.0
        self._round(end, end + 1)

    def begun(self, asked: Any) -> Callable[[], Any]:
        """Begin what :meth:`nearest` needs of all vectors, in a thread of its own where there are many. The function returned
        waits for it. No vector may come or go meanwhile."""
        rough, count = self._among_many(), len(self._names)
        if rough is None:
            return lambda: self._np.vecdot(self._vectors[:count, None], asked[None])
        found: list[Any] = []
        ready = rough.asked(asked)
        # A thread kept ready would not be there in a forked process, and is hardly faster.
        thread = Thread(target=lambda: found.append(rough.products(ready, count)), name="nearness", daemon=True)
        thread.start()

        def products() -> Any:
            thread.join()
            return found[0] if found else rough.products(ready, count)

        return products

    def nearest(
        self,
        asked: Any,
        wanted: int,
        also: Collection[str],
        allowed: Callable[[str], bool] | None = None,
        products: Callable[[], Any] | None = None,
    ) -> Near:
        """How much nearer than most to one of the asked: those named, and of all others the allowed nearest.

        Args:
            asked: vectors of length 1, a row each; of several each is meant.
            wanted: how many others.
            also: names, of which those count that are known.
            allowed: which others may be among them. Default: all.
            products: what :meth:`begun` returned for the asked. Default: begun here.
        """
        np, rough = self._np, self._among_many()
        named = {name: self._rows[name] for name in also if name in self._rows}
        exactly = self._exactly(asked, list(named.values()))
        middle, spread = self._most(asked) if rough is not None else (0.0, 0.0)
        # What was begun is waited for as late as can be.
        multiplied = (products or self.begun(asked))()
        if rough is not None:
            close = rough.close(multiplied, len(self._names))
        else:
            close = multiplied.max(axis=1)
            middle, spread = _mean_and_deviation(close)
        spread = spread if spread > _ALIKE else 1.0
        told = dict(zip(named, _far(exactly, middle, spread).tolist(), strict=True))
        if wanted <= 0 or len(named) == len(self._names):
            return Near(told, spread)
        close[list(named.values())] = -np.inf
        look, most = 4 * wanted, len(self._names) - len(named)
        # Nearly always the nearest are far from most, and only those have to be put in order.
        ahead = np.flatnonzero(close >= middle + _AHEAD * spread)
        while True:
            look = min(look, most)
            within = ahead if len(ahead) >= look else np.arange(len(close))
            order = np.argpartition(close[within], len(within) - look)[len(within) - look :]
            rows = self._allowed(within[order], allowed)
            if len(rows) >= wanted or look == most:
                break
            look *= 4
        if len(rows) >= wanted:
            least = float(np.partition(self._exactly(asked, rows), len(rows) - wanted)[len(rows) - wanted])
            reaching = np.flatnonzero(close >= least) if rough is None else rough.reaching(close, asked, least)
            rows = self._allowed(reaching, allowed)
        far = _far(self._exactly(asked, rows), middle, spread)
        if len(rows) > wanted:
            chosen: list[int] = np.flatnonzero(far >= np.partition(far, len(far) - wanted)[len(far) - wanted]).tolist()
            far, rows = far[chosen], [rows[at] for at in chosen]
        best = sorted(zip((-far).tolist(), [self._names[row] for row in rows], strict=True))
        return Near(told | {name: -each for each, name in best[:wanted]}, spread)

    def _among_many(self) -> Rough | None:
        """What multiplies roughly, where there are so many that it pays."""
        return self._rough if len(self._names) >= _MANY else None

    def _allowed(self, rows: Any, allowed: Callable[[str], bool] | None) -> list[int]:
        found: list[int] = rows.tolist()
        return found if allowed is None else [row for row in found if allowed(self._names[row])]

    def _exactly(self, asked: Any, rows: Sequence[int]) -> Any:
        """The products of some vectors with the nearest of the asked."""
        if not rows:
            return self._np.empty(0, dtype=self._np.float32)
        chosen = self._vectors[rows]
        return self._np.max([self._np.vecdot(chosen, each) for each in asked], axis=0)

    def _most(self, asked: Any) -> tuple[float, float]:
        """Mean and deviation of the products of all vectors with the nearest of the asked."""
        np, count = self._np, len(self._names)
        known: list[tuple[float, float]] = []
        for exact in asked.astype(np.float64):
            middle = float(exact @ self._sum) / count
            known.append((middle, max(float(exact @ self._squares @ exact) / count - middle * middle, 0.0) ** 0.5))
        if len(known) == 1:
            return known[0]
        some = self._some()
        close: Any = None
        for each, (middle, spread) in zip(asked, known, strict=True):
            found = np.vecdot(some, each)
            # Of each alone it is known what they are.
            mean, deviation = _mean_and_deviation(found)
            found = (found - mean) * (spread / (deviation or 1.0)) + middle
            close = found if close is None else np.maximum(close, found)
        return _mean_and_deviation(close)

    def _some(self) -> Any:
        """So many of the vectors that it can be counted how near most are: those whose names have the smallest sums."""
        if self._counted is None:
            np, count = self._np, len(self._names)
            halvings = (count // _COUNTED).bit_length() - 1
            self._counted = self._vectors[np.flatnonzero(self._marks[:count] < 2 ** (32 - halvings))]
        return self._counted

    def _count(self, vectors: Any, sign: float) -> None:
        """Take vectors into the sums, or out of them."""
        exact = vectors.astype(self._np.float64)
        self._sum += sign * exact.sum(axis=0)
        self._squares += sign * (exact.T @ exact)
        self._counted = None

    def _round(self, start: int, end: int) -> None:
        """Have these vectors multiplied roughly as well."""
        if self._rough is not None:
            start, end = start - start % 2, end + end % 2
            self._rough.put(start, self._vectors[start:end])


def _mean_and_deviation(products: Any) -> tuple[float, float]:
    return (float(products.mean(dtype="f8")), float(products.std(dtype="f8"))) if len(products) else (0.0, 0.0)


def _far(products: Any, middle: float, spread: float) -> Any:
    """How many deviations nearer than most; rounded, so that sums made in another order give the same ranking."""
    return ((products - middle) / spread).round(4)
