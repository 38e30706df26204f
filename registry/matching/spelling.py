"""Words that are spelled nearly alike: slips of the keyboard, and names that were written as one word."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable

_SHORTEST = 4
_ALIKE = 0.5
_CONTAINED = 5
_SLIPPED = 4
_MOST = 8
_KEPT = 8192


class Spelling:
    """The words of a registry by their three-letter pieces.

    Two words are as near as the share of pieces they have in common (Dice's coefficient), from 0.5 on; a word of five
    letters or more that is part of a longer one is taken as 0.5 near to it. So is a word that is not known to those of
    which it is one slip away: a letter too many, missing or wrong, or two exchanged, behind the first one. Of a short
    word such a slip may leave no piece as it was, so those that begin with the same two letters are looked at as well.

    Args:
        english: of a word that is not known, whether it is right as it is written. Default: never.
    """

    def __init__(self, english: Callable[[str], bool] = lambda word: False) -> None:
        self._english = english
        self._pieces: dict[str, array[int]] = {}
        self._words: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._found: OrderedDict[str, tuple[tuple[str, float], ...]] = OrderedDict()
        self._answered: dict[str, set[str]] = {}

    def add(self, word: str) -> None:
        """Know a word."""
        if not _counts(word) or word in self._numbers:
            return
        number, self._next = self._next, self._next + 1
        self._numbers[word], self._words[number] = number, word
        for piece in _keys(word):
            there = self._pieces.get(piece)
            if there is None:
                there = self._pieces[piece] = array("I")
            there.append(number)
        self._forget(word)

    def remove(self, word: str) -> None:
        """Forget a word; nothing happens when it is not known."""
        number = self._numbers.pop(word, None)
        if number is None:
            return
        del self._words[number]
        for piece in _keys(word):
            numbers = self._pieces[piece]
            numbers.remove(number)
            if not numbers:
                del self._pieces[piece]
        self._forget(word)

    def near(self, word: str) -> tuple[tuple[str, float], ...]:
        """The known words nearest to a word, without itself, nearest first; at most eight."""
        if not _counts(word):
            return ()
        found = self._found.get(word)
        if found is None:
            found = self._found[word] = self._near(word)
            for piece in _keys(word):
                self._answered.setdefault(piece, set()).add(word)
            if len(self._found) > _KEPT:
                self._drop(next(iter(self._found)))
        else:
            self._found.move_to_end(word)
        return found

    def _near(self, word: str) -> tuple[tuple[str, float], ...]:
        pieces = _pieces(word)
        shared: Counter[int] = Counter()
        for piece in pieces:
            shared.update(self._pieces.get(piece, ()))
        # Most words share one or two common pieces by chance; they cannot reach the least that counts.
        least = _ALIKE * (len(pieces) + 1) / 2
        unknown = word not in self._numbers and not self._english(word)
        if unknown:
            for number in self._pieces.get(_start(word), ()):
                shared.setdefault(number, 0)
        near: list[tuple[str, float]] = []
        for number, count in shared.items():
            if count < least:
                if unknown and _slipped(word, other := self._words[number]):
                    near.append((other, _ALIKE))
                continue
            other = self._words[number]
            alike = 2 * count / (len(pieces) + len(_pieces(other)))
            if (count == len(pieces) and len(word) >= _CONTAINED) or (unknown and _slipped(word, other)):
                alike = max(alike, _ALIKE)
            if alike >= _ALIKE and other != word:
                near.append((other, alike))
        near.sort(key=lambda each: (-each[1], each[0]))
        return tuple(near[:_MOST])

    def _forget(self, word: str) -> None:
        """Drop the answers that a word which came or went may change."""
        if not self._found:
            return
        pieces = _pieces(word)
        shared: Counter[str] = Counter()
        for piece in pieces:
            shared.update(self._answered.get(piece, ()))
        for other in self._answered.get(_start(word), ()):
            shared.setdefault(other, 0)
        for other, count in shared.items():
            theirs = len(_pieces(other))
            if 2 * count >= _ALIKE * (len(pieces) + theirs) or count == theirs or _slipped(other, word):
                self._drop(other)

    def _drop(self, word: str) -> None:
        del self._found[word]
        for piece in _keys(word):
            words = self._answered[piece]
            words.discard(word)
            if not words:
                del self._answered[piece]


def _counts(word: str) -> bool:
    return _SHORTEST <= len(word) <= 40 and word.isalpha()


def _pieces(word: str) -> set[str]:
    return {word[at : at + 3] for at in range(len(word) - 2)}


def _start(word: str) -> str:
    """What words are kept under that begin alike; no piece has two letters."""
    return word[:2]


def _keys(word: str) -> set[str]:
    return _pieces(word) | {_start(word)}


def _slipped(word: str, meant: str) -> bool:
    """Whether a word is another one with one slip in it: see :class:`Spelling`. A source of slips: Damerau, "A Technique for
    Computer Detection and Correction of Spelling Errors" (1964)."""
    if word[0] != meant[0] or abs(len(word) - len(meant)) > 1 or len(word) < _SLIPPED:
        return False
    start, most = 1, min(len(word), len(meant))
    while start < most and word[start] == meant[start]:
        start += 1
    if word[start + 1 :] == meant[start + 1 :]:
        return word != meant
    if len(word) == len(meant):
        return word[start : start + 2] == meant[start + 1 : start - 1 : -1] and word[start + 2 :] == meant[start + 2 :]
    return word[start + 1 :] == meant[start:] if len(word) > len(meant) else word[start:] == meant[start + 1 :]
