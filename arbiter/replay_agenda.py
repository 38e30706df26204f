"""Whether a log's picks are those its strategies make of it: each decision about an agenda made again, from the log alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from arbiter.rating import candidate
from blackboard import events, strategies
from blackboard.activation import AgendaFold
from blackboard.events import Event

Decision = tuple[tuple[tuple[int, float], ...], tuple[int, ...]]
"""Number and rating of what was rated, and numbers of what was picked, in their order."""


def replayed(log: Iterable[Event]) -> Iterator[tuple[Decision, Decision]]:
    """Each decision of a log as it was made, and as its strategy makes it again.

    A strategy of a program's own is taken at its word, since it is not there; what was picked is decided again all the same.
    """
    fold = AgendaFold("")
    for event in log:
        if isinstance(event, events.AgendaDecided):
            yield _made(event.data), _again(fold, event.data)
        fold.apply([event])


def _made(data: events.AgendaDecidedData) -> Decision:
    return tuple((one.number, one.rating) for one in data.rated), tuple(one.number for one in data.picked)


def _again(fold: AgendaFold, data: events.AgendaDecidedData) -> Decision:
    rated = {one.number: one.rating for one in data.rated}
    if (rate := strategies.STRATEGIES.get(data.strategy)) is not None:
        for one in data.rated:
            known = fold.activations[one.number]
            weight = data.weights.get(known.capability, 1.0)
            rated[one.number] = strategies.weighted(rate(candidate(known, one.success or 0.0)), weight)
    aside = {one.number for one in data.aside}
    standing: list[tuple[float, int]] = []
    for number, one in fold.activations.items():
        if number in aside or (one.state != "waiting" and not (one.state == "parked" and number in rated)):
            continue
        if one.pin is None and one.rating is None and number not in rated:
            continue
        place = one.pin if one.pin is not None else -rated.get(number, one.rating or 0.0)
        standing.append((place, number))
    asked = {one.number for one in data.picked if one.bids}  # there is other room for these, however they are rated
    ordinary = [one for one in sorted(standing) if one[1] not in asked][: len(data.picked) - len(asked)]
    picked = sorted([*ordinary, *(one for one in standing if one[1] in asked)])
    return tuple(rated.items()), tuple(number for _, number in picked)
