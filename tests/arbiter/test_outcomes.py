"""What a run's log says of its needs: which of them one capability served, and where that is not plain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from arbiter.fold import Round, RunState, Task
from arbiter.outcomes import cases, lessons, outcomes
from arbiter.tools import REQUEST, SEARCH
from blackboard.events import Call
from blackboard.taint import TaintPolicy
from blackboard.types import Completion, Status, Usage
from registry.matching import MatchCandidate, MatchDecision, Prices

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PERSON = ("person",)
MAIL = ("mail:inbox",)


def decided(need: str, *best: str, signals: tuple[float, ...] = (0.5,) * 6) -> MatchDecision:
    return MatchDecision(
        need=need, outcome="ask", probability=0.5, costs={"use": 1.0}, prices=Prices(), signals=signals,
        candidates=tuple(MatchCandidate(name=name, score=0.5) for name in best),
    )  # fmt: skip


def search(query: str, *found: str) -> tuple[str, dict[str, Any], JsonValue]:
    return SEARCH, {"query": query}, {"found": [{"name": name} for name in found]}


def request(name: str) -> tuple[str, dict[str, Any], JsonValue]:
    return REQUEST, {"name": name, "need": f"the need of {name}"}, None


class Told:
    """The state of a run, told round by round."""

    def __init__(self, asked: JsonValue = "Do it.", taint: tuple[str, ...] = PERSON) -> None:
        self.state = RunState("r1", request=asked, request_taint=taint, status="succeeded")

    def round(
        self,
        *calls: tuple[str, dict[str, Any], JsonValue],
        worked: tuple[str, ...] = (),
        failed: tuple[str, ...] = (),
        taint: tuple[str, ...] = PERSON,
        invalid: tuple[int, ...] = (),
    ) -> Told:
        number = len(self.state.rounds) + 1
        uses = [{"toolUse": {"toolUseId": str(at), "input": given}} for at, (_, given, _) in enumerate(calls)]
        made = tuple(
            Call(tool_use_id=str(at), name=name, answer=answer, valid=at not in invalid)
            for at, (name, _, answer) in enumerate(calls)
        )
        matches = [decided(str(self.state.request), "first")] if number == 1 else []
        matches += [
            decided(given["query"], *(each["name"] for each in answer["found"]))  # type: ignore[index, call-overload, union-attr]
            for at, (name, given, answer) in enumerate(calls)
            if name == SEARCH and at not in invalid
        ]
        told = tuple(each.model_dump(mode="json") for each in matches)
        self.state.rounds.append(
            Round(number, NOW, {"content": uses}, made, Usage(), "m", taint=taint, matches=told)  # type: ignore[dict-item]
        )
        for name in (*worked, *failed):
            key = f"{name}.{number}"
            self.state.tasks[key] = Task(
                key, key, "capability", name, key, number, NOW, "succeeded", posted_taint=taint,
                completion=Completion(
                    orchestration_id="r1", tool_use_id=key, node=name,
                    status=Status.SUCCEEDED if name in worked else Status.FAILED,
                ),
            )  # fmt: skip
        return self

    @property
    def served(self) -> dict[str, tuple[str, ...]]:
        return {each.need: each.served for each in outcomes(self.state, TaintPolicy())}

    @property
    def taught(self) -> list[tuple[str, str]]:
        return lessons(outcomes(self.state, TaintPolicy()))


def test_a_search_is_served_by_what_it_found_that_worked_in_the_latest_round_any_of_it_did() -> None:
    told = Told().round(search("sums", "add", "count"), worked=("add",)).round(worked=("add",)).round(worked=("count",))
    assert told.served == {"Do it.": ("add", "count"), "sums": ("count",)}
    assert told.taught == [("count", "sums")]
    both = Told().round(search("sums", "add", "count")).round(worked=("add", "count"))
    assert both.served["sums"] == ("add", "count")
    assert both.taught == [], "with two in one round nothing is learnt"


def test_what_worked_before_a_search_or_failed_after_it_does_not_serve_it() -> None:
    told = Told().round(worked=("add",)).round(search("sums", "add", "count"), worked=("add",)).round(failed=("count",))
    assert "sums" not in told.served
    told.state.tasks["add.3"] = Task("add.3", "add.3", "capability", "add", "add.3", 3, NOW, "running")
    assert "sums" not in told.served, "what never ended serves nothing"
    assert told.taught == [("add", "Do it.")]


def test_a_search_is_served_by_the_one_capability_that_was_made_because_of_it() -> None:
    told = Told().round(search("sums", "add"), request("tally")).round(worked=("tally",))
    assert told.served == {"Do it.": ("tally",), "sums": ("tally",), "the need of tally": ("tally",)}
    later = Told().round(search("sums", "add")).round(request("tally")).round(worked=("tally",))
    assert later.served == told.served


@pytest.mark.parametrize(
    ("calls", "served"),
    [
        ((search("sums", "add"), request("tally"), request("count")), ()),
        ((search("sums", "add"), search("totals", "add"), request("tally")), ("totals",)),
        ((request("tally"), search("sums", "add")), ()),
        ((search("sums", "tally"), request("count")), ("sums",)),
    ],
    ids=["two were made", "another search came between", "it was made before", "what it found worked"],
)
def test_a_search_is_not_served_by_what_was_made_for_another_reason(
    calls: tuple[Any, ...], served: tuple[str, ...]
) -> None:
    told = Told().round(*calls).round(worked=("tally",))
    assert {need for need in told.served if need in ("sums", "totals")} == set(served)


def test_a_call_that_was_invalid_asked_nothing_and_leaves_the_others_their_decisions() -> None:
    told = (
        Told().round(search("", "add"), search("sums", "add"), request("tally"), invalid=(0, 2)).round(worked=("add",))
    )
    _, found = outcomes(told.state, TaintPolicy())
    assert (found.need, found.served, found.right) == ("sums", ("add",), True)
    assert found.decision is not None
    assert found.decision.need == "sums"


@pytest.mark.parametrize(
    ("told", "needs"),
    [
        (Told(taint=MAIL).round(search("sums", "add")).round(worked=("add",)), set[str]()),
        (Told().round(search("sums", "add"), taint=MAIL).round(worked=("add",)), {"Do it."}),
        (Told().round(search("sums", "add")).round(worked=("add",), taint=MAIL), set[str]()),
        (Told().round(search("sums", "add")).round(worked=("add",), taint=MAIL).round(worked=("count",)), set[str]()),
    ],
    ids=["the request", "the search", "the choice", "one choice of two"],
)
def test_what_others_led_to_says_nothing(told: Told, needs: set[str]) -> None:
    assert set(told.served) == needs


def test_a_run_whose_request_was_not_searched_for_says_nothing_of_it() -> None:
    told = Told().round(worked=("add",))
    told.state.rounds[0].matches = ()
    assert told.served == {}


def test_data_is_no_need_and_is_a_case_all_the_same() -> None:
    told = Told({"rows": [1, 2]}).round(worked=("first",))
    (found,) = outcomes(told.state, TaintPolicy())
    assert (found.need, found.served, found.right) == ("", ("first",), True)
    assert told.taught == []
    assert len(cases([found])) == 1


def test_a_case_needs_a_candidate_and_signals_that_this_version_knows() -> None:
    told = Told().round(search("sums", "add")).round(worked=("add",))
    request_, found = outcomes(told.state, TaintPolicy())
    assert [right for _, right in cases([request_, found])] == [False, True]
    assert cases([found._replace(decision=decided("sums", signals=(0.5,) * 6))]) == []
    assert cases([found._replace(decision=decided("sums", "add", signals=(0.5,) * 5))]) == []
    unmatched = found._replace(decision=None)
    assert (unmatched.right, cases([unmatched])) == (None, [])
