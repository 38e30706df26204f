"""Triggers: compared exactly, and one activation for each that fits, made with the entry or not at all (G2, G4, G6, G9, G11)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from agenda_support import at_once, declare, declared, driven, look, picked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import Play, done, spec, watched_play

from blackboard import predicates, topics
from blackboard.activation import Activation
from blackboard.agenda import Agenda
from blackboard.entries import Entries
from blackboard.errors import Fenced, ScriptRefused
from blackboard.retention import retire
from blackboard.triggers import AgendaTerms, Compiled, Declared, Trigger

play = watched_play


async def made(play: Play, run: str) -> list[tuple[str, str, int]]:
    return [(one.capability, one.entry, one.entry_version) for one in await Agenda(play.board, run).activations()]


# ---- what fits ---------------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(["a", "b"])
_TOPICS = st.lists(_WORDS, min_size=1, max_size=3).map(".".join)
_PATTERNS = st.tuples(st.lists(_WORDS | st.just("*"), max_size=3), st.booleans()).map(
    lambda one: ".".join([*one[0], *([">"] if one[1] or not one[0] else [])])
)
_VALUES = st.sampled_from([0, 1, 1.0, True, False, None, "1", "a", 2])
_SIGNS, _SAID = st.sampled_from(["=", "!=", ">="]), st.sampled_from(["1", "2", "true", "null", "a", '"1"'])
_WHERE = st.lists(st.tuples(st.sampled_from(["n", "m.k", "@confidence"]), _SIGNS, _SAID), max_size=3).map(
    lambda terms: " ".join(f"{p}{s}{v}" for p, s, v in terms if not (s == ">=" and v in ("true", "null")))
)
_CONTENTS = st.dictionaries(
    st.sampled_from(["n", "m"]), _VALUES | st.dictionaries(st.just("k"), _VALUES, max_size=1), max_size=2
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    triggers=st.lists(st.tuples(_PATTERNS, _WHERE), max_size=12),
    topic=_TOPICS,
    content=_CONTENTS | _VALUES,
    confidence=st.sampled_from([0.5, 1.0]),
)
def test_what_is_compiled_finds_exactly_what_fits_one_by_one(
    triggers: list[tuple[str, str]], topic: str, content: Any, confidence: float
) -> None:
    every = [one for n, (p, w) in enumerate(triggers) for one in declared(f"c{n:02}", Trigger(topic=p, where=w))]
    asked = {"@confidence": confidence, "@version": 1}
    found = Compiled("1", every).fitting(topic, content, asked)
    wanted = [
        one
        for one in every
        if topics.matches(one.trigger.topic, topic)
        and all(each.fits(content, asked) for each in predicates.parse(one.trigger.where))
    ]
    assert list(found) == wanted


def test_an_entry_is_compared_with_those_alone_that_may_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand triggers, two on its topic with an equality for another value are not looked at either."""
    many = [one for n in range(10_000) for one in declared(f"c{n:05}", Trigger(topic=f"t{n}.*", where="n>0"))]
    some = declared("d", *(Trigger(topic="x.*", where=f"kind=k{n} n>0") for n in range(100)))
    compiled = Compiled("1", [*many, *some])
    looked: list[str] = []
    fits = predicates.Predicate.fits

    def counted(self: predicates.Predicate, content: Any, attributes: Any) -> bool:
        looked.append(self.path)
        return fits(self, content, attributes)

    monkeypatch.setattr(predicates.Predicate, "fits", counted)
    assert [one.number for one in compiled.fitting("x.y", {"kind": "k7", "n": 1}, {})] == [7]
    assert len(looked) == 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"topic": "a..b"}, "topic"),
        ({"topic": "a", "where": "amount"}, "where"),
        ({"topic": "a", "where": "@author=x"}, "where"),
        ({"topic": "a", "requires": {"topic": ">.a"}}, "topic"),
        ({"topic": "a", "bind": {"x": "secret.y"}}, "bind"),
        ({"topic": "a", "cost": 0}, "cost"),
        ({"topic": "a", "priority": 11}, "priority"),
    ],
)
def test_a_trigger_that_makes_no_sense_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Trigger.model_validate(given)


