"""What do triggers cost whoever writes an entry, and what does a pick cost when much waits?

*Post*: an entry in a run with an agenda, while no, some or many capabilities wait for other topics; and one that makes an
activation. Held against one bare script that writes as much: a fact in two streams, a header, a place in an index, a version, an
operation.

*Pick*: claiming the control task, looking at the agenda, committing one pick, claiming its task and ending it; while much
waits, held against little.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from benchmarks.measure import Sample, in_turn, timed
from benchmarks.report import Row, rows
from blackboard.agenda import PAGE, Agenda, Pick, View
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.events import AgendaDecidedData, PickedActivation, RatedActivation, RoundPlannedData
from blackboard.plan import Undecided, specs
from blackboard.testing import RedisServer
from blackboard.triggers import AgendaTerms, Declared, Trigger
from blackboard.types import Limits, Status, TaskSpec

CONTENT = {"supplier": "Acme Holdings", "amount": 1204.5, "currency": "EUR", "note": "x" * 100}
RAW, TRIGGERS = "a bare script that writes as much", "post that makes an activation"
_RAW = """
local at = redis.call('XADD', KEYS[1], '*', 'type', 'entry.posted', 'subject', ARGV[1], 'id', ARGV[1] .. ':1', 'data', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'type', 'entry.posted', 'subject', ARGV[1], 'id', ARGV[1] .. ':1', 'run',
  ARGV[3], 'at', at, 'data', '')
redis.call('HINCRBY', KEYS[3], 'claims.bench', 1)
redis.call('ZADD', KEYS[4], 0, 'claims.bench\\0' .. at .. '\\0' .. ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1],
  cjson.encode({topic = 'claims.bench', ver = 1, state = 'live', first = at, pos = at, last = at}))
redis.call('HSET', KEYS[6], ARGV[4], ARGV[1] .. ' 1 ' .. at)
return {ARGV[1], at}
"""


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return (
        await cost((0, 50), (10, 100), 20, 1, say)
        if quick
        else await cost((0, 100, 10_000), (100, 10_000), 300, 3, say)
    )


async def cost(
    triggers: Sequence[int], waiting: Sequence[int], count: int, repetitions: int, say: Callable[[str], None]
) -> list[Row]:
    """The rows, with so many triggers that do not fit, so many activations that wait, and so many units a repetition."""
    with RedisServer(tcp=True) as server:
        out: list[Row] = []
        for number in triggers:
            async with await Board.open(server.url, board=f"t{number}") as board:
                out += await _posted(board, number, count, repetitions, say)
        async with await Board.open(server.url, board="picks") as board:
            out += await _picked(board, waiting, max(10, count // 10), repetitions, say)
        return out


async def _declare(board: Board, count: int, topic: Callable[..., str]) -> None:
    """Triggers of as many capabilities, written at once: how they come there is not what is measured."""
    every = [Declared.of(f"c{n:05}", "v", 0, "work", "*", Trigger(topic=topic(n))) for n in range(count)]
    fields = {f"t:{one.key}": one.stored() for one in every} | {f"c:{one.capability}": f"1 {one.key}" for one in every}
    for shard in board.shards:
        await cast(Any, board.client).hset(shard.triggers, mapping={**fields, "": str(secrets.randbelow(1 << 40))})


async def _driven(board: Board) -> tuple[str, Entries]:
    run = await board.submit("go", agenda=AgendaTerms(concurrency=1), limits=Limits(seconds=86_400))
    (step,) = await board.claim("w", [STEP_LANE])
    task = TaskSpec(key="open", tool_use_id="t", capability="open", lane="nobody", seconds=86_400)
    message: dict[str, Any] = {"role": "assistant", "content": [{"text": "…"}]}
    await board.commit_step(step, RoundPlannedData(round=1, message=message), [task], Limits())
    return run, Entries(board, f"run:{run}")


async def _posted(board: Board, triggers: int, count: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    await _declare(board, triggers, lambda n: f"other.{n}")
    await board.triggers.write("fits", "1", [Declared.of("fits", "v", 0, "work", "*", Trigger(topic="claims.hit"))])
    run, entries = await _driven(board)
    client = cast(Any, board.client)
    raw = client.register_script(_RAW)
    keys = [f"raw:{{{run}}}:{n}" for n in range(6)]

    async def bare() -> None:
        name = f"{run}/e/{secrets.token_hex(12)}"
        data = json.dumps({"content": CONTENT, "topic": "claims.bench", "confidence": 1.0, "version": 1})
        await raw(keys=keys, args=[name, data, run, secrets.token_hex(12)])

    post, hit = f"post with {triggers:,} triggers that do not fit", f"{TRIGGERS}, among {triggers:,}"
    measured = await in_turn(
        {
            post: lambda: timed(lambda: entries.post("claims.bench", CONTENT), count),
            hit: lambda: timed(lambda: entries.post("claims.hit", CONTENT), count),
            RAW: lambda: timed(bare, count),
        },
        repetitions, say,
    )  # fmt: skip
    return rows("agenda", measured, [post, hit], [RAW])


async def _picked(
    board: Board, waiting: Sequence[int], count: int, repetitions: int, say: Callable[[str], None]
) -> list[Row]:
    named: dict[str, Callable[[], Awaitable[Sample]]] = {}
    for number in waiting:
        say(f"making {number:,} wait")
        await _declare(board, number + count * (repetitions + 1), lambda _, number=number: f"storm.{number}")
        run, entries = await _driven(board)
        await entries.post(f"storm.{number}", CONTENT)
        agenda, lane = Agenda(board, run), f"picked{number}"
        control = await _control(board)
        while (view := await agenda.view()).fresh:
            await _decide(agenda, control, view, None, lane)
            control = await _control(board)
        held = [control]

        async def one(agenda: Agenda = agenda, held: list[Claim] = held, lane: str = lane) -> None:
            await _decide(agenda, held[0], await agenda.view(best=24), 0, lane)
            (task,) = await board.claim("w", [lane])
            await board.complete(task, task.completion(Status.SUCCEEDED, 1))
            held[0] = await _control(board)

        named[f"one pick while {number:,} wait"] = lambda one=one: timed(one, count)
    measured = await in_turn(named, repetitions, say)
    least = next(iter(named))
    return rows("agenda", measured, [*named], [least])


async def _control(board: Board) -> Claim:
    while not (found := await board.claim("w", [STEP_LANE])):
        pass
    return found[0]


async def _decide(agenda: Agenda, claim: Claim, view: View, pick: int | None, lane: str) -> None:
    rated = tuple(RatedActivation(number=one.number, rating=float(one.number % 97)) for one in view.fresh[:PAGE])
    picks: list[Pick] = []
    said: tuple[PickedActivation, ...] = ()
    if pick is not None:
        best = view.best[pick]
        task = TaskSpec(key=f"@{best.number}", tool_use_id="t", capability=best.capability, lane=lane, input=CONTENT)
        ((spec, given),) = specs(Undecided(agenda.run_id, claim.round), [task], Limits())
        picks = [Pick(best.number, spec, given, lane)]
        said = (
            PickedActivation(
                number=best.number, task=f"{agenda.run_id}/{claim.round}.@{best.number}", rating=0, why="first"
            ),
        )
    told = AgendaDecidedData(strategy="priority", strategy_version="terms", rated=rated, picked=said)
    await agenda.decide(claim, 1, told, picks, ends=True, facts=view.facts, rated_all=True)
