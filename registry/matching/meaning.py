"""What words mean together: a small vector for each of many English words, and of a text the direction of their sum.

Two texts with no word in common still point the same way when they speak of the same thing. The table is ``meaning.bin``
beside this module, made by ``python -m benchmarks.meanings``, which says from what. It knows nothing of any registry, so
a text's vector follows from the text alone. Words it does not have count for nothing.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_FILE = Path(__file__).with_name("meaning.bin")
_HEAD = 8
_READ = 64
"""How many words of a text are read for what they mean together."""
_BITS = 16
"""Of each number of a vector within the one large number that stands for all of it: enough for the sum of 64 signed bytes."""
_FLIPPED = bytes(byte ^ 0x80 for byte in range(256))


class Direction(NamedTuple):
    """The sum of some words' vectors."""

    point: tuple[int, ...]
    """The sum, as seen from the origin of its table."""
    length: float


class Meanings:
    """Stems to vectors.

    Args:
        packed: what :func:`pack` made.
    """

    def __init__(self, packed: bytes) -> None:
        plain = zlib.decompress(packed)
        size = int.from_bytes(plain[: _HEAD // 2], "little")
        self.dimensions = int.from_bytes(plain[_HEAD // 2 : _HEAD], "little")
        """How many numbers a vector has."""
        names = plain[_HEAD : _HEAD + size].decode().split("\n")
        self._numbers = {word: number for number, word in enumerate(names)}
        self._vectors = plain[_HEAD + size :]
        self._sums: dict[str, int] = {}
        """Vectors as one large number each, which are added up at once; made when they are first needed."""
        self._unsigned, self._flipped = (_repeated(1 << at, self.dimensions) for at in (_BITS - 1, 7))
        self._apart = Struct(f"<{self.dimensions}H").unpack
        self._origin = (1 << _BITS - 1,) * self.dimensions

    def of(self, words: Sequence[str]) -> Direction | None:
        """The direction of the sum of the first 64 words' vectors, each word counted once; None when it knows none of them."""
        known, sums = self._numbers.keys() & words[:_READ], self._sums
        if not known:
            return None
        total = sum([sums[word] if word in sums else self._summed(word) for word in known], self._unsigned)
        found = self._apart(total.to_bytes(_BITS // 8 * self.dimensions, "little"))
        length = math.dist(found, self._origin)
        return Direction(found, length) if length else None

    def _summed(self, word: str) -> int:
        """A vector as one large number."""
        number, size = self._numbers[word], self.dimensions
        apart = bytearray(2 * size)
        apart[::2] = self._vectors[number * size : (number + 1) * size].translate(_FLIPPED)
        found = self._sums[word] = int.from_bytes(apart, "little") - self._flipped
        return found


def _repeated(number: int, times: int) -> int:
    return sum(number << _BITS * at for at in range(times))


def alike(one: Direction, other: Direction) -> float:
    """How nearly two directions of one table are the same: the cosine, from -1 to 1."""
    apart = math.dist(one.point, other.point)
    return (one.length**2 + other.length**2 - apart**2) / (2 * one.length * other.length)


def pack(table: dict[str, Sequence[float]]) -> bytes:
    """The bytes :class:`Meanings` reads, from stems to vectors of one length; what counts is their directions and lengths
    beside each other."""
    words = sorted(table)
    dimensions = len(table[words[0]])
    largest = sorted(abs(each) for word in words for each in table[word])
    scale = 127 / largest[min(len(largest) - 1, int(len(largest) * 0.9995))]
    vectors = array("b", [max(-127, min(127, round(scale * each))) for word in words for each in table[word]])
    names = "\n".join(words).encode()
    head = len(names).to_bytes(_HEAD // 2, "little") + dimensions.to_bytes(_HEAD // 2, "little")
    return zlib.compress(head + names + vectors.tobytes(), 9)


@lru_cache(maxsize=1)
def shipped() -> Meanings:
    """The table that comes with the package, read once."""
    return Meanings(_FILE.read_bytes())
