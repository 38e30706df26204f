"""The command ``arbiter ask``: bids and award are told, the answer is printed, and what cannot be is refused with words."""

from __future__ import annotations

import asyncio
import json
import subprocess

import cli_process
from arbiter_support import arbiter
from test_volunteering import ACCOUNT, bidder, look_up

from blackboard.testing import RedisServer

QUESTION = "Who can find the bank details of a supplier?"


async def test_a_question_is_asked_of_whoever_can_answer_it(redis_server: RedisServer) -> None:
    sources = (look_up, bidder("sure", 0.9, capability="look_up", cost=2.0))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):

        async def ask(*words: str) -> subprocess.CompletedProcess[str]:
            place = ("--url", redis_server.url, "--board", a.board.name)
            return await asyncio.to_thread(cli_process.arbiter, "ask", *words, *place)

        asked = await ask(QUESTION, "--input", '{"supplier": "Acme"}', "--key", "k")
        same = await ask(QUESTION, "--input", '{"supplier": "Acme"}', "--key", "k", "--json")
        nobody = await ask("Who sings?", "--seconds", "0.2")
        refused = await ask("Who sings?", "--fabricate", "sing")
    assert (asked.returncode, json.loads(asked.stdout)) == (0, {"supplier": "Acme", "account": ACCOUNT})
    assert "bid: look_up, confidence 0.9, cost 2" in asked.stderr
    assert "award: look_up, the highest value of 1" in asked.stderr
    (said,) = cli_process.records(same.stdout)
    assert (said["status"], said["answer"]) == ("answered", {"supplier": "Acme", "account": ACCOUNT})
    assert said["run_id"] in asked.stderr
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "unanswered: nobody bid" in nobody.stderr
    assert refused.returncode == 2
    assert "missing.need" in refused.stderr
