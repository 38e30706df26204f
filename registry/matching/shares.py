"""How much of what a capability says a need asks for, which tells one that fits from one that only shares words with it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence


def share_answered(
    text: array[int],
    impacts: array[int],
    terms: Sequence[str],
    weight: Callable[[str], float],
    meant: Mapping[int, tuple[int, float]],
) -> float:
    """The share of what a capability's own words weigh that stands for words of a need, from 0 to 1.

    What it served, its last text, is not its own: the more that is, the less of it a need asks for.

    Args:
        text: the words of a capability as numbers from 1, 0 before each of its texts.
        impacts: of each of its words the number, times 256, and what it counts for, in 255ths.
        terms: the words by number.
        weight: what a word weighs.
        meant: of the words that a need looks for, by number, the word of the need and what a 255th of it weighs.
    """
    everything = answered = 0.0
    own = set(text[: len(text) - text[::-1].index(0)]) if text[-1] else None
    for packed in impacts:
        number, impact = packed >> 8, packed & 255
        if own is not None and number not in own:
            continue
        value = weight(terms[number]) * impact / 255
        everything += value
        if number in meant:
            answered += min(value, meant[number][1] * impact)
    return answered / (everything or 1.0)
