"""Text as the matcher compares it: identifiers split, lower case, words that say nothing left out, endings cut."""

from __future__ import annotations

import re
from functools import lru_cache

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = """
a about all also am an and any are as at be been being but by can could d did do does doing for from get give had has have
he help her here him his how i if in into is it its let like ll m me more my need not of on one or our out please re s
she should show so some such t tell than that the their them then there these they this those to up us use using ve want
was we were what when where which who why will with would you your
"""
_STOP = frozenset(_STOP_WORDS.split())
_BETWEEN = re.compile(r"[.;!?]\s+|\n+")
_VIEWS = 8
_REMEMBERED = 40
"""Characters of a piece between blanks whose words are remembered."""
_ENDINGS = ("ations", "ation", "ating", "ated", "ator", "ing", "ed", "ment", "ly", "er", "or", "ion")


def terms(text: str) -> list[str]:
    """The words of a text as they are compared, in their order: see this module."""
    found: list[str] = []
    for piece in text.split():
        found += _terms(piece) if len(piece) <= _REMEMBERED else map(stem, plain_words(piece))
    return found


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case and whole, identifiers split, without stop words."""
    words = (word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text)))
    return [word for word in words if word not in _STOP]


def views(text: str) -> list[str]:
    """A text, and each of its first eight sentences with two words at least, when it has several: each is meant."""
    parts = _BETWEEN.split(text, _VIEWS)[:_VIEWS]
    return [text, *(part for part in parts if len(plain_words(part)) > 1)] if len(parts) > 1 else [text]


@lru_cache(maxsize=65_536)
def _terms(piece: str) -> tuple[str, ...]:
    """What a piece of text, mostly one word with its punctuation, is compared as."""
    return tuple(map(stem, plain_words(piece)))


def stem(word: str) -> str:
    """A word without the commonest English endings, so that *invoices*, *invoiced* and *invoicing* are one.

    Crude on purpose: both sides lose the same letters, and no exception list has to be kept.
    """
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= (3 if ending in ("ing", "ed") else 4):
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    if len(word) > 4 and word[-1] in "ey":
        word = word[:-1]
    return word
