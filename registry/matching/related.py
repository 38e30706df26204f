"""Which words mean nearly the same: a table of the English words a general encoder puts next to each other.

The table is ``related.bin`` beside this module, made by ``python -m benchmarks.related``, which says from what. It knows
nothing of any registry, so every process expands a word alike.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from registry.matching.words import stem

_FILE = Path(__file__).with_name("related.bin")


class Related:
    """Stems to related stems with how close they are, 0 to 1, closest first.

    Args:
        packed: what :func:`pack` made.
    """

    def __init__(self, packed: bytes) -> None:
        plain = zlib.decompress(packed)
        head = int.from_bytes(plain[:4], "little")
        self._words = plain[4 : 4 + head].decode().split("\n")
        rest = plain[4 + head :]
        counts = rest[: len(self._words)]
        total = sum(counts)
        self._closeness = rest[len(counts) : len(counts) + total]
        self._others = array("H")
        self._others.frombytes(rest[len(counts) + total : len(counts) + 3 * total])
        if sys.byteorder == "big":
            self._others.byteswap()
        self._starts = array("I", accumulate(counts, initial=0))
        self._numbers = {word: number for number, word in enumerate(self._words)}

    def of(self, word: str) -> list[tuple[str, float]]:
        """The stems related to a stem; empty for one the table does not have."""
        number = self._numbers.get(word)
        if number is None:
            return []
        span = range(self._starts[number], self._starts[number + 1])
        return [(self._words[self._others[at]], self._closeness[at] / 255) for at in span]


def pack(table: dict[str, list[tuple[str, float]]]) -> bytes:
    """The bytes :class:`Related` reads, from stems to related stems with how close they are; at most 65,536 stems."""
    words = sorted({*table, *(other for others in table.values() for other, _ in others)})
    numbers = {word: number for number, word in enumerate(words)}
    rows = [table.get(word, []) for word in words]
    others = array("H", [numbers[other] for row in rows for other, _ in row])
    if sys.byteorder == "big":
        others.byteswap()
    head = "\n".join(words).encode()
    closeness = bytes(round(255 * close) for row in rows for _, close in row)
    plain = len(head).to_bytes(4, "little") + head + bytes(map(len, rows)) + closeness + others.tobytes()
    return zlib.compress(plain, 9)


@lru_cache(maxsize=1)
def shipped() -> Related:
    """The table that comes with the package, read once."""
    return Related(_FILE.read_bytes())


def stems(neighbours: dict[str, list[tuple[str, float]]], most: int) -> dict[str, list[tuple[str, float]]]:
    """A table of words as one of stems: forms of a word share what is related to any of them, the ``most`` closest kept."""
    table: dict[str, dict[str, float]] = {}
    for word, others in neighbours.items():
        mine = stem(word)
        row = table.setdefault(mine, {})
        for other, close in others:
            their = stem(other)
            if their != mine:
                row[their] = max(row.get(their, 0.0), close)
    return {
        word: sorted(row.items(), key=lambda each: (-each[1], each[0]))[:most] for word, row in table.items() if row
    }
