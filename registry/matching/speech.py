"""Which part of a need can be compared with what capabilities say of themselves: by its script, and by its language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from registry.matching.languages import languages
from registry.matching.scripts import has_words, scripts


class Speech:
    """The scripts and languages of what is known."""

    def __init__(self) -> None:
        self._known = 0
        self._scripts = Counter[str]()
        """How many have words of a script."""
        self._spoken: dict[int, tuple[str, ...]] = {}
        """The languages that those are described in of which it can be told, by number."""
        self._languages = Counter[str]()
        """How many are described in a language."""

    def add(self, number: int, words: Iterable[str], description: str) -> None:
        """Know something by its number: the words it has, and the text whose language counts."""
        self._known += 1
        self._scripts.update(scripts("".join(words)).keys())
        if spoken := languages(description):
            self._spoken[number] = spoken
            self._languages.update(spoken)

    def remove(self, number: int, words: Iterable[str]) -> None:
        """Forget something that is known, with the same words."""
        self._known -= 1
        self._scripts.subtract(scripts("".join(words)).keys())
        self._languages.subtract(self._spoken.pop(number, ()))

    def compared(self, text: str) -> float:
        """See :attr:`~registry.matching.interface.Findings.compared`."""
        letters = scripts(text)
        if not letters or not self._known:
            return 1.0
        same = sum(number * self._scripts[script] for script, number in letters.items() if has_words(script))
        written = same / (letters.total() * self._known)
        spoken = languages(text)
        if not spoken or not self._spoken:
            return written
        return min(written, max(self._languages[each] for each in spoken) / len(self._spoken))
