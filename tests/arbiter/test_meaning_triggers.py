"""Triggers with a threshold of meaning: each entry is judged once, by words or by an encoder, and that is on record."""

from __future__ import annotations

from typing import Any

import pytest
from arbiter_support import arbiter
from pydantic import ValidationError

from arbiter import (
    AgendaTerms,
    Arbiter,
    Inquiry,
    Posting,
    Query,
    RunResult,
    Trigger,
    capability,
    current_task,
)
from arbiter import judging as judging_module
from arbiter.replay_agenda import replayed
from blackboard.agenda import Agenda
from blackboard.errors import ModelUnavailable
from blackboard.invariants import faults
from blackboard.testing import RedisServer
from registry.matching.encoders import CallableEncoder
from registry.matching.hybrid import HybridMatcher

ABOUT = "who owes us money"
OWES = "Bolt owes us money since May"
WEATHER = "The weather is fine today"


def dun(**more: Any) -> Any:
    @capability(triggers=[Trigger(topic="letters.*", about=ABOUT, **more)])
    def dun(entry: dict[str, Any]) -> str:
        """Dun whoever owes money."""
        return entry["content"]

    return dun


async def told(a: Arbiter, *letters: str, **terms: Any) -> RunResult:
    every = [Posting(f"letters.n{n}", text) for n, text in enumerate(letters)]
    return await a.run(Inquiry(every, AgendaTerms(**terms)), timeout=60)


async def test_only_what_means_it_is_picked_and_the_rest_is_dropped_with_its_score(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(),)) as (a, _):
        result = await told(a, OWES, WEATHER)
        agenda = a.agenda(result.run_id)
        yes, no = await agenda.activations()
        why, why_not = str(await agenda.explain(yes.id)), str(await agenda.explain(no.id))
        ranked = await a.entries.within(f"run:{result.run_id}").query(about=ABOUT)
        assert await faults(a.board) == []
        log = await a.board.history(result.run_id)
    assert (yes.state, no.state) == ("picked", "obviated")
    assert yes.meaning is not None
    assert yes.meaning == pytest.approx(ranked.ranks[0].score, abs=0.15), (
        "it is the score of a query, of the entry alone"
    )
    assert f"answering by {yes.meaning:.2f} to what was waited for" in why
    assert f"answers by 0.00 to '{ABOUT}', and at least 0.3 is asked" in why_not
    assert [task.capability for task in result.state.work] == ["dun"]
    assert all(made == again for made, again in replayed(log))


@pytest.mark.parametrize(("least", "state"), [(0.99, "obviated"), (0.01, "picked")])
async def test_the_trigger_says_how_well_it_must_answer(redis_server: RedisServer, least: float, state: str) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(least=least),)) as (a, _):
        result = await told(a, OWES)
        (one,) = await a.agenda(result.run_id).activations()
    assert one.state == state


async def test_g2_control_that_dies_before_or_after_it_committed_judges_each_entry_to_one_end(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, died = Agenda.decide, list[str]()

    async def dies(self: Agenda, *given: Any, **more: Any) -> None:
        if not died:
            died.append("before")
            raise ConnectionError("the process dies here")
        await decide(self, *given, **more)
        if len(died) == 1:
            died.append("after")
            raise ConnectionError("the process dies here")

    monkeypatch.setattr(Agenda, "decide", dies)
    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(),)) as (a, _):
        result = await told(a, OWES, WEATHER, OWES)
        states = [one.state for one in await a.agenda(result.run_id).activations()]
        assert await faults(a.board) == []
    assert died == ["before", "after"]
    assert states == ["picked", "obviated", "picked"]
    assert len(result.state.work) == 2


