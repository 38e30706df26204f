"""Why an activation was picked, or was not: from the log of its run, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blackboard import events
from blackboard.activation import Activation
from blackboard.events import Event

SHOWN = 3
"""Decisions an explanation tells of at either end of a long wait."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of an activation, fact by fact."""

    activation: Activation
    steps: tuple[tuple[str, str], ...]
    """Position in the log, and what happened there, in words."""
    outcome: str | None = None
    """Status its task ended with."""

    def __str__(self) -> str:
        return "\n".join(f"{at}  {words}" for at, words in self.steps)


def explained(one: Activation, log: Iterable[Event]) -> Explanation:
    """The steps of an activation in the log of its run."""
    steps: list[tuple[str, str]] = []
    outcome: str | None = None
    passed: list[tuple[str, str]] = []

    def passed_over() -> None:
        if len(passed) > 2 * SHOWN:
            more = f"… passed over {len(passed) - 2 * SHOWN} times more"
            passed[SHOWN:-SHOWN] = [(passed[SHOWN][0], more)]
        steps.extend(passed)
        passed.clear()

    for event in log:
        at = event.sequence
        if isinstance(event, events.AgendaActivated):
            steps += (
                [(at, _made(one, event.data))] if any(n.number == one.number for n in event.data.activations) else []
            )
        elif isinstance(event, events.AgendaDecided):
            for words, lasting in _decided(one.number, event.data):
                if lasting:
                    passed_over()
                    steps.append((at, words))
                else:
                    passed.append((at, words))
        elif isinstance(event, events.AgendaChanged) and event.data.number == one.number:
            passed_over()
            steps.append((at, _changed(event.data)))
        elif isinstance(event, events.TaskCompleted) and one.task is not None and event.subject == one.task:
            passed_over()
            outcome = event.data.status.value
            error = f": {event.data.error.message}" if event.data.error else ""
            steps.append((at, f"its task ended as {outcome}{error}"))
    passed_over()
    return Explanation(one, tuple(steps), outcome)


def _made(one: Activation, data: events.AgendaActivatedData) -> str:
    led = f", which activation {data.parent} led to" if data.parent is not None else ""
    made = (
        f"version {data.entry_version} of {data.entry} on {data.topic} (confidence {data.confidence:g}){led} fits trigger "
        f"{one.trigger} of {one.capability}: priority {one.priority:g}, cost {one.cost:g}, depth {data.depth}"
    )
    mine = next(n for n in data.activations if n.number == one.number)
    return f"{made}; stopped, {mine.why}" if mine.state == "stopped" else made


def _decided(number: int, data: events.AgendaDecidedData) -> Iterable[tuple[str, bool]]:
    by = f"{data.strategy} ({data.strategy_version})" + (f", since {data.fallback}" if data.fallback else "")
    for one in data.rated:
        if one.number == number:
            known = "" if one.success is None else f", its capability succeeding in {one.success:.0%}"
            meant = (
                "" if one.meaning is None else f", what it says answering by {one.meaning:.2f} to what was waited for"
            )
            yield f"rated {one.rating:g} by {by}{known}{meant}", True
    for one in data.aside:
        if one.number == number:
            yield f"{one.state}: {one.why}", True
    for one in data.picked:
        if one.number == number:
            against = [f"{other.number} ({other.rating:g})" for other in data.candidates if other.number != number]
            beside = f" before {', '.join(against[:5])}" if against else ", alone"
            yield f"picked as {one.task}: {one.why}; of {data.waiting} that waited{beside}", True
            return
    for place, one in enumerate(data.candidates, 1):
        if one.number == number and data.picked:
            first = ", ".join(f"{other.number} ({other.rating:g})" for other in data.picked)
            yield f"passed over at rating {one.rating:g}, place {place} of {data.waiting}: picked were {first}", False


def _changed(data: events.AgendaChangedData) -> str:
    what = {
        "promote": "promoted before everything that waits", "block": "blocked", "unblock": "unblocked",
        "rerate": f"given the rating {data.rating or 0:g}",
    }[data.change]  # fmt: skip
    return f"{what} by {data.by}" + (f": {data.reason}" if data.reason else "")
