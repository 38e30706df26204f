"""Large values through the whole loop, and the states a planner keeps between the steps of a run."""

from __future__ import annotations

import json
from typing import Any

from arbiter_support import FUNCTIONS, answers, arbiter, call, completions

from arbiter import capability
from arbiter.fold import fold
from arbiter.narration import one_line
from arbiter.planner import Planner
from arbiter.states import States
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.events import RunAccepted
from blackboard.testing import RedisServer
from wrapper.models.quoting import unquoted

assert answers


@capability
async def letters(rows: list[dict[str, Any]]) -> int:
    """Count the letters of rows."""
    return sum(len(row["text"]) for row in rows)


async def test_a_large_result_is_shown_shortened_and_is_passed_on_whole_in_the_same_and_in_a_later_turn(
    redis_server: RedisServer,
) -> None:
    plan = call(
        "post_plan",
        tasks=[
            {"key": "made", "capability": "rows", "input": {"count": 10_000}},
            {"key": "now", "capability": "letters", "input": {"rows": {"$ref": "made"}}},
        ],
    )
    turns = [plan, call("letters", rows={"$ref": "made"}), call("echo", text={"$ref": "made#/9999/text"}), "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, letters)) as (a, model):
        result = await a.run("Count.", timeout=30)
        done = completions(result)
        assert (done["now"].data, done["letters"].data, done["echo"].data) == (500_000, 500_000, "x" * 50)
        large = done["made"].data
        assert isinstance(large, Blob)
        assert len(await a.board.load(result.run_id, large)) == 10_000  # type: ignore[arg-type]
    block = model.calls[1].messages[2]["content"][0]["toolResult"]["content"][0]
    shown = json.loads(unquoted(block["text"]))["tasks"]["made"]["data"]
    assert shown["contains"] == "list of 10000"
    assert shown["bytes"] == large.bytes
    assert shown["beginning"].startswith('[{"n":0,')
    assert '{"$ref": "made"}' in shown["note"]
    assert len(json.dumps(model.calls[3].messages)) < 20_000
    assert len(result._repr_html_()) < 60_000
    assert "bytes stored apart" in one_line(large)


async def test_a_large_request_reaches_the_model_and_one_too_large_for_it_can_be_passed_on(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["ok"]) as (a, model):
        text = "word " * 100_000
        result = await a.run(text, timeout=30)
        assert result.answer == "ok"
        assert unquoted(model.calls[0].messages[0]["content"][0]["text"]) == text
        assert isinstance(result.state.request, Blob)
    huge = {"rows": [{"n": n, "text": "y" * 100} for n in range(20_000)]}
    turns = [call("letters", rows={"$ref": "request#/rows"}), "{{ results.letters }}"]
    async with arbiter(redis_server.url, turns, capabilities=(letters,)) as (a, model):
        result = await a.run(huge, timeout=30)
        assert result.answer == "2000000", result.error
        assert len(model.calls[0].messages[0]["content"][0]["text"]) < 4_000


async def test_a_result_larger_than_before_arrives_and_output_bytes_bounds_it(redis_server: RedisServer) -> None:
    @capability
    def text(size: int) -> str:
        """Return that many characters."""
        return "z" * size

    turns = [[call("text", size=5_000_000), call("text", size=9_000_000)], "done"]
    async with arbiter(redis_server.url, turns, capabilities=(text,)) as (a, _):
        done = completions(await a.run("Go.", timeout=30))
    assert isinstance(done["text"].data, Blob)
    assert done["text"].data.bytes == 5_000_002
    assert done["text_2"].error is not None
    assert done["text_2"].error.type == "result_too_large"


async def test_a_run_whose_request_is_gone_ends_with_the_word_for_it(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never"], roles=(), capabilities=()) as (client, _):
        run_id = await client.submit("word " * 100_000)
        await client.board.blobs.delete_run(run_id)
        name = client.board.name
        from arbiter import Arbiter, ScriptedModel

        async with Arbiter(redis_server.url, ScriptedModel(["never"]), board=name, roles=("arbiter",)) as server:
            result = await server.result(run_id, timeout=60)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.type == "blob_missing"


# ---- kept states ---------------------------------------------------------------------------------------------------


async def test_a_step_reads_only_what_is_new_and_knows_all(redis_server: RedisServer, monkeypatch: Any) -> None:
    read: list[tuple[str, int]] = []
    real = Board.history

    async def history(self: Board, run_id: str, after: str = "-") -> Any:
        found = await real(self, run_id, after)
        read.append((after, len(found)))
        return found

    monkeypatch.setattr(Board, "history", history)
    turns = [*(call("add", a=n, b=1) for n in range(6)), "done"]
    async with arbiter(redis_server.url, turns) as (a, model):
        result = await a.run("Add.", timeout=30)
    assert result.answer == "done"
    assert [after == "-" for after, _ in read] == [True, *[False] * 6]
    assert max(count for _, count in read[1:]) <= 6
    for number, asked in enumerate(model.calls):
        assert len(asked.messages) == 1 + 2 * number


async def test_steps_taken_by_processes_in_turn_see_the_whole_run(redis_server: RedisServer, board_name: str) -> None:
    """Two planners with a cache each: neither misses what the other one decided."""
    from arbiter import Arbiter, ScriptedModel
    from blackboard.attempt import Attempt
    from registry import Registry

    turns = [*(call("add", a=n, b=1) for n in range(5)), "done"]
    models = [ScriptedModel(turns), ScriptedModel(turns)]
    async with Arbiter(redis_server.url, board=board_name, roles=(), capabilities=FUNCTIONS) as a:
        run_id = await a.submit("Add.")
        registry = Registry(a.board.catalog, a.board.outcomes)
        planners = [Planner(registry, lambda m=model: m) for model in models]
        for number in range(6):
            while not (found := await a.board.claim("p", ["arbiter"])):
                await a.board.wait_for_work(["arbiter"], 1)
            await planners[number % 2].handle(Attempt(a.board, found[0]))
        state = fold(run_id, await a.board.history(run_id))
    assert (state.status, state.answer, len(state.rounds)) == ("succeeded", "done", 6)
    for model, first in zip(models, (0, 1), strict=True):
        assert [len(asked.messages) for asked in model.calls] == [1 + 2 * n for n in range(first, 6, 2)]


async def test_a_run_that_was_removed_and_submitted_again_is_read_anew(board: Board) -> None:
    states = States()
    run_id = await board.submit("first", idempotency_key="k")
    (step,) = await board.claim("w", ["arbiter"])
    known = await states.read(board, step)
    assert known.state.request == "first"
    states.keep(board, known)
    await board.complete(step, step.completion(status="failed"))  # type: ignore[arg-type]
    from blackboard.retention import retire

    await retire(board, run_id)
    assert await board.submit("second", idempotency_key="k") == run_id
    (step,) = await board.claim("w", ["arbiter"])
    known = await states.read(board, step)
    assert known.state.request == "second"
    assert sum(isinstance(event, RunAccepted) for event in await board.history(run_id)) == 1


async def test_the_kept_states_are_bounded_and_the_oldest_go_first(board: Board) -> None:
    states = States(runs=2, size=3_000)
    for text in ("a", "b", "c"):
        await board.submit(text)
    steps = await board.claim("w", ["arbiter"], n=3)
    for step in steps:
        states.keep(board, await states.read(board, step))
    assert len(states) == 2
    await board.submit("x" * 5_000)
    (large,) = await board.claim("w", ["arbiter"])
    states.keep(board, await states.read(board, large))
    assert len(states) == 0, "one that is larger than the whole cache is not kept, nor what was pushed out by it"
