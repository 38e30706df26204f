"""The matcher that needs nothing but the standard library: words, their forms, spellings and relatives, and what they mean.

A capability is a handful of texts (:class:`~registry.matching.documents.Document`). What a word of them counts for is
settled when the capability is added, from these texts alone, so adding or removing one touches nothing else, and no
history leaves a trace. What the word weighs follows from how many capabilities have it, at the moment of the search.

A need's word that no capability spells the same way still finds those that spell it nearly so, and a word finds the ones
related to it (:mod:`registry.matching.related`), each for less. Which of the best stands first depends on three things more:
words that stand next to each other, what all the words mean together (:mod:`registry.matching.meaning`), and whether what is to
be done is what it does (:mod:`registry.matching.verbs`).

Source: Turtle and Flood, "Query Evaluation: Strategies and Optimizations" (1995), for leaving out what cannot
reach the best any more.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from registry.matching import meaning, verbs
from registry.matching.counting import PAIRS, count, mark, neighbours, pair, pairs
from registry.matching.covering import covering
from registry.matching.documents import Document
from registry.matching.interface import Candidate, Findings, Signals, standing
from registry.matching.meaning import Direction, Meanings, alike
from registry.matching.postings import Places, Posting, add, total
from registry.matching.related import Related, shipped
from registry.matching.shares import share_answered
from registry.matching.speech import Speech
from registry.matching.spelling import Spelling
from registry.matching.words import plain_words, stem, terms, views

_PAIR = 0.4
"""What two neighbouring words of the need count that are neighbours in a capability as well, against one word so rare."""
_RELATED = 0.5
_NEAR = 0.6
"""What a related word, and one that is spelled nearly the same, counts at most, against the need's own."""
_DATA = 0.3
"""What a word with digits in it counts: it is mostly a number, a date or an identifier."""
_ELSEWHERE = 100
"""Capabilities assumed to exist that have none of a need's words. In a registry of three, a word that all three have
still says something; without this it would count for nothing."""
_READ = 20_000
"""Characters of a need that are read, and how many of its words count, the rarest first."""
_ASKED = 64
_MEANT = 12
"""How many of a need's words a score is held against. A need of a thousand words, say with a table in it, does not mean
a thousand things, and no capability could cover them."""
_READ_AT_MOST = 1_500
"""Occurrences of words that are read one after the other, those first that can add the most. Where there are more, the
best so far are then gone through in full, so many of them. A registry has to be large for a search to come to this."""
_FURTHER = 80
_ORDERED = 30
"""Of how many of the best the order of the words and their meaning are looked at."""
_MEANING = 0.1
"""What a capability that means the same as the need gains, against all of the need's words."""
_SERVED = 0.85
"""How much as near the needs it served must be as what a capability says of itself, to count the same."""
_OTHERWISE = 0.8
"""What a capability keeps of its score that does another kind of thing than any that the need speaks of."""
_SAID = 0.3
"""From where on a meaning is given as a reason."""


_Entry = tuple[float, str, int, Places, float]
"""Places to read on behalf of a word of the need: what they can add to a score, less than 0 so that the most is first, the
word they are of, the number of the need's word, the places, and what a 255th weighs."""


class _Asked(NamedTuple):
    """A need, taken apart."""

    words: dict[str, str]
    """Stems to the words as they were written."""
    weights: dict[str, float]
    entries: list[_Entry]
    meant: dict[int, tuple[int, float]]
    """Numbers of the words looked for to the word of the need and what they weigh."""
    pairs: dict[tuple[int, int], float]
    against: float
    meanings: Sequence[Direction]
    """Of the need and of each of its sentences."""
    meant_alike: dict[int, float]
    """How nearly capabilities mean the same, as far as that was looked at."""
    kinds: frozenset[str]
    """What is to be done; nothing where that does not count."""


