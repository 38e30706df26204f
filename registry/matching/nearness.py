"""Which of very many vectors are nearest to a few, and by how much more than most: exactly, without multiplying them all.

Every vector is kept twice: as it is, and in whole numbers of few digits, two vectors to a row. One product with such a row
gives the products of both, in its high and its low digits, so a need is held against all of them in half the time that
reading them takes. What may be among the nearest after that is multiplied in full. Mean and standard deviation of all
products follow from the sum of the vectors and of their squares. Needs NumPy.

Of several that are asked the nearest counts; how near most are to that is counted over the products in few digits, which is
right to about a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from threading import Thread
from typing import Any

_LONGEST = 2047.0
"""The square of the longest vector in whole numbers, and so the largest product. Two such products fit into the 24 bits of a
32-bit float, the one in units of :data:`_HIGH`, and neither is rounded."""
_HIGH = 4096.0
_SPARE = 128.0
"""What is left of that for vectors that rounding makes longer than it does most."""
_SURE = 5.0
"""How many deviations of what rounding does to a product one may lie under the last of the nearest and still be looked
at: of those that belong to the nearest one in three million lies further."""
_AHEAD = 2.0
"""How many deviations nearer than most one is at least that is looked for among those first that are: one in fifty."""
_MANY = 8192
"""From how many vectors on not all are multiplied in full."""
_ALIKE = 1e-6
"""A deviation below this is nothing but rounding: all are equally near."""


class Nearness:
    """Vectors of length 1 by name.

    Args:
        dimensions: how many numbers each has.
    """

    def __init__(self, dimensions: int) -> None:
        self._np: Any = import_module("numpy")
        self.dimensions = dimensions
        """How many numbers a vector has."""
        self._scale = max(_LONGEST - _SPARE - dimensions / 12, 1.0) ** 0.5
        """What a length of 1 is in whole numbers. Rounding a number adds a twelfth to its square."""
        self._names: list[str] = []
        self._rows: dict[str, int] = {}
        self._vectors = self._np.zeros((64, dimensions), dtype=self._np.float32)
        self._pairs = self._np.zeros((32, dimensions), dtype=self._np.float32)
        self._lost = self._np.zeros(64, dtype=self._np.float32)
        self._sum = self._np.zeros(dimensions)
        self._squares = self._np.zeros((dimensions, dimensions))

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
            self._vectors = _longer(np, self._vectors, size)
            self._pairs, self._lost = _longer(np, self._pairs, size // 2), _longer(np, self._lost, size)
        self._vectors[start:end] = vectors
        self._names += names
        self._rows.update(zip(names, range(start, end), strict=True))
        self._round(start, end)
        self._count(self._vectors[start:end], 1.0)

    def remove(self, name: str) -> None:
        """Forget a vector; nothing happens when it is not known."""
        row = self._rows.pop(name, None)
        if row is None:
            return
        self._count(self._vectors[row : row + 1], -1.0)
        last = self._names.pop()
        end = len(self._names)
        if last != name:
            self._vectors[row] = self._vectors[end]
            self._names[row], self._rows[last] = last, row
            self._round(row, row + 1)
        self._vectors[end] = 0.0
        self._round(end, end + 1)

    def begun(self, asked: Any) -> Callable[[], Any]:
        """Begin what :meth:`nearest` needs of all vectors, in a thread of its own where there are many: in one step that lets
        others run. The function returned waits for it. No vector may come or go meanwhile."""
        if len(self._names) < _MANY:
            return lambda: self._products(asked)
        found: list[Any] = []
        # A thread kept ready would not be there in a forked process, and is hardly faster.
        thread = Thread(target=lambda: found.append(self._products(asked)), name="nearness", daemon=True)
        thread.start()

        def products() -> Any:
            thread.join()
            return found[0] if found else self._products(asked)

        return products

    def nearest(
        self,
        asked: Any,
        wanted: int,
        also: Collection[str],
        allowed: Callable[[str], bool] | None = None,
        products: Callable[[], Any] | None = None,
    ) -> dict[str, float]:
        """How many deviations nearer than most to one of the asked: those named, and of all others the allowed nearest.

        Args:
            asked: vectors of length 1, a row each; of several each is meant.
            wanted: how many others.
            also: names, of which those count that are known.
            allowed: which others may be among them. Default: all.
            products: what :meth:`begun` returned for the asked. Default: begun here.
        """
        np = self._np
        named = {name: self._rows[name] for name in also if name in self._rows}
        exactly, expected = self._exactly(asked, list(named.values())), self._expected(asked)
        # What was begun is waited for as late as can be.
        close, lost, middle, spread = self._close(
            products() if products is not None else self._products(asked), expected
        )
        spread = spread if spread > _ALIKE else 1.0
        told = dict(zip(named, _far(exactly, middle, spread).tolist(), strict=True))
        if wanted <= 0 or len(named) == len(self._names):
            return told
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
            rows = self._allowed(self._reaching(close, least, lost), allowed)
        far = _far(self._exactly(asked, rows), middle, spread)
        if len(rows) > wanted:
            chosen: list[int] = np.flatnonzero(far >= np.partition(far, len(far) - wanted)[len(far) - wanted]).tolist()
            far, rows = far[chosen], [rows[at] for at in chosen]
        best = sorted(zip((-far).tolist(), [self._names[row] for row in rows], strict=True))
        return told | {name: -each for each, name in best[:wanted]}

    def _reaching(self, close: Any, least: float, lost: float) -> Any:
        """Rows whose product may be as large as the least, for what rounding can have done to it."""
        np = self._np
        if not lost:
            return np.flatnonzero(close >= least)
        reach = np.float32(_SURE / self.dimensions**0.5)
        rows = np.flatnonzero(close >= least - np.hypot(self._lost[: len(close)].max(), lost) * reach)
        return rows[close[rows] + np.hypot(self._lost[rows], lost) * reach >= least]

    def _allowed(self, rows: Any, allowed: Callable[[str], bool] | None) -> list[int]:
        found: list[int] = rows.tolist()
        return found if allowed is None else [row for row in found if allowed(self._names[row])]

    def _exactly(self, asked: Any, rows: Sequence[int]) -> Any:
        """The products of some vectors with the nearest of the asked."""
        if not rows:
            return self._np.empty(0, dtype=self._np.float32)
        chosen = self._vectors[rows]
        return self._np.max([self._np.vecdot(chosen, each) for each in asked], axis=0)

    def _products(self, asked: Any) -> Any:
        """The products of all vectors, or of all pairs, with each of the asked, a column each."""
        np, count = self._np, len(self._names)
        if count < _MANY:
            return np.vecdot(self._vectors[:count, None], asked[None])
        whole, _ = self._rounded(asked)
        return np.vecdot(self._pairs[: (count + 1) // 2, None], whole[None])

    def _expected(self, asked: Any) -> tuple[list[tuple[float, float]], float]:
        """Mean and deviation of the products with each of the asked, and what rounding takes of those, where it is done."""
        count = len(self._names)
        if count < _MANY:
            return [], 0.0
        known: list[tuple[float, float]] = []
        for exact in asked.astype(self._np.float64):
            middle = float(exact @ self._sum) / count
            known.append((middle, max(float(exact @ self._squares @ exact) / count - middle * middle, 0.0) ** 0.5))
        return known, float(self._rounded(asked)[1].max())

    def _close(
        self, products: Any, expected: tuple[list[tuple[float, float]], float]
    ) -> tuple[Any, float, float, float]:
        """The products of all vectors with the nearest of the asked, what rounding took of that, their mean and deviation."""
        np, count = self._np, len(self._names)
        if count < _MANY:
            close = products.max(axis=1)
            middle = float(close.mean(dtype=np.float64)) if count else 0.0
            return close, 0.0, middle, float(close.std(dtype=np.float64)) if count else 0.0
        known, lost = expected
        close: Any = None
        middle = spread = 0.0
        for each, (middle, spread) in zip(products.T, known, strict=True):
            found = np.empty(2 * len(each), dtype=np.float32)
            high = np.rint(each * np.float32(1 / _HIGH))
            found[1::2] = high
            found[0::2] = each - high * np.float32(_HIGH)
            found = found[:count]
            # One rounding of what is asked is in all the products. Their true mean and deviation are known.
            mean = float(np.add.reduce(found)) / count
            unit = spread / (max(float(np.add.reduce(found * found)) / count - mean * mean, 0.0) ** 0.5 or 1.0)
            found *= np.float32(unit)
            found += np.float32(middle - mean * unit)
            close = found if close is None else np.maximum(close, found, out=close)
        if len(known) > 1:
            middle, spread = float(close.mean(dtype=np.float64)), float(close.std(dtype=np.float64))
        return close, lost, middle, spread

    def _count(self, vectors: Any, sign: float) -> None:
        """Take vectors into the sums, or out of them."""
        exact = vectors.astype(self._np.float64)
        self._sum += sign * exact.sum(axis=0)
        self._squares += sign * (exact.T @ exact)

    def _round(self, start: int, end: int) -> None:
        """Put these vectors into the pairs."""
        first, last = start // 2, (end + 1) // 2
        whole, lost = self._rounded(self._vectors[2 * first : 2 * last])
        self._lost[2 * first : 2 * last] = lost
        self._pairs[first:last] = whole[0::2] + whole[1::2] * self._np.float32(_HIGH)

    def _rounded(self, vectors: Any) -> tuple[Any, Any]:
        """Vectors of length 1 in whole numbers, and what each lost by that: the length of what is between them."""
        np = self._np
        exact = vectors * np.float32(self._scale)
        whole = np.rint(exact)
        long = np.vecdot(whole, whole) > _LONGEST
        # Seldom: where most were rounded up, what is behind the point is left out instead.
        whole[long] = np.trunc(exact[long])
        return whole, np.linalg.norm(exact - whole, axis=1) / np.float32(self._scale)


def _far(products: Any, middle: float, spread: float) -> Any:
    """How many deviations nearer than most; rounded, so that sums made in another order give the same ranking."""
    return ((products - middle) / spread).round(4)


def _longer(np: Any, values: Any, size: int) -> Any:
    longer = np.zeros((size, *values.shape[1:]), dtype=values.dtype)
    longer[: len(values)] = values
    return longer
