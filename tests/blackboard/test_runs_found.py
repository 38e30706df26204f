"""Finding runs by what they are: filters, order, pages."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from blackboard import runs
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.runs import Where, find, moment, span

NOW = 1_800_000_000.0


async def stored(board: Board, number: int, **more: Any) -> str:
    """A run as its header and index entry say; no script would make so many so fast."""
    run_id = f"r{number:05}"
    header = {"tenant": "acme", "sha": "", "text": f"request {number}", "state": "succeeded", "at": (NOW + number) * 1000,
              "ended": (NOW + number + 2) * 1000, "round": 1, "n": 2, "ver": 3, **more}  # fmt: skip
    shard = board.shard_of(run_id)
    await board.client.hset(shard.runs, run_id, json.dumps(header))
    await board.client.zadd(shard.index, {run_id: header["at"]})
    return run_id


async def ids(board: Board, text: str, **more: Any) -> list[str]:
    return [run.id for run in (await find(board, Where.parse(text, now=NOW), **more)).runs]


async def test_each_term_and_all_together_find_what_they_say(board: Board) -> None:
    a = await stored(board, 1, state="failed", text="Check the Invoice of May")
    b = await stored(board, 2, state="failed", tenant="zeta", n=20)
    c = await stored(board, 3, state="timed_out", round=9)
    d = await stored(board, 4, state="succeeded", ended=(NOW + 500) * 1000, text="another invoice")
    assert await ids(board, "") == [d, c, b, a]
    assert await ids(board, "status=failed") == [b, a]
    assert await ids(board, "status=failed,timed_out tenant=acme") == [c, a]
    assert await ids(board, "text~INVOICE") == [d, a]
    assert await ids(board, 'text~"invoice of"') == [a]
    assert await ids(board, "tasks>=20") == [b]
    assert await ids(board, "rounds>1 rounds<=9") == [c]
    assert await ids(board, "seconds>60") == [d]
    assert await ids(board, "status=queued") == []
    since = Where.parse("").model_copy(update={"since": NOW + 2, "until": NOW + 4})
    assert [run.id for run in (await find(board, since)).runs] == [c, b]


async def test_real_runs_are_found_by_their_state(board: Board) -> None:
    one, two = await board.submit("first", tenant="acme"), await board.submit("second")
    await board.cancel_run(one)
    assert [run.id for run in (await find(board, Where.parse("status=cancelled since=1h", now=time.time()))).runs] == [
        one
    ]
    assert [run.id for run in (await find(board, Where(status=("queued",)))).runs] == [two]
    assert (await find(board)).runs == tuple(await board.runs())


@pytest.mark.parametrize("page", [1, 2, 3, 500])
async def test_pages_follow_one_another_without_gap_or_repetition(
    board: Board, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_PAGE", page)
    same_time = {"at": (NOW + 3) * 1000}
    made = [await stored(board, n, **(same_time if 3 <= n <= 8 else {}), round=n % 2) for n in range(12)]
    found, after = list[str](), None
    while True:
        turn = await find(board, Where.parse("rounds>=1"), limit=2, after=after)
        found += [run.id for run in turn.runs]
        after = turn.after
        if after is None:
            break
        if len(found) == 2:  # what comes and goes between pages disturbs nobody
            await stored(board, 99, round=1)
            gone = found[-1]
            await board.client.zrem(board.shard_of(gone).index, gone)
    assert found == [run_id for run_id in reversed(made) if int(run_id[1:]) % 2]


@pytest.mark.parametrize("page", [1, 3])
async def test_runs_of_several_shards_come_in_one_order(
    board: Board, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blackboard import _keys

    monkeypatch.setattr(runs, "_PAGE", page)
    board.shards = [_keys.Shard(board.namespace, board.name, k) for k in range(3)]
    made = [await stored(board, n, at=(NOW + n // 4) * 1000) for n in range(20)]
    found, after = list[str](), None
    while True:
        turn = await find(board, limit=3, after=after)
        found += [run.id for run in turn.runs]
        after = turn.after
        if after is None:
            break
    assert found == made[::-1]


async def test_a_call_looks_at_a_bounded_number_of_runs_and_says_where_to_go_on(board: Board) -> None:
    await asyncio.gather(*(stored(board, n, state="failed" if n == 0 else "succeeded") for n in range(30)))
    first = await find(board, Where.parse("status=failed"), look_at=20)
    assert (first.runs, first.examined) == ((), 20)
    second = await find(board, Where.parse("status=failed"), look_at=20, after=first.after)
    assert [run.id for run in second.runs] == ["r00000"]


@pytest.mark.parametrize(
    "text",
    ["status=lost", "status=", "tenant", "size>3", "rounds=3", "rounds>many", "since=yesterday", "text=x", "status~f", "x",
     "status=failedtenant=acme;", 'text~"open'],
)  # fmt: skip
def test_a_term_that_cannot_be_understood_is_refused_with_a_remedy(text: str) -> None:
    if text == "status=failedtenant=acme;":
        with pytest.raises(BadInput, match="several with commas"):
            Where.parse(text)
        return
    with pytest.raises(BadInput) as refused:
        Where.parse(text)
    assert refused.value.field.startswith("where")
    assert refused.value.remedy


async def test_a_position_that_is_none_is_refused(board: Board) -> None:
    with pytest.raises(BadInput):
        await find(board, after="next")
    with pytest.raises(BadInput):
        await find(board, limit=0)


def test_times_are_ages_or_dates() -> None:
    assert moment("90s", now=NOW) == NOW - 90
    assert moment("1.5h", now=NOW) == NOW - 5400
    assert moment("2026-01-31T08:00+00:00", now=NOW) == 1769846400
    assert (span("7d"), span("2w")) == (604_800, 1_209_600)
    for wrong in ("7", "d", "-1d", "7 days"):
        with pytest.raises(BadInput):
            span(wrong)
