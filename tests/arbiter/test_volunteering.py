"""Open requests: announced, bid on, awarded exactly once, answered; and what happens when nobody bids."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from arbiter_support import arbiter

from arbiter import (
    AgendaTerms,
    Arbiter,
    BadInput,
    Grants,
    Inquiry,
    Limits,
    Missing,
    OpenRequest,
    Posting,
    Query,
    RunResult,
    ScriptedModel,
    TopicGrants,
    Trigger,
    capability,
)
from arbiter.volunteering import Candidate, best, bids
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.events import Author, Link, RoundPlanned
from blackboard.invariants import faults
from blackboard.testing import RedisServer
from wrapper import sdk

BIDDER = Grants(topics=TopicGrants(read=("requests.>",), write=("bids.>",)))
ASKED = OpenRequest(question="Who can find the bank details of a supplier?", input={"supplier": "Acme"})
SOON = 0.2
"""Seconds of a request that nobody bids on."""
ACCOUNT = "DE02 1203 0000 0000 2020 51"


def bidder(name: str, confidence: float, **bid: Any) -> Any:
    """A source that bids on what asks for bank details."""

    @capability(
        name=name, effects="writes", grants=BIDDER,
        triggers=[Trigger(topic="requests.*", where="question~bank", bind={"request": "id", "topic": "topic"})],
    )  # fmt: skip
    def make(request: str, topic: str) -> None:
        """Bid."""
        sdk.post(topic.replace("requests", "bids"), bid, confidence=confidence, links=[("answers", request)])

    return make


@capability
def look_up(supplier: str) -> dict[str, str]:
    """Look up a supplier's account."""
    return {"supplier": supplier, "account": ACCOUNT}


@capability
def guess(supplier: str) -> str:
    """Guess a supplier's account."""
    return f"{supplier} has one somewhere"


@capability
def fail(supplier: str) -> str:
    """Fail."""
    raise LookupError(f"no {supplier} here")


async def answered(
    a: Arbiter, request: OpenRequest | dict[str, Any] = ASKED, limits: Limits | None = None
) -> RunResult:
    """The run of an inquiry of one open request."""
    return await a.run(inquiry(request), timeout=40, limits=limits)


def inquiry(request: OpenRequest | dict[str, Any] = ASKED) -> Inquiry:
    content = request.content() if isinstance(request, OpenRequest) else request
    return Inquiry([Posting("requests.bank", content)], AgendaTerms(until=Query(topic="answers.bank")))


async def waits(a: Arbiter, run_id: str) -> None:
    """Until the run waits for bids."""
    async with contextlib.aclosing(a.stream(run_id=run_id)) as events:
        async for event in events:
            if isinstance(event, RoundPlanned) and "waits for bids" in str(event.data.message):
                return
    raise AssertionError("it did not wait")


async def no_more_bids(a: Arbiter, run_id: str) -> None:
    """End the time of the request, once the run waits for bids."""
    await waits(a, run_id)
    notes = a.entries.within(f"run:{run_id}")
    request = await entry(a, run_id, "requests.bank")
    await notes.amend(request.id, {**request.content, "seconds": 0.001})


async def entry(a: Arbiter, run_id: str, topic: str) -> Entry:
    """The only live one of a topic."""
    (found,) = (await a.entries.within(f"run:{run_id}").query(topic)).entries
    return found


async def test_the_bid_of_the_highest_value_is_awarded_and_its_capability_answers(redis_server: RedisServer) -> None:
    sources = (
        look_up, guess, bidder("sure", 0.9, capability="look_up", cost=2.0), bidder("unsure", 0.3, capability="guess"),
    )  # fmt: skip
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a)
        award = await entry(a, result.run_id, "awards.bank")
        answer = await entry(a, result.run_id, "answers.bank")
        request = await entry(a, result.run_id, "requests.bank")
    assert (result.status, json.loads(result.answer or "")) == ("succeeded", {"supplier": "Acme", "account": ACCOUNT})
    assert award.content["capability"] == "look_up"
    ranked = sorted(award.content["candidates"], key=lambda one: one["value"])
    assert [(one["capability"], one["value"]) for one in ranked] == [("guess", 0.15), ("look_up", 0.225)]
    assert "highest value of 2" in award.content["reason"]
    assert {(link.rel, link.to) for link in answer.links} == {("answers", request.id), ("derived_from", award.id)}
    assert answer.confidence == 0.9