def test_the_input_of_a_task_is_the_entry_or_what_is_bound_of_it() -> None:
    record: dict[str, Any] = {
        "id": "e",
        "topic": "a.b",
        "content": {"amount": 7, "lines": [{"n": 1}]},
        "confidence": 0.5,
    }
    assert Trigger(topic="a").given(record) == {"entry": record}
    bound = Trigger(topic="a", bind={"n": "content.lines.0.n", "sure": "confidence", "none": "content.other"})
    assert bound.given(record) == {"n": 1, "sure": 0.5}


# ---- one activation for each -------------------------------------------------------------------------------------------


async def test_an_entry_makes_one_activation_of_each_trigger_it_fits_with_the_post(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="claims.*", where="amount>=100"), Trigger(topic=">"))
    await declare(play, "other", Trigger(topic="claims.other"))
    fits = await notes.post("claims.a", {"amount": 100})
    part = await notes.post("claims.a", {"amount": 1})
    assert await made(play, run) == [("check", fits.id, 1), ("check", fits.id, 1), ("check", part.id, 1)]
    log = await play.kinds(run, "entry.posted", "agenda.activated")
    assert log == [f"entry.posted {fits.id[len(run):]}", "agenda.activated /agenda",
                   f"entry.posted {part.id[len(run):]}", "agenda.activated /agenda"]  # fmt: skip


async def test_the_same_post_again_makes_no_further_activation_and_an_amendment_makes_its_own(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="a", where="n>=1"))
    first = await notes.post("a", {"n": 1}, operation="x")
    assert not (await notes.post("a", {"n": 1}, operation="x")).new
    await notes.amend(first.id, {"n": 2})
    await notes.amend(first.id, {"n": 0})
    await notes.amend(first.id, confidence=0.5)
    await notes.retract(first.id)
    assert await made(play, run) == [("check", first.id, 1), ("check", first.id, 2)]


async def test_many_that_write_at_once_make_one_activation_each(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="a"))
    written = await asyncio.gather(*(notes.post("a", n) for n in range(8)), *(notes.post("b", n) for n in range(8)))
    assert {entry for _, entry, _ in await made(play, run)} == {one.id for one in written[:8]}
    assert len(await made(play, run)) == 8


async def test_an_entry_that_was_compared_with_other_triggers_is_compared_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, notes = await driven(play)
    await declare(play, "first", Trigger(topic="a"))
    await notes.post("a", 0)
    compared: list[str] = []
    fitting = Compiled.fitting

    def slow(self: Compiled, topic: str, content: Any, attributes: Any) -> Sequence[Declared]:
        compared.append(self.version)
        return fitting(self, topic, content, attributes)

    monkeypatch.setattr(Compiled, "fitting", slow)
    await declare(play, "second", Trigger(topic="a"))
    await play.board.triggers.write("first", "2", [])
    late = await notes.post("a", 1)
    assert [one for one in await made(play, run) if one[1] == late.id] == [("second", late.id, 1)]
    assert len(compared) == 2


async def test_triggers_that_come_late_or_twice_change_nothing(play: Play) -> None:
    shard = play.shard
    old, new = declared("check", Trigger(topic="a")), declared("check", Trigger(topic="b"), sha="v2")
    await play.board.triggers.write("check", "5", new)
    before = (await play.board.triggers.current(shard)).version
    for revision, every in (("4", old), ("5", new), ("5", old), ("6", new)):
        await play.board.triggers.write("check", revision, every)
    now = await play.board.triggers.fetch(shard)
    assert (now.version, list(now.by_key)) == (before, [new[0].key])
    await play.board.triggers.write("check", "7", [])
    await play.board.triggers.write("check", "6", new)
    assert not (await play.board.triggers.fetch(shard)).by_key
    assert (await play.board.triggers.capabilities())["check"] == set()


async def test_what_belongs_to_another_tenant_is_not_triggered(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "mine", Trigger(topic="a"), tenant="default")
    await declare(play, "theirs", Trigger(topic="a"), tenant="acme")
    await notes.post("a", 1)
    assert [name for name, _, _ in await made(play, run)] == ["mine"]


