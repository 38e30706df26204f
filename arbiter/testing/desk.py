"""A second story: what operators and programs do to work that goes on, beside planning it.

Budgets, quotas and pacing; direct calls, a retry that was asked to wait, poison; letters that are put back and discarded;
tasks and runs that are cancelled, paused and resumed; entries that are written, changed and taken; an inquiry whose capabilities
volunteer; a schedule; versions that are retired, signed, revoked and tried; a run that is taken to another board and removed;
what is kept beside runs, see :mod:`arbiter.testing.records`. Together with :mod:`arbiter.testing.story` it makes every script
call of the board.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import JsonValue

from arbiter.calls import Call
from arbiter.inquiry import Inquiry, Posting
from arbiter.run_files import export_run, import_run
from arbiter.sdk import Arbiter
from arbiter.testing import records
from arbiter.testing.clock import Clock
from arbiter.testing.story import Scene
from blackboard.board import Board
from blackboard.budgets import LEASE_SECONDS, Amounts, Budget, Budgets, Level
from blackboard.entries import Entries
from blackboard.errors import Conflict, Fenced, ScriptRefused, UnknownRecord
from blackboard.quotas import Quota
from blackboard.retention import retire, trim
from blackboard.triggers import AgendaTerms, Query, Trigger
from blackboard.types import RetryPolicy, RetryRule, Status
from registry import Manifest, capability
from registry.signing import key_id
from wrapper.context import current_task
from wrapper.failing import Permanent, RetryLater

if TYPE_CHECKING:
    from strands.models import Model

HELD_LANE = "desk"
"""Nobody serves it: the story claims from it itself."""
_SOON = RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01)
_PATIENT = RetryPolicy(max_attempts=20, interval_seconds=0.1, cap_seconds=0.1)
"""Of what writes on the board itself: it outlasts a server that has no memory left for a while."""
_RULED = RetryPolicy(
    max_attempts=20,
    rules=(
        RetryRule(errors=("lease_lost",), interval_seconds=0.01, cap_seconds=0.01),
        RetryRule(errors=("retry_later",), interval_seconds=0.01, cap_seconds=0.01),
    ),
)
_SHORT = Amounts(tokens=5)
_PERIOD_SECONDS = 600.0
_PAUSE_SECONDS = 20.0
_LASTING_SECONDS = 86_400.0 * 300


@capability(effects="pure", retry=_SOON)
def double(number: int) -> dict[str, int]:
    """Double a number.

    Args:
        number: which
    """
    return {"number": 2 * number}


@capability(effects="reads", retry=_RULED)
def ask_again(number: int) -> dict[str, int]:
    """Be busy the first time.

    Args:
        number: any
    """
    task = current_task()
    if task is not None and task.attempt == 1:
        raise RetryLater(0.01, "busy")
    return {"number": number}


@capability(effects="reads", retry=_SOON)
def break_down() -> None:
    """Fail for good."""
    raise Permanent("it is broken")


_waiting: set[str] = set()


@capability(effects="reads", retry=_SOON)
async def wait_long() -> None:
    """Wait until somebody says stop."""
    task = current_task()
    run = task.run_id if task is not None else ""
    _waiting.add(run)
    try:
        await asyncio.sleep(600)
    finally:
        _waiting.discard(run)


@capability(effects="pure")
def outdated() -> None:
    """Be replaced by something better."""


_open: list[Arbiter] = []
"""What the capabilities below write through."""


def _board_of(run: str) -> Entries:
    return _open[-1].entries.within(f"run:{run}")


@capability(effects="reads", retry=_SOON, triggers=[Trigger(topic="ask.question", bind={"number": "content"})])
async def wait_for_word(number: int) -> int:
    """Wait until somebody writes a word.

    Args:
        number: any
    """
    task = current_task()
    assert task is not None
    while not (await _board_of(task.run_id).query("ask.word")).entries:
        await asyncio.sleep(0.01)
    return number


@capability(
    effects="writes", retry=_PATIENT,
    triggers=[Trigger(topic="ask.question", requires=Query(topic="ask.word"), bind={"number": "content"})],
)  # fmt: skip
async def answer(number: int) -> int:
    """Answer once there is a word.

    Args:
        number: what is asked
    """
    task = current_task()
    assert task is not None
    await _board_of(task.run_id).post("ask.answer", 2 * number, task=task, operation="answer")
    return number


_ECHO = Manifest.of({"name": "echo", "description": "Say it back.", "input_schema": {"type": "object"}})
_ECHO_SOURCE = "def handler(**given):\n    return given\n"


def desk_model() -> Model:
    """What plans the only run of :func:`desk` that is planned."""
    from wrapper.models import ScriptedModel

    return ScriptedModel(
        [{"tool": "double", "input": {"number": 4}}, "It is {{ results.double.number }}."], usage=(100, 10)
    )


async def desk(scene: Scene) -> JsonValue:
    """One thing after the other, each found again when it was done before."""
    options = {
        "capabilities": (double, ask_again, break_down, wait_long, wait_for_word, answer), "model": desk_model(),
        "roles": ("arbiter", "wrapper"),
        "budgets": (Budget(level="board", tokens=10**9), Budget(level="board/day", tokens=10**9)), "retention": None,
    }  # fmt: skip
    steps: tuple[Callable[[Arbiter], Awaitable[JsonValue]], ...] = (
        _unbounded, _bounds, _reservations, _calls, _poison, _cancelled, _paused, _noted, _volunteered, _scheduled,
        _retired, _signed, _recorded, _letters, records.permitted, records.approved, records.called_back,
        records.taught, records.forgotten, records.compacted, records.leased, records.heard, records.illustrated,
        records.tried, records.subscribed,
    )  # fmt: skip
    async with scene.arbiter(**options) as a:
        _open.append(a)
        return {step.__name__: await step(a) for step in steps}


async def _unbounded(a: Arbiter) -> JsonValue:
    """A call that no quota counts yet: the usual one."""
    run = await a.board.submit_call("plain", 1, lane=HELD_LANE, idempotency_key="plain")
    await _worked(a, run)
    return await _ended(a, run)


async def _bounds(a: Arbiter) -> JsonValue:
    await a.quotas.set(Quota(subject="board", at_once=8, per_second=1000, burst=100, open_runs=50))
    await a.quotas.set(
        Quota(subject=f"model:{a.model_label}", at_once=4, per_second=1000, burst=100, tokens_per_minute=10**8)
    )
    return [one.quota.subject for one in await a.quotas.report()]


async def _reservations(a: Arbiter) -> JsonValue:
    """One whose process falls silent, and one that is settled."""
    budgets, levels = Budgets(a.board), [Level("board"), Level("board/day")]
    await budgets.reserve("desk/silent", levels, _SHORT)
    await Clock(a.board).advance(LEASE_SECONDS + 1, sweep=False)  # those of a process that was killed lapse with it
    for _ in range(50):  # not for ever: a copy of the reservation that comes late holds it once more
        if not (await budgets.report("board"))[0].units["tokens"].reserved:
            break
        await asyncio.sleep(0.02)
    hold = await budgets.reserve("desk/spent", levels, _SHORT)
    assert hold is not None
    await budgets.settle(hold, Amounts(tokens=3))
    return [one.level for one in await a.budgets()]


async def _calls(a: Arbiter) -> JsonValue:
    doubled = await a.submit(Call("double", {"number": 2}), idempotency_key="call")
    asked = await a.submit(Call("ask_again", {"number": 3}), idempotency_key="asked")
    return [await _ended(a, doubled), await _ended(a, asked)]


async def _poison(a: Arbiter) -> JsonValue:
    """A task that everybody gives back."""
    retry = RetryPolicy(max_attempts=3, interval_seconds=0.01)
    run = await a.board.submit_call("given_back", 1, lane=HELD_LANE, retry=retry, idempotency_key="poison")
    while (await a.board.summary(run)).ended_at is None:
        for claim in await a.board.claim("desk", [HELD_LANE]):
            with contextlib.suppress(Fenced):
                await a.board.release(claim)
    return await _ended(a, run)


async def _cancelled(a: Arbiter) -> JsonValue:
    """A task that runs, and one that waits."""
    runs = await a.submit(Call("wait_long"), idempotency_key="runs")
    waits = await a.board.submit_call("nobody", 1, lane="nobody", idempotency_key="waits")
    while runs not in _waiting and (await a.board.summary(runs)).ended_at is None:
        await asyncio.sleep(0.01)
    for run in (runs, waits):
        await a.cancel_task(f"{run}/0.call")
    return [await _ended(a, runs), await _ended(a, waits)]


async def _paused(a: Arbiter) -> JsonValue:
    """A run that goes on when somebody says so, and one that does by itself."""
    told = await a.board.submit_call("told", 1, lane=HELD_LANE, idempotency_key="told")
    await a.pause(told)
    await a.board.resume_run(told, [HELD_LANE])
    await _worked(a, told)
    waits = await a.board.submit_call("waited", 1, lane=HELD_LANE, idempotency_key="waited")
    await a.pause(waits, seconds=_PAUSE_SECONDS)
    if (await a.board.summary(waits)).ended_at is None:
        await Clock(a.board).advance(_PAUSE_SECONDS + 1, sweep=False)
    await _worked(a, waits)
    return [await _ended(a, told), await _ended(a, waits)]


async def _worked(a: Arbiter, run: str) -> None:
    while (await a.board.summary(run)).ended_at is None:
        for claim in await a.board.claim("desk", [HELD_LANE]):
            with contextlib.suppress(Fenced):
                await a.board.complete(claim, claim.completion(Status.SUCCEEDED, data={"done": True}))
        await asyncio.sleep(0.01)


async def _noted(a: Arbiter) -> JsonValue:
    """Entries of a tenant, and one that a task writes under its lease."""
    notes = a.entries
    await notes.set_schema("desk.>", {"type": "object"})
    first = await notes.post("desk.claim.first", {"n": 1}, operation="first")
    second = await notes.post("desk.claim.second", {"n": 2}, links=[("contradicts", first.id)], operation="second")
    await notes.amend(first.id, {"n": 3}, operation="amended")
    await notes.retract(second.id, "settled", operation="retracted")
    await notes.post("desk.todo", {"n": 4}, seconds=_LASTING_SECONDS, operation="todo")
    taken = await notes.take("desk.todo", operation="taken")
    run = await a.board.submit_call("noting", 1, lane=HELD_LANE, idempotency_key="noting")
    mine = notes.within(f"run:{run}")
    while (await a.board.summary(run)).ended_at is None:
        for claim in await a.board.claim("desk", [HELD_LANE]):
            with contextlib.suppress(Fenced):
                await mine.post("desk.note", {"n": 5}, task=claim, operation="note")
                await a.board.complete(claim, claim.completion(Status.SUCCEEDED, data={"done": True}))
        await asyncio.sleep(0.01)
    found = [*(await notes.query("desk.>")).entries, *(await mine.query()).entries]
    told: list[JsonValue] = [[one.topic, one.content, one.version] for one in found]
    return [told, None if taken is None else taken.content, (await notes.topic_version("desk.claim.second"))]


async def _volunteered(a: Arbiter) -> JsonValue:
    """An inquiry whose answer is parked until there is a word, and promoted by a person meanwhile."""
    asked = Inquiry([Posting("ask.question", 21)], AgendaTerms(until=Query(topic="ask.answer")))
    run = await a.submit(asked, idempotency_key="volunteered")
    agenda = a.agenda(run)
    while True:
        waits = next((one for one in await agenda.activations() if one.capability == "answer"), None)
        if waits is not None and waits.state != "waiting":
            break
        await asyncio.sleep(0.01)
    with contextlib.suppress(ScriptRefused):  # it was picked already, or the run is over
        await agenda.promote(waits.id, by="desk", reason="first", operation="promote")
    with contextlib.suppress(ScriptRefused):
        await a.entries.within(f"run:{run}").post("ask.word", "go", operation="word")
    return await _ended(a, run)


async def _scheduled(a: Arbiter) -> JsonValue:
    """The first occurrence becomes a run; then the schedule rests."""
    known = await a.schedule("often", "Double four.", rate="10 minutes", catch_up="last")
    if known.last_run is None:
        await Clock(a.board).advance(_PERIOD_SECONDS, sweep=False)
    while (known := await a.schedules.get("often")).last_run is None:
        await asyncio.sleep(0.02)
    await a.schedules.disable("often")
    assert known.last_run is not None
    return await _ended(a, known.last_run)


async def _retired(a: Arbiter) -> JsonValue:
    made = await a.registry.register(outdated.manifest, operation="desk made it")
    await a.registry.retire(made.manifest.name, made.sha, operation="desk retired it")
    return (await a.registry.resolve(made.manifest.name, made.sha)).state


async def _signed(a: Arbiter) -> JsonValue:
    """A version is vouched for once more and then revoked for ever; a key is trusted for a while."""
    registry, trust = a.registry, a.registry.trust
    made = await registry.register(_ECHO, source=_ECHO_SOURCE, operation="desk signed it")
    with contextlib.suppress(ScriptRefused):  # it was revoked before
        await registry.sign(made.name, made.sha)
    revoked = await registry.revoke(made.name, made.sha)
    public = Ed25519PrivateKey.from_private_bytes(b"of the desk of the crash matrix.").public_key().public_bytes_raw()
    with contextlib.suppress(ScriptRefused):
        await trust.add(key_id(public), public.hex(), by="desk")
    await trust.revoke(key_id(public), by="desk")
    return [revoked.state, len((await trust.read()).keys)]


async def _recorded(a: Arbiter) -> JsonValue:
    """A token is made and revoked, each once on record; and something is that no other script changes."""
    if not any(token.name == "desk" for token in (await a.tokens.list()).tokens):
        await a.tokens.create("desk", ["runs:read"], by="desk")
    for token in (await a.tokens.list()).tokens:
        await a.tokens.revoke(token.id, by="desk")
    await a.audit.note("secret.used", "desk", by="desk")
    told = (await a.audit.list("by~desk kind=token.*")).entries
    noted = (await a.audit.list("by~desk kind=secret.used")).entries
    return {"told": ", ".join(sorted(entry.kind for entry in told)), "noted": bool(noted)}


async def _letters(a: Arbiter) -> JsonValue:
    """A letter that is put back. What was made of it ends in a letter too, which is discarded; its run leaves the board."""
    failed = await a.submit(Call("break_down"), idempotency_key="failed")
    ended = await _ended(a, failed)
    again = await a.dead_letters.redrive(failed)
    with contextlib.suppress(UnknownRecord):
        await a.board.summary(again)  # else it was removed already
        await _ended(a, again)
        await a.dead_letters.discard(again)
        await _taken_away(a, again)
    there = [one.id for one in (await a.dead_letters.list("kind=call type=permanent")).letters]
    return [ended, there == [failed]]


async def _taken_away(a: Arbiter, run: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        path.write_text("".join([line async for line in export_run(a.board, run)]), "utf-8")
        async with await Board.open(a.board.engine.url, board=a.board.name + "-archive") as archive:
            with contextlib.suppress(Conflict):  # it is there already
                await import_run(archive, path)
    await trim(a.board, await retire(a.board, run))


async def _ended(a: Arbiter, run: str) -> JsonValue:
    """The end of a run without what may differ: times, attempts, workers."""
    ended = await a.result(run)
    data = [task.completion.data if task.completion else None for task in ended.state.work]
    return {
        "status": ended.status, "answer": ended.answer, "error": ended.error.type if ended.error else None, "data": data
    }  # fmt: skip