async def test_a_bid_that_comes_late_or_cannot_be_carried_out_is_refused_with_its_reason(
    redis_server: RedisServer,
) -> None:
    sources = (
        look_up,
        bidder("odd", 0.9, capability="nobody"),
        bidder("wrong", 0.9, capability="look_up", input={"x": 1}),
    )
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        run_id = await a.submit(inquiry())
        await no_more_bids(a, run_id)
        result = await a.result(run_id, timeout=60)
        late = await answered(a, OpenRequest(question="A bank?", input={"supplier": "Acme"}, seconds=0.001))
        first = (await entry(a, result.run_id, "unanswered.bank")).content
        reasons = [one["refused"] for one in (await entry(a, result.run_id, "awards.bank")).content["candidates"]]
        lates = [one.why for one in await a.agenda(late.run_id).activations("obviated")]
    assert (result.status, result.error and result.error.type) == ("failed", "stagnation")
    assert any("no capability 'nobody'" in one for one in reasons)
    assert any("does not fit" in one for one in reasons)
    assert "give up" in first["reason"]
    assert lates == ["bids on requests.bank do not count any more"] * 2, "they are not even asked"


async def test_who_never_comes_to_its_bid_ends_with_the_time_of_the_request_which_is_awarded_then(
    redis_server: RedisServer,
) -> None:
    @capability(triggers=[Trigger(topic="requests.*", priority=9)])
    async def brood(entry: dict[str, Any]) -> None:
        """Never come to a bid."""
        await asyncio.Event().wait()

    sources = (look_up, brood, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a, ASKED.model_copy(update={"seconds": 4.0}))
        assert (await a.agenda(result.run_id).activations("picked"))[0].capability == "brood"
    assert result.status == "succeeded"
    assert {task.capability: task.state for task in result.state.work} == {
        "brood": "timed_out", "sure": "succeeded", "look_up": "succeeded",
    }  # fmt: skip


