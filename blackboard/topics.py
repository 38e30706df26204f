"""Topics of entries and patterns of topics: ``claims.invoice.4711``, ``claims.*.4711``, ``claims.>``.

A topic is a path of words with dots between them. In a pattern ``*`` stands for one word and ``>``, at the end, for one or
more. Source of the notation: NATS subjects.
"""

from __future__ import annotations

import re

from blackboard.errors import BadInput

WORDS = 16
"""Most words of a topic."""
CHARACTERS = 256
"""Longest topic."""
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_REMEDY = (
    f"Write 1 to {WORDS} words with dots between them, at most {CHARACTERS} characters; a word has letters, digits, "
    "'_' and '-'."
)


def check_topic(topic: object, field: str = "topic") -> str:
    """The topic, if it is one.

    Raises:
        BadInput: it is none.
    """
    if not isinstance(topic, str) or not _fits(topic, ()):
        raise BadInput(field, topic, f"{_REMEDY} '*' and '>' stand in patterns only.")
    return topic


def check_pattern(pattern: object, field: str = "pattern") -> str:
    """The pattern, if it is one; a topic is one as well.

    Raises:
        BadInput: it is none.
    """
    if isinstance(pattern, str):
        start = pattern[:-2] if pattern.endswith(".>") else pattern
        if pattern == ">" or _fits(start, ("*",)):
            return pattern
    raise BadInput(field, pattern, f"{_REMEDY} In a pattern '*' stands for one word, '>' at its end for one or more.")


def _fits(text: str, wild: tuple[str, ...]) -> bool:
    words = text.split(".")
    return (
        len(text) <= CHARACTERS and len(words) <= WORDS and all(word in wild or bool(_WORD.match(word)) for word in words)
    )  # fmt: skip


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is meant by a pattern."""
    return covers(pattern, topic)


def covers(wide: str, narrow: str) -> bool:
    """Whether a pattern means every topic that another pattern (or a topic) means."""
    wider, narrower = wide.split("."), narrow.split(".")
    for number, word in enumerate(wider):
        if word == ">":
            return number < len(narrower)
        if number >= len(narrower) or narrower[number] == ">":
            return False
        if word not in ("*", narrower[number]):
            return False
    return len(wider) == len(narrower)


def span(pattern: str) -> tuple[str, str]:
    """Between which members of the index every topic of a pattern stands, as bounds of a lexical range."""
    start: list[str] = []
    for word in pattern.split("."):
        if word in ("*", ">"):
            prefix = "".join(f"{one}." for one in start)
            return (f"[{prefix}", f"({prefix[:-1]}/") if prefix else ("-", "+")
        start.append(word)
    return f"[{pattern}\0", f"({pattern}\1"


def behind(pattern: str) -> tuple[str, str]:
    """How every topic of a pattern begins up to the word of its first ``*``, and what stands in the index behind that word up
    to the next ``*`` or ``>``; two empty texts where there is no ``*``, or nothing to look for behind it."""
    words = pattern.split(".")
    if "*" not in words:
        return "", ""
    star = words.index("*")
    rest = words[star + 1 :]
    ends = next((at for at, word in enumerate(rest) if word in ("*", ">")), len(rest))
    if not ends:
        return "", ""
    return "".join(f"{one}." for one in words[:star]), ".".join(rest[:ends]) + ("\0" if ends == len(rest) else ".")
