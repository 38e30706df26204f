"""What a claim tells of a new task, which it reads from the text of its header, is what the header says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from strict import Play, Status, done, watched_play

from blackboard.types import RetryPolicy, RetryRule

play = watched_play
PLAIN = RetryPolicy()
LOST = RetryPolicy(rules=(RetryRule(errors=("lease_lost",), max_attempts=2),))
"""Its header has a key within, the name of the rule."""


@pytest.mark.parametrize(
    ("capability", "version", "retry"),
    [
        ("count", None, PLAIN),
        ("count", "v1", PLAIN),
        ("count", "v1", LOST),
        ('a "quoted", one', None, PLAIN),
        ('ends with ,"key":"', "v1", PLAIN),
        ("back\\slash", "v1", PLAIN),
        ("a/path", "v1", PLAIN),
        ("zählen, 数える", "v1", PLAIN),
        (",", "v1", PLAIN),
    ],
)
async def test_a_claim_tells_of_a_task_what_its_header_says(
    play: Play, capability: str, version: str | None, retry: RetryPolicy
) -> None:
    await play.board.submit_call(capability, 1, lane="work", version=version, retry=retry, idempotency_key="k")
    claim = await play.one()
    assert (claim.capability, claim.version, claim.key, claim.retry) == (capability, version, "call", retry)
    client: Any = play.board.client
    (told,) = [
        json.loads(fields["data"])
        for _, fields in await client.xrange(play.shard.feed)
        if fields["type"] == "task.claimed"
    ]
    named = {} if version is None else {"version": version}
    assert told == {
        "attempt": 1, "worker": "w", "fence": claim.fence, "capability": capability, "kind": "capability", "key": "call", **named,
    }  # fmt: skip
    await play.board.complete(claim, done(claim))
    assert await play.state(claim.task_id) == Status.SUCCEEDED
