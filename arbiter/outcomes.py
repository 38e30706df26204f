"""What a run that succeeded says about the matcher: which needs were served by which capability, and what had been thought.

A need is what the matcher was asked: the request, a search of the model, or the need of a capability it had made. What
finally served it is read from the run's log, and only where it is plain:

* the request: the capabilities whose tasks succeeded. Only when it was a single one is the request a need *it* served.
* a search: those it found whose tasks succeeded in the latest round that any did. When none did, the one capability that
  was requested before the next search, if its tasks succeeded.
* a request for a capability: that capability, if its tasks succeeded.

Nothing is concluded from a run that did not succeed, nor from one that only took over what another did, nor from what sources
that are not trusted led to: a page that was fetched may make a model search in its words and choose as it likes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from arbiter.fold import Round, RunState, Task
from arbiter.tools import REQUEST, SEARCH
from blackboard.taint import TaintPolicy
from blackboard.types import Status
from registry.matching import MatchDecision, Signals


class Outcome(NamedTuple):
    """A need of a run, and what served it."""

    need: str
    served: tuple[str, ...]
    """Names of the capabilities."""
    decision: MatchDecision | None = None
    """What the matcher had made of it; None for the need of a capability that was made."""

    @property
    def right(self) -> bool | None:
        """Whether the matcher's best candidate was among what served it; None where there was no candidate."""
        best = self.decision.candidates[0].name if self.decision and self.decision.candidates else None
        return None if best is None else best in self.served

    @property
    def signals(self) -> Signals | None:
        """What the ranking looked like; None where none is recorded, or one of another version of this program."""
        given = self.decision.signals if self.decision else ()
        return Signals(*given) if len(given) == len(Signals()) else None


class _Asked(NamedTuple):
    """A search of the model, or its request for a capability."""

    round: int
    need: str
    names: tuple[str, ...]
    """What was found, or what was to be made."""
    made: bool
    decision: MatchDecision | None = None


def outcomes(state: RunState, policy: TaintPolicy) -> list[Outcome]:
    """What a run says that succeeded; the caller knows that it did.

    Args:
        state: up to its end, or to the decision that ended it.
        policy: which sources are trusted.
    """
    if state.call is not None or policy.untrusted(state.request_taint):
        return []
    worked = [task for task in state.work if task.kind == "capability" and _succeeded(task)]
    if all(task.completion and task.completion.taken_over_from for task in worked):
        return []
    tasks = [task for task in worked if not policy.untrusted(task.posted_taint)]
    found: list[Outcome] = []
    asked: list[_Asked] = []
    for turn in state.rounds:
        matches = [MatchDecision.model_validate(each) for each in turn.matches]
        if turn is state.rounds[0] and matches:
            of_request = matches.pop(0)
            if tasks and len(tasks) == len(worked):
                found.append(Outcome(_request(state), _named(tasks), of_request))
        if not policy.untrusted(turn.taint):
            asked += _asked(turn, matches)
    for at, one in enumerate(asked):
        served = _latest(tasks, one.names, one.round)
        if not served and not one.made:
            made = [each.names for each in itertools.takewhile(lambda each: each.made, asked[at + 1 :])]
            served = _latest(tasks, made[0], one.round) if len(made) == 1 else ()
        if served:
            found.append(Outcome(one.need, served, one.decision))
    return found


def lessons(found: Iterable[Outcome]) -> list[tuple[str, str]]:
    """Of each need that one capability served alone: its name and the need."""
    return [(each.served[0], each.need) for each in found if each.need and len(each.served) == 1]


def cases(found: Iterable[Outcome]) -> list[tuple[Signals, bool]]:
    """What to fit a calibration on: what a ranking looked like, and whether its best was right."""
    return [(each.signals, each.right) for each in found if each.signals is not None and each.right is not None]


def _asked(turn: Round, matches: Sequence[MatchDecision]) -> Iterator[_Asked]:
    """What a round searched for, and what it asked to have made."""
    decisions = iter(matches)
    inputs = turn.inputs
    for call in turn.calls:
        given = inputs.get(call.tool_use_id, {})
        if not call.valid:
            continue
        if call.name == SEARCH:
            answer = cast("dict[str, list[dict[str, str]]]", call.answer if isinstance(call.answer, dict) else {})
            names = tuple(each["name"] for each in answer.get("found", ()))
            yield _Asked(turn.number, str(given.get("query", "")), names, made=False, decision=next(decisions, None))
        elif call.name == REQUEST:
            yield _Asked(turn.number, str(given.get("need", "")), (str(given.get("name", "")),), made=True)


def _latest(tasks: Iterable[Task], names: Sequence[str], number: int) -> tuple[str, ...]:
    """Those of the names that worked in the latest round that any of them did, after a round."""
    later = [task for task in tasks if task.capability in names and task.round > number]
    last = max((task.round for task in later), default=0)
    return _named(task for task in later if task.round == last)


def _named(tasks: Iterable[Task]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(task.capability for task in tasks))


def _request(state: RunState) -> str:
    """The request as a need: only a text, not data."""
    return state.request if isinstance(state.request, str) else ""


def _succeeded(task: Task) -> bool:
    return task.completion is not None and task.completion.status is Status.SUCCEEDED
