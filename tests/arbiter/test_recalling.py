"""What a round's model is shown: everything while it fits, then what has to do with the request and the newest results (G9)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from arbiter_support import arbiter, call

from arbiter import Grants, Recalling, RunResult, ScriptedModel, TopicGrants, capability, conversation
from arbiter.fold import fold
from arbiter.recalling import Recaller, View, latest
from arbiter.tools import PLAN
from blackboard.testing import RedisServer
from wrapper import sdk
from wrapper.models.estimate import estimate_request
from wrapper.models.quoting import unquoted

GRANTS = Grants(topics=TopicGrants(write=("claims.>",)))
FILLER = "The tide turns twice a day, and the harbour master notes each turn in the long grey book by the door. " * 10
REPORTS = {
    "bank": "The supplier Acme banks with Beta, account 4711.",
    "weather": "Rain is expected over the northern hills on Tuesday.",
    "poetry": "The sonnet has fourteen lines and a turn after eight.",
    "cheese": "A ripe camembert smells of mushrooms and of cellars.",
    "trains": "The night train leaves platform nine at eleven.",
    "final": "Nothing remains to be looked up.",
}


@capability
def report(subject: str) -> dict[str, str]:
    """Look up what is known about a subject."""
    return {"subject": subject, "says": REPORTS[subject], "filler": FILLER}


class Long(ScriptedModel):
    """Plays a script by how often it was asked, since a conversation that was cut does not tell."""

    async def stream(self, messages: Any, *args: Any, **more: Any) -> AsyncGenerator[Any, None]:
        asked = sum(message["role"] == "assistant" for message in messages)
        missing = max(0, getattr(self, "asked", 0) - asked)
        dummies = [{"role": role, "content": [{"text": "…"}]} for role in ("assistant", "user")] * missing
        self.asked = asked + missing + 1
        self.seen = [*getattr(self, "seen", []), json.loads(json.dumps(messages))]
        async for event in super().stream([messages[0], *dummies, *messages[1:]], *args, **more):
            yield event


def frames(messages: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    """What, where from, and content of each frame behind the request."""
    found: list[tuple[str, str, Any]] = []
    for block in messages[0]["content"][1:]:
        head = re.match(r'<data-\w+ of="([^"]*)" from="([^"]*)">', block["text"])
        assert head is not None, "everything stands in a frame"
        found.append((head[1], head[2], json.loads(unquoted(block["text"]))))
    return found


def results(message: dict[str, Any]) -> list[Any]:
    return [
        json.loads(unquoted(part["text"]))
        for block in message["content"] if "toolResult" in block for part in block["toolResult"]["content"]
    ]  # fmt: skip


def turns(*subjects: str) -> list[Any]:
    return [call("report", subject=subject) for subject in subjects]


async def investigated(url: str, script: list[Any], **settings: Any) -> tuple[RunResult, Long]:
    """A run that looks up each subject in a round of its own, and what its model was sent."""
    model = Long(script)
    async with arbiter(url, [], capabilities=[report], recalling=Recalling(**settings), model=model) as (a, _):
        result = await a.run("Which bank does the supplier Acme use?", timeout=60)
        assert result.status == "succeeded", result.error
        for number, sent in enumerate(model.seen):
            # Whoever takes the step anew, from the log alone, sends the same.
            then = fold(result.run_id, await a.board.history(result.run_id))
            context = latest(then.rounds[: number + 1])
            then.rounds = then.rounds[:number]
            recaller = Recaller(a.board, then, Recalling(), None)
            view = View() if context is None else await recaller.again(context)
            assert json.loads(json.dumps(conversation.messages(then, view=view))) == sent
        return result, model


async def test_the_whole_conversation_is_shown_while_it_fits_and_nothing_is_chosen(redis_server: RedisServer) -> None:
    result, model = await investigated(redis_server.url, [*turns("bank", "weather"), "Beta."])
    assert [turn.context for turn in result.state.rounds] == [None] * 3
    assert [len(sent) for sent in model.seen] == [1, 3, 5]
    for before, after in zip(model.seen, model.seen[1:], strict=False):
        assert after[: len(before)] == before, "the beginning stays, for caches of prompts"


async def test_g9_a_long_conversation_is_cut_to_what_has_to_do_with_the_request_and_the_newest_results(
    redis_server: RedisServer,
) -> None:
    script = [*turns(*REPORTS), "Beta."]
    result, model = await investigated(redis_server.url, script, tokens=1700, most=2)
    cuts = [turn for turn in result.state.rounds if turn.context is not None]
    assert cuts
    last = model.seen[-1]
    assert results(last[-1])[0]["says"] == REPORTS["final"], "the newest results are there whatever else is"
    what = frames(last)
    listed = next(content for of, _, content in what if of == "rounds left out")
    assert "report: report succeeded" in listed["newest"]
    said = [content["content"]["says"] for of, _, content in what if of == "entry of the board"]
    assert REPORTS["bank"] in said, "what the request is about stays"
    assert len(said) <= 2
    assert latest(result.state.rounds) is not None
    sizes = [estimate_request(sent) for sent in model.seen]
    assert max(sizes) <= 1700 + 2 * 600, "the bound and the newest round"
    assert all(origin for _, origin, _ in what)


async def test_cuts_are_rare_and_between_them_a_conversation_only_grows(redis_server: RedisServer) -> None:
    result, model = await investigated(redis_server.url, [*turns(*[*REPORTS] * 3), "Beta."], tokens=3000, most=1)
    cut = [turn.number for turn in result.state.rounds if turn.context is not None]
    assert 2 <= len(cut) <= 9
    for number in range(1, len(model.seen)):
        if number + 1 not in cut:
            before, after = model.seen[number - 1], model.seen[number]
            assert after[: len(before)] == before


async def test_what_is_not_shown_is_recalled_by_meaning_by_topic_and_by_its_id(redis_server: RedisServer) -> None:
    script: list[Any] = [
        *turns("cheese", "trains", "final"),
        call("recall", about="a ripe camembert"),
        call("recall", topic="results.report.*", limit=2),
        call("recall", topic="nothing.at.all"),
        call("recall"),
        "Done.",
    ]
    async with arbiter(redis_server.url, script, capabilities=[report]) as (a, model):
        result = await a.run("Find out.", timeout=60)
    assert result.status == "succeeded"
    first, second, third = (results(dict(model.calls[n].messages[-1])) for n in (4, 5, 6))
    fourth: Any = model.calls[7].messages[-1]
    assert first[0]["content"]["says"] == REPORTS["cheese"]
    assert [one["content"]["subject"] for one in second] == ["final", "trains"], "the newest first"
    assert third == [{"found": []}]
    assert fourth["content"][0]["toolResult"]["status"] == "error"
    assert [len(one.shown) for turn in result.state.rounds for one in turn.calls if one.name == "recall"] == [
        1,
        2,
        0,
        0,
    ]


async def test_g2_a_retraction_stops_the_task_that_rests_on_it_and_the_next_round_is_told_why(
    redis_server: RedisServer,
) -> None:
    began, let_go = asyncio.Event(), asyncio.Event()

    @capability(effects="writes", grants=GRANTS)
    async def claim(amount: int) -> str:
        """Claim an amount."""
        posted = await sdk.call_async("entry.post", {"topic": "claims.amount", "content": amount})
        return posted["id"]

    @capability
    async def pay(amount: int) -> int:
        """Pay an amount."""
        began.set()
        await let_go.wait()
        return amount

    plan = {"tasks": [{"key": "pay", "capability": "pay", "input": {"amount": 7}, "premises": ["{{ results.claim }}"]}]}
    script = [call("claim", amount=7), call(PLAN, **plan), "It was not paid."]
    async with arbiter(redis_server.url, script, capabilities=[claim, pay]) as (a, model):
        run_id = await a.submit("Pay what is claimed.")
        await asyncio.wait_for(began.wait(), 60)
        notes = a.entries.within(f"run:{run_id}")
        (entry,) = (await notes.query("claims.amount")).entries
        await notes.retract(entry.id, "it was a mistake")
        result = await a.result(run_id, timeout=60)
        let_go.set()
    assert result.answer == "It was not paid."
    told = results(dict(model.calls[2].messages[-1]))[0]["tasks"]["pay"]
    assert (told["status"], told["stopped_because"]) == (
        "cancelled", f"the entry it was made from was retracted: {entry.id}"
    )  # fmt: skip


async def test_a_premise_that_is_none_is_the_answer_to_its_plan(redis_server: RedisServer) -> None:
    plan = {"tasks": [{"key": "a", "capability": "report", "input": {"subject": "bank"}, "premises": ["no such"]}]}
    async with arbiter(redis_server.url, [call(PLAN, **plan), "Done."], capabilities=[report]) as (a, model):
        await a.run("Go.", timeout=60)
    assert "no such" in str(model.calls[1].messages[-1])


def test_a_bound_is_checked_at_the_edge() -> None:
    with pytest.raises(ValueError, match="tokens"):
        Recalling(tokens=1)