async def test_a_capability_that_fails_leaves_the_request_unanswered_with_the_reason(redis_server: RedisServer) -> None:
    sources = (fail, bidder("sure", 0.9, capability="fail"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a)
        said = (await entry(a, result.run_id, "unanswered.bank")).content
    assert result.status == "failed"
    assert (said["capability"], said["status"]) == ("fail", "failed")
    assert "no Acme here" in said["reason"]


async def test_a_run_waits_for_bids_across_processes_and_a_bid_that_comes_is_awarded_at_once(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(look_up,)) as (a, _):
        board = a.board.name
        run_id = await a.submit(inquiry())
        await waits(a, run_id)
    async with Arbiter(
        redis_server.url, ScriptedModel(["unused"]), board=board, roles=["arbiter"], capabilities=[look_up]
    ) as b:
        assert (await b.show(run_id)).status == "running"
        request = await entry(b, run_id, "requests.bank")
        await b.entries.within(f"run:{run_id}").post(
            "bids.bank", {"capability": "look_up"}, links=[("answers", request.id)]
        )
        result = await b.result(run_id, timeout=60)
        assert await faults(b.board) == []
    assert result.status == "succeeded", "long before the minute of the request is over"


@pytest.mark.parametrize("dies", [None, 3, 4])
async def test_when_what_was_awarded_fails_the_next_bid_is_and_both_decisions_are_on_record(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, dies: int | None
) -> None:
    commit, died = Board.commit_step, list[int]()

    async def dying(self: Board, claim: Any, *given: Any, **more: Any) -> None:
        if claim.round == dies and not died:
            died.append(claim.round)
            raise ConnectionError("the process dies here")
        await commit(self, claim, *given, **more)

    monkeypatch.setattr(Board, "commit_step", dying)
    sources = (fail, look_up, bidder("sure", 0.9, capability="fail"), bidder("unsure", 0.3, capability="look_up"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a)
        award = await entry(a, result.run_id, "awards.bank")
        history = await a.entries.within(f"run:{result.run_id}").history(award.id)
        assert await entry(a, result.run_id, "answers.bank")
    assert result.status == "succeeded"
    assert died == ([] if dies is None else [dies])
    assert [one.content["capability"] for one in history] == ["fail", "look_up"]
    (failed,) = award.content["failed"]
    assert (failed["capability"], failed["status"]) == ("fail", "failed")
    assert "no Acme here" in failed["reason"]
    assert [task.capability for task in result.state.work if task.key == "award.bank"] == ["fail", "look_up"]


async def test_what_fails_and_has_no_next_bid_is_fabricated_where_the_request_says_so(
    redis_server: RedisServer,
) -> None:
    model, sources = maker(), (fail, bidder("sure", 0.9, capability="fail"))
    asked = FABRICATE.model_copy(update={"seconds": 60.0})
    async with Arbiter(redis_server.url, model, board="failed-first", capabilities=sources, grace_seconds=1.0) as a:
        result = await answered(a, asked)
    assert result.answer == "Bank of Acme"
    assert [task.capability for task in result.state.work if task.key == "award.bank"] == ["fail", "bank_of"]


async def test_an_award_or_an_end_that_somebody_takes_off_the_board_does_not_keep_a_run_going(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        run_id = await a.submit(inquiry(ASKED.model_copy(update={"seconds": SOON})))
        notes = a.entries.within(f"run:{run_id}")
        for topic in ("awards.bank", "unanswered.bank"):
            await notes.retract((await notes.post(topic, {"reason": "of mine"})).id)
        async with Arbiter(redis_server.url, ScriptedModel(["unused"]), board=a.board.name, roles=["arbiter"]) as other:
            result = await other.result(run_id, timeout=60)
    assert (result.status, result.error and result.error.type) == ("failed", "stagnation")


SPECIFICATION = {
    "name": "bank_of", "description": "The bank of a supplier, made of its name.",
    "input_schema": {"type": "object", "properties": {"supplier": {"type": "string"}}, "required": ["supplier"]},
    "output_schema": {"type": "string"},
    "public_cases": [
        {"name": "a", "input": {"supplier": "Acme"}, "expected": "Bank of Acme"},
        {"name": "b", "input": {"supplier": "Bolt"}, "expected": "Bank of Bolt"},
    ],
    "sealed_cases": [{"name": "c", "input": {"supplier": "Cord"}, "expected": "Bank of Cord"}],
}  # fmt: skip
CODE = '```python\ndef handler(supplier: str) -> str:\n    """The bank."""\n    return "Bank of " + supplier\n```'
MISSING = Missing(name="bank_of", need="Name the bank of a supplier, by the supplier's name.")
FABRICATE = ASKED.model_copy(update={"otherwise": "fabricate", "missing": MISSING, "seconds": SOON})


def maker(code: str = CODE) -> ScriptedModel:
    return ScriptedModel(
        [
            {"system": "^You are the Examiner", "turns": [json.dumps(SPECIFICATION)]},
            {"system": "^You are the Fabricator", "turns": [code] * 4},
        ]
    )


async def test_what_nobody_bids_for_is_fabricated_and_awarded_and_the_next_request_finds_it_there(
    redis_server: RedisServer,
) -> None:
    async with Arbiter(redis_server.url, maker(), board="fabricated", grace_seconds=1.0) as a:
        first = await answered(a, FABRICATE)
        again = await answered(a, FABRICATE)
        award = (await entry(a, again.run_id, "awards.bank")).content
    assert [(task.kind, task.key) for task in first.state.work] == [
        ("fabrication", "fabricate_bank_of"), ("capability", "award.bank"),
    ]  # fmt: skip
    assert (first.answer, again.answer) == ("Bank of Acme", "Bank of Acme")
    assert [task.key for task in again.state.work] == ["award.bank"]
    assert [one["capability"] for one in award["candidates"]] == ["bank_of"]


@pytest.mark.parametrize("why", ["it fails", "the limit"])
async def test_a_request_is_given_up_when_its_capability_cannot_be_fabricated(
    redis_server: RedisServer, why: str
) -> None:
    model = maker("no code")
    limits = Limits(fabrications=0) if why == "the limit" else None
    async with Arbiter(redis_server.url, model, board="given-up-" + why[:2], grace_seconds=1.0) as a:
        result = await answered(a, FABRICATE, limits)
        said = (await entry(a, result.run_id, "unanswered.bank")).content
    assert result.status == "failed"
    assert ("limit of 0 fabrications" if why == "the limit" else "could not be fabricated") in said["reason"]


async def test_what_is_no_open_request_is_unanswered_with_the_reason(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        result = await answered(a, {"question": "Who?", "seconds": -1})
        said = (await entry(a, result.run_id, "unanswered.bank")).content
    assert "no open request: seconds" in said["reason"]


async def test_an_award_by_hand_stands_and_there_is_never_a_second_one(redis_server: RedisServer) -> None:
    by_hand: list[Entries] = []

    @capability(effects="writes", grants=BIDDER, triggers=[Trigger(topic="requests.*", bind={"request": "id"})])
    async def late_bidder(request: str) -> None:
        """Bid, after a person has awarded it to somebody else."""
        await by_hand[0].within(f"run:{request.partition('/')[0]}").post("awards.bank", {"capability": "guess"})
        bid = {"topic": "bids.bank", "content": {"capability": "look_up"}, "links": [["answers", request]]}
        await sdk.call_async("entry.post", bid)

    async with arbiter(redis_server.url, ["unused"], capabilities=(look_up, guess, late_bidder)) as (a, _):
        by_hand.append(a.entries)
        result = await answered(a)
        await entry(a, result.run_id, "awards.bank")
    assert result.answer == "Acme has one somewhere"


@pytest.mark.parametrize("round_", [2, 3])
async def test_g2_a_step_that_dies_before_it_is_committed_leaves_one_award_one_task_and_one_answer(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, round_: int
) -> None:
    commit, died = Board.commit_step, list[int]()

    async def dies(self: Board, claim: Any, *given: Any, **more: Any) -> None:
        if claim.round == round_ and not died:
            died.append(claim.round)
            raise ConnectionError("the process dies here")
        await commit(self, claim, *given, **more)

    monkeypatch.setattr(Board, "commit_step", dies)
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a)
        counts = [
            len((await a.entries.within(f"run:{result.run_id}").query(f"{topic}.bank")).entries)
            for topic in ("awards", "answers")
        ]
    assert died == [round_]
    assert (result.status, counts) == ("succeeded", [1, 1])
    assert [task.key for task in result.state.work if task.key.startswith("award.")] == ["award.bank"]


def test_an_announcement_says_what_to_fabricate() -> None:
    with pytest.raises(BadInput, match="missing"):
        OpenRequest(question="Who?", otherwise="fabricate").content()


def test_a_bid_counts_up_to_the_end_of_the_time_of_its_request_and_not_later() -> None:
    author = Author(kind="person", name="ann")
    asked = Entry("r/e/1", "requests.bank", 1, {}, 1.0, author, "1000000000000-000000", "1000000000000-000000")
    content, links = {"capability": "look_up"}, (Link(rel="answers", to=asked.id),)
    intime, late = (
        replace(asked, id=f"r/e/{ms}", topic="bids.bank", content=content, links=links, position=f"{ms}-000000")
        for ms in (1000000002000, 1000000002001)
    )
    first, second = bids([late, intime], asked, 2.0)
    assert (first.bid, first.refused) == (intime.id, "")
    assert (second.bid, second.refused) == (late.id, "it came later than 2 s after the request")


def values(*found: Sequence[float]) -> list[Candidate]:
    return [Candidate(f"c{n}", one[0], one[1], success=one[2]) for n, one in enumerate(found)]


def test_of_two_alike_the_first_bid_is_awarded_and_a_refused_one_never() -> None:
    first, second = values((0.5, 1, 0.5), (0.5, 1, 0.5))
    assert best([first, second]) is first
    assert best([Candidate("x", 1.0, 1.0, success=1.0, refused="late"), second]) is second
    assert best([]) is None
