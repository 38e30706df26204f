"""Which scripts a text is written in: words of one are never spelled like words of another."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

_LATIN = "LATIN"
_WITHOUT_BLANKS = frozenset(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"))
"""Scripts that put no blanks between words, so that what seems a word there is half a sentence."""


def scripts(text: str) -> Counter[str]:
    """How many letters of a text are of each script, which is called by the first word of its letters' names in Unicode."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return Counter({_LATIN: letters} if letters else {})
    found = Counter[str]()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            found[_script(letter)] += times
    return found


def has_words(script: str) -> bool:
    """Whether words of a script can be told apart without knowing its language."""
    return script not in _WITHOUT_BLANKS


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return _LATIN if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
