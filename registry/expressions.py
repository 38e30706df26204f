"""Regular expressions that take time in proportion to the text, whatever expression and text are.

They run on RE2, which has no looking ahead or behind and no references to groups: nobody knows how to do those without
trying again. What JSON Schema borrows from ECMA-262 and RE2 spells otherwise is translated.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

MOST_CHARACTERS = 4_000
MOST_SIZE = 10_000
"""Instructions of an expression."""
_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
REMEDY = (
    "Expressions are matched in linear time: write it without looking ahead or behind, without references to groups, "
    "and with at most 1,000 repetitions; minLength and maxLength say how long a text is."
)


class Expression(NamedTuple):
    """A compiled expression."""

    program: Any
    size: int
    """Instructions: matching costs at most this times the characters of the text."""

    def finds(self, text: str) -> bool:
        """Whether it matches anywhere in a text."""
        try:
            return self.program.search(text) is not None
        except UnicodeEncodeError:  # half of a surrogate pair, which is no character
            return self.program.search(text.encode("utf-8", "replace").decode()) is not None


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Expression:
    """The expression of a text.

    Raises:
        ValueError: it is none, or cannot be matched in linear time.
    """
    import re2  # type: ignore[import-untyped]

    engine: Any = re2
    if len(pattern) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS:,} characters")
    options = engine.Options()
    options.log_errors = False
    try:
        program = engine.compile(_ESCAPED.sub(_translated, pattern), options)
    except engine.error as error:
        (said,) = error.args
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    size = int(program.programsize)
    if size > MOST_SIZE:
        raise ValueError(f"it is larger than {MOST_SIZE:,} instructions")
    return Expression(program, size)


def _translated(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 5 and code[0] == "u":
        return rf"\x{{{code[1:]}}}"
    return r"\z" if code == "Z" else found[0]