async def test_only_a_run_that_has_an_agenda_is_triggered(play: Play) -> None:
    await declare(play, "check", Trigger(topic=">"))
    run = await play.run(spec("t"))
    await Entries(play.board, f"run:{run}").post("a", 1)
    await Entries(play.board, "public").post("a", 1)
    assert await made(play, run) == []
    assert "agenda.activated /agenda" not in await play.kinds(run)


async def test_a_run_that_is_over_triggers_nothing(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="a"))
    await play.board.cancel_run(run)
    await play.clock.advance(3600)
    await play.board.sweep()
    with pytest.raises(ScriptRefused, match="CLOSED"):
        await notes.post("a", 1)
    assert await made(play, run) == []


async def test_an_attempt_that_was_superseded_triggers_nothing(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="a"))
    claim = await play.one()
    await play.board.release(claim)
    with pytest.raises(Fenced):
        await notes.post("a", 1, task=claim)
    assert await made(play, run) == []


@pytest.mark.engines("redis", "cluster", "valkey")
async def test_one_entry_with_ten_thousand_triggers_makes_them_all_a_part_at_a_time(play: Play) -> None:
    run, notes = await driven(play)
    every = [one for n in range(1200) for one in declared(f"c{n:04}", Trigger(topic="a"))]
    await at_once(play, every)
    await notes.post("a", 1)
    assert len(await made(play, run)) == 500
    for count in (1000, 1200, 1200):
        await look(play, run)
        assert len(await made(play, run)) == count
    assert {name for name, _, _ in await made(play, run)} == {one.capability for one in every}


async def test_a_removed_run_leaves_nothing_of_its_agenda(play: Play) -> None:
    run, notes = await driven(play)
    await declare(play, "check", Trigger(topic="a"))
    await notes.post("a", 1)
    await play.board.cancel_run(run)
    await retire(play.board, run)
    left = [key async for key in play.board.client.scan_iter(match="*", count=1000) if run in key]
    assert left == []


# ---- chains ------------------------------------------------------------------------------------------------------------


async def test_a_chain_knows_its_depth_and_ends_where_it_may_go_no_deeper(play: Play) -> None:
    run, notes = await driven(play, depth=2, repeats=9)
    await declare(play, "down", Trigger(topic="level.*"))
    await notes.post("level.a", 0)
    for _ in range(2):
        claim = await picked(play, run)
        await notes.post("level.a", 1, task=claim)
        await play.board.complete(claim, done(claim))
    found = await Agenda(play.board, run).activations()
    assert [(one.depth, one.parent, one.state) for one in found] == [
        (1, None, "picked"),
        (2, 1, "picked"),
        (3, 2, "stopped"),
    ]
    assert "3 activations deep" in found[-1].why


async def test_ping_pong_between_two_sources_is_stopped_with_the_reason_on_record(play: Play) -> None:
    run, notes = await driven(play, repeats=2)
    (ping,) = await declare(play, "ping", Trigger(topic="pong"))
    await declare(play, "pong", Trigger(topic="ping"))
    await notes.post("pong", 0)
    found: list[Activation] = []
    for _ in range(10):
        found = await Agenda(play.board, run).activations()
        if found[-1].state == "stopped":
            break
        claim = await picked(play, run)
        await notes.post(claim.capability, 1, task=claim)
        await play.board.complete(claim, done(claim))
    assert [one.capability for one in found] == ["ping", "pong", "ping", "pong", "ping"]
    assert "ping-pong: this trigger stands 2 times" in found[-1].why
    assert found[-1].chain.count(ping.key) == 2
    assert "ping-pong" in str(await Agenda(play.board, run).explain(found[-1].id))


async def test_an_entry_of_a_person_begins_a_chain_of_its_own(play: Play) -> None:
    run, notes = await driven(play, depth=1)
    await declare(play, "down", Trigger(topic="a"))
    await notes.post("a", 0)
    await notes.post("a", 1)
    assert [one.depth for one in await Agenda(play.board, run).activations()] == [1, 1]


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"strategy": "No"}, "strategy"),
        ({"weights": {"a": 0}}, "weights"),
        ({"until": {"topic": "a..b"}}, "topic"),
    ],
)
def test_terms_that_make_no_sense_are_refused(terms: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        AgendaTerms.model_validate(terms)
