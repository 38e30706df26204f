"""Critique by knowledge sources: contradictions, credibility, consensus; each said once, whoever finds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from arbiter_support import arbiter

from arbiter import AgendaTerms, Grants, Inquiry, Posting, Query, RunResult, TopicGrants, Trigger, capability
from arbiter.critique import compact_memory, find_consensus, find_contradictions, weigh_evidence
from blackboard.credibility import pooled
from blackboard.entry import Entry
from blackboard.errors import Compacted
from blackboard.testing import RedisServer
from wrapper import sdk

CONTRADICTIONS = find_contradictions("claims.*", "account")
WRITER = Grants(topics=TopicGrants(read=("claims.>", "case.>"), write=("claims.>", "case.>", "evidence.>")))


async def investigated(
    url: str, sources: Sequence[Any], known: Sequence[Posting], until: str | None = None
) -> tuple[RunResult, dict[str, list[Entry]]]:
    """How an inquiry ended, and its live entries by first word."""
    async with arbiter(url, ["unused"], capabilities=sources) as (a, _):
        terms = AgendaTerms(until=Query(topic=until) if until else None)
        result = await a.run(Inquiry(known, terms), timeout=30)
        found: dict[str, list[Entry]] = {}
        for one in (await a.entries.within(f"run:{result.run_id}").query()).entries:
            found.setdefault(one.topic.partition(".")[0], []).append(one)
    return result, found


def account(supplier: str, number: str, confidence: float = 1.0) -> Posting:
    return Posting(f"claims.{supplier}", {"account": number}, confidence)


async def test_each_pair_that_contradicts_is_one_entry_that_links_to_both(redis_server: RedisServer) -> None:
    known = [
        account("acme", "1", 0.9), account("acme", "2", 0.6), account("acme", "1", 0.5), account("bolt", "7"),
        Posting("claims.bolt", {"phone": 1}),
    ]  # fmt: skip
    _, found = await investigated(redis_server.url, [CONTRADICTIONS], known)
    ids = {one.id: one for one in found["claims"]}
    pairs = [sorted(one.content["values"]) for one in found["contradictions"]]
    assert pairs == [["1", "2"], ["1", "2"]]
    for one in found["contradictions"]:
        linked = [ids[link.to] for link in one.links if link.rel == "contradicts"]
        assert {entry.content["account"] for entry in linked} == {"1", "2"}
        assert one.confidence == min(entry.confidence for entry in linked)


async def test_a_contradiction_is_amended_once_the_two_say_the_same(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=WRITER, triggers=[Trigger(topic="control.quiet")])
    def correct(entry: dict[str, Any]) -> None:
        """Correct the second claim when all was said."""
        for one in sdk.query("claims.*", 'account="2"')["entries"]:
            sdk.amend(one["id"], content={"account": "1"})

    known = [account("acme", "1"), account("acme", "2")]
    _, found = await investigated(redis_server.url, [CONTRADICTIONS, correct], known)
    (one,) = found["contradictions"]
    assert (one.content["values"], one.links, one.confidence, one.version) == (["1", "1"], (), 0.0, 2)


@capability(
    effects="writes", grants=WRITER, triggers=[Trigger(topic="case.facts", bind={"entry": "id", "facts": "content"})]
)
def gather(entry: str, facts: list[list[Any]]) -> None:
    """Write evidence for and against the case."""
    for number, (relation, confidence) in enumerate(facts):
        sdk.post(f"evidence.n{number}", number, confidence=confidence, links=[(relation, entry)])


async def test_credibility_follows_the_evidence_and_is_one_entry(redis_server: RedisServer) -> None:
    facts = [["supports", 0.8], ["supports", 0.5], ["contradicts", 0.6], ["supports", 0.2], ["contradicts", 0.1]]
    sources = [gather, weigh_evidence("evidence.*")]
    _, found = await investigated(redis_server.url, sources, [Posting("case.facts", facts, 0.4)])
    (one,) = found["credibility"]
    (case,) = found["case"]
    expected = pooled(0.4, [0.8, 0.5, 0.2], [0.6, 0.1])
    assert one.content == {
        "entry": case.id, "topic": "case.facts", "credibility": pytest.approx(expected, abs=1e-6), "supports": 3,
        "contradicts": 2,
    }  # fmt: skip
    assert one.confidence == one.content["credibility"]
    assert {link.to for link in one.links} == {case.id, *(each.id for each in found["evidence"])}


def witness(name: str, says: str, confidence: float, when: str = "case.opened") -> Any:
    once = Query(topic="claims.*", where=f"@author={name}")

    @capability(name=name, effects="writes", grants=WRITER, triggers=[Trigger(topic=when, unless=once)])
    def tell(entry: dict[str, Any]) -> None:
        """Say what it saw."""
        sdk.post("claims.colour", {"colour": says}, confidence=confidence)

    return tell


async def test_a_run_may_go_on_until_enough_sources_agree(redis_server: RedisServer) -> None:
    witnesses = [witness("ann", "red", 0.9), witness("ben", "red", 0.8), witness("cyd", "blue", 0.3)]
    sources = [*witnesses, find_consensus("claims.*", "colour", credible=0.9)]
    result, found = await investigated(redis_server.url, sources, [Posting("case.opened", 1)], "consensus.>")
    (one,) = found["consensus"]
    assert result.status == "succeeded"
    assert json.loads(result.answer or "")["value"] == "red"
    assert one.content["credibility"] >= 0.9


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([("ann", "red", 0.99)], "one source is not enough"),
        ([("ann", "red", 0.5), ("ben", "red", 0.3)], "they are not sure enough"),
        (
            [("cyd", "blue", 0.95), ("ann", "red", 0.9, "control.quiet"), ("ben", "red", 0.9, "control.quiet")],
            "they disagree",
        ),
    ],
)
async def test_there_is_no_consensus_where(redis_server: RedisServer, said: list[Any], why: str) -> None:
    consensus = find_consensus("claims.*", "colour", credible=0.95)
    sources = [consensus, *(witness(*one) for one in said)]
    _, found = await investigated(redis_server.url, sources, [Posting("case.opened", 1)])
    assert len(found["claims"]) == len(said)
    assert "consensus" not in found, why


async def test_memory_is_compacted_by_a_source_like_any_other(redis_server: RedisServer) -> None:
    boards: list[Any] = []
    cleaner = compact_memory(lambda: boards[0], "tenant:acme", "claims.*", older_than=0, at_least=2)
    async with arbiter(redis_server.url, ["unused"], capabilities=[cleaner]) as (a, _):
        boards.append(a.board)
        kept = a.entries.within("tenant:acme")
        left = await kept.post("learned.bank", "Beta")
        for bank in ("Gamma", "Delta"):
            await kept.amend(left.id, bank)
        await a.run(Inquiry([account("acme", "1")], AgendaTerms()), timeout=30)
        assert [one.content for one in await kept.history(left.id)] == ["Delta"]
        with pytest.raises(Compacted):
            await kept.read(left.id, at=left.position)
