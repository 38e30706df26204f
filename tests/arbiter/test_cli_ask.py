"""The command ``arbiter ask``: bids and award are told, the answer is printed, and what cannot be is refused with words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess

import cli_process
from arbiter_support import arbiter
from test_volunteering import ACCOUNT, bidder, look_up

from blackboard.testing import RedisServer
from blackboard.triggers import AgendaTerms

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


async def test_where_the_run_ends_first_that_is_said_and_not_what_was_bid(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        run = await a.submit("Wait.", agenda=AgendaTerms())
        place = ("--url", redis_server.url, "--board", a.board.name, "--run", run)
        asking = asyncio.ensure_future(asyncio.to_thread(cli_process.arbiter, "ask", QUESTION, *place))
        notes = a.entries.within(f"run:{run}")
        async with asyncio.timeout(60), contextlib.aclosing(notes.watch("requests.*", after="-")) as requests:
            async for _ in requests:
                break
        await notes.post("bids.asked", {"capability": "look_up", "reason": "I know how."})
        await a.cancel(run)
        asked = await asking
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "bid: look_up" in asked.stderr
    assert f"unanswered: run {run} ended before it was answered" in asked.stderr
