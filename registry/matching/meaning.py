"""What words mean together: a small vector for each of many English words, and of a text the direction of their sum.

Two texts with no word in common still point the same way when they speak of the same thing. The table is ``meaning.bin``
beside this module, made by ``python -m benchmarks.meanings``, which says from what. It knows nothing of any registry, so
a text's vector follows from the text alone. Words it does not have count for nothing.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import mul
from pathlib import Path

_FILE = Path(__file__).with_name("meaning.bin")
_ONE = 10_000.0
"""What a length of 1 is in the whole numbers of a vector."""
_HEAD = 8


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
        self._vectors = memoryview(plain[_HEAD + size :]).cast("b")

    def of(self, words: Iterable[str]) -> array[int] | None:
        """The direction of the sum of the words' vectors, each word counted once; None when it knows none of them."""
        size = self.dimensions
        rows = [
            self._vectors[number * size : (number + 1) * size]
            for word in dict.fromkeys(words)
            if (number := self._numbers.get(word)) is not None
        ]
        if not rows:
            return None
        total = list(map(sum, zip(*rows, strict=True)))
        length = math.sqrt(sum(map(mul, total, total)))
        if not length:
            return None
        return array("h", [round(_ONE * each / length) for each in total])


def alike(one: Sequence[int], other: Sequence[int]) -> float:
    """How nearly two vectors point the same way: the cosine, from -1 to 1."""
    return sum(map(mul, one, other)) / (_ONE * _ONE)


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