async def test_what_somebody_promotes_before_it_was_judged_is_judged_all_the_same(redis_server: RedisServer) -> None:
    boards: list[Arbiter] = []

    @capability(triggers=[Trigger(topic="letters.n0", priority=10)])
    async def promote(entry: dict[str, Any]) -> None:
        """Promote the activation that waits, before it was judged."""
        task = current_task()
        assert task is not None
        notes = boards[0].entries.within(f"run:{task.run_id}")
        written = await notes.post("letters.late", WEATHER, task=task)
        (one,) = [one for one in await boards[0].agenda(task.run_id).activations() if one.entry == written.id]
        await boards[0].agenda(task.run_id).promote(one.id, by="ann")

    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(), promote)) as (a, _):
        boards.append(a)
        result = await told(a, "Nothing.", concurrency=1)
        late = [one for one in await a.agenda(result.run_id).activations() if one.topic == "letters.late"]
    assert [(one.state, one.pin is not None) for one in late] == [("obviated", True)]
    assert "at least 0.3 is asked" in late[0].why


async def test_a_storm_of_candidates_is_judged_a_page_at_a_time_and_leaves_what_fits(redis_server: RedisServer) -> None:
    wanted = [
        Trigger(
            topic="letters.*", about=f"{ABOUT if n % 49 == 0 else 'which star is that'} {n}", bind={"text": "content"}
        )
        for n in range(49)
    ]
    many = []
    for number in range(21):

        async def reads(text: str) -> str:
            """Read a letter."""
            return text

        reads.__name__ = f"reads{number}"
        many.append(capability(reads, triggers=wanted))
    async with arbiter(redis_server.url, ["unused"], capabilities=many) as (a, _):
        result = await told(a, OWES, concurrency=50)
        every = await a.agenda(result.run_id).activations()
        assert await faults(a.board) == []
    assert len(every) == 21 * 49
    assert {one.state for one in every} == {"picked", "obviated"}
    assert sum(one.state == "picked" for one in every) == 21
    assert result.status == "succeeded"


async def test_an_entry_that_changes_before_it_is_judged_is_judged_as_what_it_says_then(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, boards = judging_module.judge, list[Arbiter]()

    async def meanwhile(meaning: Any, entries: Any, some: Any) -> Any:
        if some and (found := await entries.query("letters.n0")).entries and found.entries[0].version == 1:
            await entries.amend(found.entries[0].id, OWES)
        return await judge(meaning, entries, some)

    monkeypatch.setattr(judging_module, "judge", meanwhile)
    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(),)) as (a, _):
        boards.append(a)
        result = await told(a, WEATHER)
        first, second = await a.agenda(result.run_id).activations()
    assert (first.state, second.state) == ("obviated", "picked")
    assert "amended since" in first.why


async def test_an_encoder_judges_where_there_is_one_and_one_that_is_away_is_waited_for(
    redis_server: RedisServer,
) -> None:
    pytest.importorskip("numpy")
    asked: list[int] = []

    def encode(texts: Any) -> list[list[float]]:
        if any("creditor" in text for text in texts):
            asked.append(len(texts))
            if len(asked) == 1:
                raise ModelUnavailable("no encoder yet")
        return [[float("creditor" in text or "owes" in text), float("weather" in text)] for text in texts]

    matcher = HybridMatcher(CallableEncoder(encode, "test"))
    async with arbiter(redis_server.url, ["unused"], capabilities=(dun(least=0.9),), matcher=matcher) as (a, _):
        result = await told(a, "Our biggest creditor is Bolt", WEATHER)
        yes, no = await a.agenda(result.run_id).activations()
    assert (yes.state, no.state) == ("picked", "obviated"), (yes, no)
    assert result.status == "succeeded"
    assert len(asked) > 1


def test_a_threshold_needs_a_question() -> None:
    with pytest.raises(ValidationError, match="Say in about"):
        Trigger(topic="a", least=0.5)
    assert Trigger(topic="a", requires=Query(topic="b")).model_dump(mode="json").keys() == {
        "topic", "requires", "priority", "cost",
    }  # fmt: skip