class LexicalMatcher:
    """See this module. A :class:`~registry.matching.interface.Matcher`.

    A score is ``s / (s + w)``, where ``s`` is what the capability's words add up to and ``w`` the weight of the need's
    heaviest words, so one floor serves every need and every size of registry: words nobody knows weigh most, and a need
    made of them scores near 0 everywhere.

    Args:
        related: the table of related words. Default: the one that is shipped.
        meanings: the table of what words mean. Default: the one that is shipped.
        read_at_most: occurrences of words that a search reads one after the other before it goes through the best so far;
            a number larger than there are makes every search exact, whatever it costs.
        capabilities: whether that is what is ranked. It counts then what kind of thing is to be done, and what those before do
            not answer of the need.
    """

    def __init__(
        self,
        related: Related | None = None,
        meanings: Meanings | None = None,
        read_at_most: int = _READ_AT_MOST,
        capabilities: bool = True,
    ) -> None:
        self._related, self._meanings = related, meanings
        self._read_at_most, self.capabilities = read_at_most, capabilities
        self._postings: dict[str, Posting] = {}
        self._terms: list[str] = [""]
        self._marks = array("I", [0])
        self._spare: list[int] = []
        self._spelling = Spelling(lambda word: bool((self._related or shipped()).of(word)))
        self._speech = Speech()
        self._slots: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._texts: dict[int, array[int]] = {}
        self._impacts: dict[int, array[int]] = {}
        self._paired = array("I", bytes(4 * PAIRS))
        self._does: dict[int, frozenset[str]] = {}
        """What kinds of things capabilities do, where they say so."""
        self._next = 0
        self._latest: tuple[str, _Asked] | None = None
        """The need that was searched for last, as long as nothing changes."""

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, name: str, document: Document) -> None:
        """Know this capability; replaces what was known under the name."""
        if name in self._slots:
            self.remove(name)
        self._latest = None
        slot, self._next = self._next, self._next + 1
        impacts, sequence = count(document)
        numbers = {"": 0}
        packed: list[int] = []
        postings = self._postings
        for word, impact in impacts.items():
            posting = postings[word] if word in postings else self._know(word)
            posting.add(slot, impact)
            numbers[word] = posting.number
            packed.append(posting.number << 8 | impact)
        self._speech.add(slot, impacts, document.description if self.capabilities else "")
        self._slots[name], self._names[slot], self._impacts[slot] = slot, name, array("I", packed)
        text = self._texts[slot] = array("I", map(numbers.__getitem__, sequence))
        for number in self._pairs(text):
            self._paired[number] += 1
        if self.capabilities and (kinds := verbs.does(document)):
            self._does[slot] = kinds

    def remove(self, name: str) -> None:
        """Forget a capability; nothing happens when it is not known."""
        slot = self._slots.pop(name, None)
        if slot is None:
            return
        self._latest = None
        del self._names[slot]
        self._does.pop(slot, None)
        for number in self._pairs(self._texts.pop(slot)):
            self._paired[number] -= 1
        impacts = self._impacts.pop(slot)
        self._speech.remove(slot, (self._terms[packed >> 8] for packed in impacts))
        for packed in impacts:
            word = self._terms[packed >> 8]
            posting = self._postings[word]
            posting.remove(slot, packed & 255)
            if not posting.size:
                del self._postings[word]
                self._spare.append(posting.number)
                self._spelling.remove(word)

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        """The best at most ``k`` allowed capabilities that have anything to do with the need."""
        found = self.explained(query, self.best(query, max(k, 10) if k > 0 else 0, allowed))
        best = covering(found.candidates) if self.capabilities else found.candidates
        return Findings(best[: max(k, 0)], found.signals, self.compared(query))

    def best(self, query: str, k: int, allowed: Callable[[str], bool] | None = None) -> list[Candidate]:
        """The candidates of :meth:`search`, without their reasons."""
        asked = self._asked(query)
        if k <= 0 or not asked.entries:
            return []
        ranked = self._ordered(asked, self._scores(asked, max(k, _ORDERED), allowed))
        return [Candidate(self._names[slot], score / (score + asked.against)) for score, slot in ranked[:k]]

    def explained(self, query: str, best: Sequence[Candidate]) -> Findings:
        """Known capabilities that somebody ranked, best first, with their scores here: why, and how sure it looks."""
        if not best:
            return Findings((), Signals())
        asked = self._asked(query)
        told: list[Candidate] = []
        for each in best:
            slot = self._slots[each.name]
            answers = self._found(asked, slot)
            much = {group: value for group, (value, _) in answers.items()}
            told.append(Candidate(each.name, each.score, self._reasons(asked, slot, answers), much))
        return Findings(told, self._signals(asked, best))

    def otherwise(self, query: str, name: str) -> bool:
        """Whether a known capability does another kind of thing than any that the need speaks of."""
        return self._otherwise(self._asked(query), self._slots[name])

    def compared(self, query: str) -> float:
        """See :attr:`~registry.matching.interface.Findings.compared`."""
        return self._speech.compared(query[:_READ])

    # ---- the need ---------------------------------------------------------------------------------------------------

    def _asked(self, query: str) -> _Asked:
        if self._latest is None or self._latest[0] != query:
            self._latest = query, self._taken_apart(query)
        return self._latest[1]

    def _taken_apart(self, query: str) -> _Asked:
        plain = plain_words(query[:_READ])
        stems = [stem(word) for word in plain]
        words = dict(zip(reversed(stems), reversed(plain), strict=True))
        order = list(dict.fromkeys(stems))
        weights = {word: self._weight(word) * (1.0 if word.isalpha() else _DATA) for word in order}
        asked = [word for word in order if word in self._postings or word.isalpha()]
        against = sum(nlargest(_MEANT, (weights[word] for word in asked)))
        asked.sort(key=lambda word: (not word.isalpha(), word not in self._postings, -weights[word], word))
        chosen = asked[:_ASKED]
        entries: list[_Entry] = []
        meant: dict[int, tuple[int, float]] = {}
        for group, word in enumerate(chosen):
            for other, posting, weight in self._looked_for(word, weights):
                if weight > meant.get(posting.number, (0, 0.0))[1]:
                    meant[posting.number] = (group, weight)
                for places in (posting.strong, posting.weak):
                    if places is not None:
                        entries.append((-weight * places.peak, other, group, places, weight))
        entries.sort(key=itemgetter(0, 1, 2))
        beside: dict[tuple[int, int], float] = {}
        for first, second in dict.fromkeys(pairwise(stems[: 4 * _ASKED])):
            if first in self._postings and second in self._postings:
                both = self._postings[first].number, self._postings[second].number
                seen = self._paired[pair(self._marks[both[0]], self._marks[both[1]])]
                beside[both] = _PAIR * self._rarity(seen)
        table = self._meanings or meaning.shipped()
        directions = [table.of(terms(view)) for view in views(query[:_READ])]
        meanings = [direction for direction in directions if direction is not None]
        kinds = verbs.asked(query[:_READ]) if self.capabilities else frozenset[str]()
        return _Asked(
            words, {word: weights[word] for word in chosen}, entries, meant, beside, against, meanings, {}, kinds
        )

    def _looked_for(self, word: str, weights: dict[str, float]) -> Iterable[tuple[str, Posting, float]]:
        """The word itself, those spelled nearly like it and those related to it, with what each 255th counts."""
        weight, postings = weights[word], self._postings
        others: dict[str, float] = {}
        for other, close in (self._related or shipped()).of(word):
            others[other] = _RELATED * close
        for other, close in self._spelling.near(word):
            others[other] = max(others.get(other, 0.0), _NEAR * close)
        if word in postings:
            yield word, postings[word], weight / 255
        for other, share in others.items():
            if other in postings and other not in weights:
                posting = postings[other]
                yield other, posting, share * min(weight, self._rarity(posting.size)) / 255

    def _weight(self, word: str) -> float:
        posting = self._postings.get(word)
        return self._rarity(posting.size if posting is not None else 0)

    def _rarity(self, known: int) -> float:
        return math.log(1 + (len(self._slots) + _ELSEWHERE - known + 0.5) / (known + 0.5))

    # ---- adding up --------------------------------------------------------------------------------------------------

    def _scores(self, asked: _Asked, most: int, allowed: Callable[[str], bool] | None) -> list[tuple[float, int]]:
        """At least the ``most`` best allowed capabilities, as score and slot, unordered; of a word's entries the best counts."""
        best: list[dict[int, float]] = [{} for _ in asked.weights]
        read = 0
        everything = True
        for _, _, group, places, weight in asked.entries:
            size = len(places.slots)
            if read and read + size > self._read_at_most:
                everything = False
                continue
            read += size
            add(best[group], places, weight)
        scores = total(best)
        if not everything:
            cut = self._least(scores, max(most, _FURTHER), allowed)
            scores = {slot: self._whole(asked, slot) for slot, score in scores.items() if score >= cut}
        cut = self._least(scores, most, allowed)
        return [
            (score, slot)
            for slot, score in scores.items()
            if score >= cut and (allowed is None or allowed(self._names[slot]))
        ]

    def _whole(self, asked: _Asked, slot: int) -> float:
        """The score of one capability."""
        best: dict[int, float] = {}
        meant = asked.meant
        for packed in [each for each in self._impacts[slot] if each >> 8 in meant]:
            group, weight = meant[packed >> 8]
            value = weight * (packed & 255)
            if value > best.get(group, 0.0):
                best[group] = value
        return sum(best.values())

    def _least(self, scores: dict[int, float], most: int, allowed: Callable[[str], bool] | None) -> float:
        """The score of the last of the ``most`` best allowed; 0 when there are not so many."""
        if len(scores) < most:
            return 0.0
        if allowed is None:
            return sorted(scores.values())[-most]
        look = 2 * most
        while True:
            found = nlargest(look, scores.items(), key=itemgetter(1))
            passing = [score for slot, score in found if allowed(self._names[slot])]
            if len(passing) >= most:
                return passing[most - 1]
            if look >= len(scores):
                return 0.0
            look *= 4

    def _ordered(self, asked: _Asked, scores: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
        """Best first, equal ones by name, after what is looked at of the best alone."""
        ranked = sorted(scores, key=lambda each: (-each[0], self._names[each[1]]))
        if not ranked:
            return ranked
        last = ranked[min(len(ranked), _ORDERED) - 1][0]
        ranked = [(self._closer(asked, slot, score) if score >= last else score, slot) for score, slot in ranked]
        ranked.sort(key=lambda each: (-each[0], self._names[each[1]]))
        return ranked

    def _closer(self, asked: _Asked, slot: int, score: float) -> float:
        """A score with what neighbouring words and the meaning add to it, less of it where another kind of thing is done."""
        added = neighbours(self._texts[slot], asked.pairs) if asked.pairs else 0.0
        whole = score + added + _MEANING * asked.against * max(0.0, self._meant(asked, slot))
        return whole * _OTHERWISE if self._otherwise(asked, slot) else whole

    def _otherwise(self, asked: _Asked, slot: int) -> bool:
        return bool(asked.kinds) and slot in self._does and asked.kinds.isdisjoint(self._does[slot])

    def _meant(self, asked: _Asked, slot: int) -> float:
        """How nearly a capability, or what it served, means what the need or a sentence of it does, from -1 to 1; 0 when
        nothing is known. What it served is held against the whole need: it was a need itself."""
        if not asked.meanings:
            return 0.0
        if slot not in asked.meant_alike:
            table = self._meanings or meaning.shipped()
            about, served = self._said(slot)
            close: list[float] = []
            if (direction := table.of(about)) is not None:
                close += [alike(each, direction) for each in asked.meanings]
            if served and (direction := table.of(served)) is not None:
                close.append(_SERVED * alike(asked.meanings[0], direction))
            asked.meant_alike[slot] = max(close, default=0.0)
        return asked.meant_alike[slot]

    def _said(self, slot: int) -> tuple[list[str], list[str]]:
        """The words of name, description and names of parameters, and those of the needs it served."""
        text, terms = self._texts[slot], self._terms
        end = 0
        for _ in range(3):
            end = text.index(0, end + 1)
        served = text[text.index(0, end + 1) + 1 :]
        return [terms[number] for number in text[:end] if number], [terms[number] for number in served]

    # ---- what is said about it --------------------------------------------------------------------------------------

    def _found(self, asked: _Asked, slot: int) -> dict[int, tuple[float, str]]:
        """For each word of the need (its group): what it counts for in a capability, and the word there that does."""
        found: dict[int, tuple[float, str]] = {}
        for packed in self._impacts[slot]:
            if (meant := asked.meant.get(packed >> 8)) is not None:
                group, weight = meant
                value = weight * (packed & 255)
                if value > found.get(group, (0.0, ""))[0]:
                    found[group] = (value, self._terms[packed >> 8])
        return found

    def _reasons(self, asked: _Asked, slot: int, answers: dict[int, tuple[float, str]]) -> tuple[str, ...]:
        stems = list(asked.weights)
        said: list[str] = []
        for group, (value, term) in nlargest(4, answers.items(), key=lambda each: each[1]):
            word = asked.words[stems[group]]
            like = "" if term == stems[group] else f" (as {term}…)"
            said.append(f"{word}{like} {value:.1f}")
        if (close := self._meant(asked, slot)) >= _SAID:
            said.append(f"means alike {close:.2f}")
        if self._otherwise(asked, slot):
            said.append(f"does otherwise: {', '.join(sorted(self._does[slot]))}, not {', '.join(sorted(asked.kinds))}")
        return tuple(said)

    def _signals(self, asked: _Asked, best: Sequence[Candidate]) -> Signals:
        top = self._slots[best[0].name]
        answered = share_answered(self._texts[top], self._impacts[top], self._terms, self._weight, asked.meant)
        return Signals(
            score=best[0].score,
            standing=standing([each.score for each in best]),
            answered=answered,
            alike=self._meant(asked, top),
            known=len(self._slots),
        )

    def _pairs(self, text: array[int]) -> set[int]:
        marks = self._marks
        return pairs([marks[number] for number in text])

    def _know(self, word: str) -> Posting:
        if self._spare:
            number = self._spare.pop()
            self._terms[number], self._marks[number] = word, mark(word)
        else:
            number = len(self._terms)
            self._terms.append(word)
            self._marks.append(mark(word))
        posting = self._postings[word] = Posting(number)
        self._spelling.add(word)
        return posting
