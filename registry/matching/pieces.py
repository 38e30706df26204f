"""A text to the numbers of its word pieces, as an encoder of the BERT family reads it.

Source: Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache

_PIECES = 256
_READ = 4000
"""Characters of a text that can matter: 256 pieces are hardly ever longer."""


class Pieces:
    """The first 256 pieces of a text, marks of its beginning and end included.

    Args:
        numbers: of each piece that is known.

    Raises:
        KeyError: a piece that marks beginning, end or what is unknown is missing.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self._start, self._end = numbers["[CLS]"], numbers["[SEP]"]
        self._unknown = numbers["[UNK]"]

    def __call__(self, text: str) -> list[int]:
        found = [self._start]
        for word in _words(text[:_READ]):
            found += self._word(word)
            if len(found) >= _PIECES - 1:
                break
        return [*found[: _PIECES - 1], self._end]

    def _word(self, word: str) -> list[int]:
        """The longest known pieces of a word, from its beginning."""
        if len(word) > 100:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._numbers.get(word[start:end] if start == 0 else "##" + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [self._unknown]
        return found


def _words(text: str) -> Iterator[str]:
    """Words and marks in lower case without accents, as the encoder was trained on them."""
    word = ""
    for sign in unicodedata.normalize("NFD", text.lower()):
        kind = _kind(sign)
        if kind == "drop":
            continue
        if kind == "letter":
            word += sign
            continue
        if word:
            yield word
            word = ""
        if kind == "mark":
            yield sign
    if word:
        yield word


@lru_cache(maxsize=8192)
def _kind(sign: str) -> str:
    code, category = ord(sign), unicodedata.category(sign)
    if sign in "\t\n\r" or category == "Zs":
        return "blank"
    if category in ("Mn", "Cc", "Cf") or code in (0, 0xFFFD):
        return "drop"
    ascii_mark = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    chinese = 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    return "mark" if ascii_mark or chinese or category.startswith("P") else "letter"
