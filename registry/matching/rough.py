"""Products of very many vectors with a few, roughly and fast, and which of them may be as large as one that is known.

Vectors of texts lie mostly within half of all directions: those of the largest eigenvalues of their second moments. What
of a vector lies in these is kept in whole numbers of few digits, two vectors to a row. One product with such a row gives
the products of both, in its high and its low digits. So all are held against a need in a quarter of the time that reading
them takes. What lies in the other directions adds at most the product of both lengths there (Cauchy and Schwarz). Where
vectors lie in all directions alike, all directions are read. Needs NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LONGEST = 2047.0
"""The square of the longest vector in whole numbers, and so the largest product. Two such products fit into the 24 bits of a
32-bit float, the one in units of :data:`_HIGH`, and neither is rounded."""
_HIGH = 4096.0
_SPARE = 128.0
"""What is left of that for vectors that rounding makes longer than it does most."""
_SURE = 5.0
"""How many deviations of what rounding does to a product are reckoned with: of those that belong to the nearest one in three
million is changed by more."""
_OUTSIDE = 0.05
"""How much of all squares may lie outside the directions that are read."""
_WORTH = 0.75
"""What share of the directions is read at most, if not all are."""
_LINE = 16
"""Numbers to a line of a processor's cache: so many directions come together."""
_AT_ONCE = 4096


class Rough:
    """Vectors of length 1 by row.

    Args:
        moments: the sums of the products of their numbers, a row and a column for each: which directions matter.
        vectors: they, a row each; an even number, of which those at the end may be nothing yet.
    """

    def __init__(self, moments: Any, vectors: Any) -> None:
        self._np: Any = import_module("numpy")
        self._directions = self._most(moments)
        width = self.width = self._inside(vectors[:1]).shape[1]
        """How many directions are read."""
        self._scale = max(_LONGEST - _SPARE - width / 12, 1.0) ** 0.5
        """What a length of 1 is in whole numbers. Rounding a number adds a twelfth to its square."""
        self._reach = _SURE / width**0.5
        self._pairs = self._np.zeros((0, width), dtype=self._np.float32)
        self._lost = self._np.zeros(0, dtype=self._np.float32)
        self._outside = self._np.zeros(0, dtype=self._np.float32)
        self.lengthen(len(vectors))
        for start in range(0, len(vectors), _AT_ONCE):
            self.put(start, vectors[start : start + _AT_ONCE])

    def lengthen(self, size: int) -> None:
        """Make room for so many rows, an even number."""
        self._pairs = longer(self._np, self._pairs, size // 2)
        self._lost, self._outside = longer(self._np, self._lost, size), longer(self._np, self._outside, size)

    def put(self, start: int, vectors: Any) -> None:
        """Take an even number of vectors from an even row on."""
        rows, inside = slice(start, start + len(vectors)), self._inside(vectors)
        whole, self._lost[rows] = self._rounded(inside)
        self._outside[rows] = self._beyond(vectors, inside)
        self._pairs[start // 2 : start // 2 + len(whole) // 2] = whole[0::2] + whole[1::2] * self._np.float32(_HIGH)

    def asked(self, vectors: Any) -> Any:
        """What :meth:`products` wants of vectors of length 1."""
        return self._rounded(self._inside(vectors))[0]

    def products(self, asked: Any, count: int) -> Any:
        """For :meth:`close`, of the first rows with each of the asked; in one step that lets other threads run."""
        return self._np.vecdot(self._pairs[: (count + 1) // 2, None], asked[None])

    def close(self, products: Any, count: int) -> Any:
        """Roughly the product of each of the first rows with the nearest of the asked."""
        np = self._np
        found = np.empty((2 * len(products), products.shape[1]), dtype=np.float32)
        high = np.rint(products * np.float32(1 / _HIGH))
        found[1::2] = high
        found[0::2] = products - high * np.float32(_HIGH)
        close = found[:count, 0] if products.shape[1] == 1 else found[:count].max(axis=1)
        close *= np.float32(self._scale**-2)
        return close

    def reaching(self, close: Any, vectors: Any, least: float) -> Any:
        """Rows whose product with the nearest of the vectors may be at least so large."""
        np, count = self._np, len(close)
        inside = self._inside(vectors)
        lost, beyond = self._rounded(inside)[1].max(), self._beyond(vectors, inside).max()
        most = self._outside[:count] * beyond
        most += close
        rows = np.flatnonzero(most >= least - np.hypot(self._lost[:count].max(), lost) * self._reach)
        return rows[most[rows] + np.hypot(self._lost[rows], lost) * self._reach >= least]

    def _most(self, moments: Any) -> Any:
        """The directions in which nearly all of the vectors lies, a column each; None where those are nearly all."""
        np = self._np
        sizes, directions = np.linalg.eigh(moments)
        within = np.cumsum(sizes[::-1])
        needed = int(np.searchsorted(within, (1 - _OUTSIDE) * within[-1])) + 1
        width = -(-needed // _LINE) * _LINE
        if width > _WORTH * len(moments):
            return None
        return np.ascontiguousarray(directions[:, ::-1][:, :width], dtype=np.float32)

    def _inside(self, vectors: Any) -> Any:
        return vectors if self._directions is None else vectors @ self._directions

    def _beyond(self, vectors: Any, inside: Any) -> Any:
        """How long vectors are in the other directions, and a little more than that for what 32 bits leave out."""
        np = self._np
        if self._directions is None:
            return np.zeros(len(vectors), dtype=np.float32)
        return np.sqrt(np.maximum(np.vecdot(vectors, vectors) - np.vecdot(inside, inside), 0.0) + np.float32(1e-6))

    def _rounded(self, vectors: Any) -> tuple[Any, Any]:
        """Vectors no longer than 1 in whole numbers, and what each lost by that: the length of what is between them."""
        np = self._np
        exact = vectors * np.float32(self._scale)
        whole = np.rint(exact)
        long = np.vecdot(whole, whole) > _LONGEST
        # Seldom: where most were rounded up, what is behind the point is left out instead.
        whole[long] = np.trunc(exact[long])
        return whole, np.linalg.norm(exact - whole, axis=1) / np.float32(self._scale)


def longer(np: Any, values: Any, size: int) -> Any:
    """Values with room for more."""
    found = np.zeros((size, *values.shape[1:]), dtype=values.dtype)
    found[: len(values)] = values
    return found
