"""Answers to open requests that are larger than what one may write as an entry: they stay where the task left them."""

from __future__ import annotations

from typing import Any

import pytest
from arbiter_support import arbiter
from test_volunteering import answered, bidder, entry

from arbiter import BadInput, CapabilityLimits, Inquiry, Posting, Trigger, capability
from arbiter.inquiry import ANSWER_BYTES
from blackboard import plan
from blackboard.blobs import Blob
from blackboard.entries import ENTRY_BYTES
from blackboard.errors import BlobMissing, Oversized
from blackboard.sealing import verify
from blackboard.testing import RedisServer


@capability(limits=CapabilityLimits(output_bytes=64 << 20))
def tell_all(supplier: str) -> str:
    """Say much."""
    return "x" * (ENTRY_BYTES + 1)


async def test_an_awarded_result_above_the_size_of_entries_is_the_answer_by_reference(
    redis_server: RedisServer,
) -> None:
    sources = (tell_all, bidder("sure", 0.9, capability="tell_all"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        result = await answered(a)
        notes = a.entries.within(f"run:{result.run_id}")
        (light,) = (await notes.query("answers.bank", load=False)).entries
        whole = await notes.read(light.id)
        assert (await verify(notes)).faults == ()
    assert result.status == "succeeded", result.error
    completion = next(task.completion for task in result.state.work if task.key == "award.bank")
    assert completion is not None
    assert isinstance(light.content, Blob)
    assert light.content.digest == Blob(completion.data or {}).digest, "it is stored once"
    assert whole is not None
    assert whole.content == "x" * (ENTRY_BYTES + 1)
    assert result.answer is not None
    assert len(result.answer) < ANSWER_BYTES
    assert light.id in result.answer


async def test_a_result_that_does_not_fit_the_schema_of_answers_leaves_the_request_unanswered(
    redis_server: RedisServer,
) -> None:
    sources = (tell_all, bidder("sure", 0.9, capability="tell_all"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        await a.entries.set_schema("answers.*", {"type": "object"})
        result = await answered(a)
        said = (await entry(a, result.run_id, "unanswered.bank")).content
    assert result.status == "failed"
    assert "cannot be written on answers.bank" in said["reason"]
    assert result.error is not None
    assert "requests.bank: what it returned cannot be written" in result.error.message


async def test_a_reference_is_an_entry_only_where_its_value_is_stored(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        notes = a.entries
        with pytest.raises(Oversized):
            await notes.post("claims.a", "x" * (ENTRY_BYTES + 1))
        there = await notes.post("claims.a", "y" * 300_000)
        light = await notes.read(there.id, load=False)
        assert light is not None
        again = await notes.post("claims.b", light.content)
        assert (await notes.query("claims.b")).entries[0].content == "y" * 300_000
        with pytest.raises(BlobMissing):
            await notes.within("session:other").post("claims.c", light.content)
        with pytest.raises(BadInput):
            await notes.amend(again.id, "x" * (ENTRY_BYTES + 1))
        kept = await notes.amend(again.id, confidence=0.5)
        assert kept.version == 2


async def test_an_activation_whose_input_would_be_too_large_is_dropped_and_says_so(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    @capability(triggers=[Trigger(topic="claims.*")])
    def read(entry: dict[str, Any]) -> str:
        """Read a claim."""
        return entry["content"]

    monkeypatch.setattr(plan, "PAYLOAD_BYTES", 2000)
    async with arbiter(redis_server.url, ["unused"], capabilities=(read,)) as (a, _):
        result = await a.run(Inquiry([Posting("claims.a", "x" * 3000), Posting("claims.b", "short")]), timeout=60)
        dropped, picked = await a.agenda(result.run_id).activations()
    assert result.status == "succeeded"
    assert (dropped.state, picked.state) == ("obviated", "picked")
    assert "its input cannot be made of the entry" in dropped.why
