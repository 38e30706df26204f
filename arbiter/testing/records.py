"""The end of the second story: what is kept of people, needs and peers beside runs.

A person permits a request that would carry a secret, and approves a task; tasks wait for something outside; needs that
capabilities served are learnt and forgotten, and so are example needs; what somebody wrote is erased; what counts no more
leaves a log; what is held under a lease is confirmed or given back; a peer is heard of; versions are tried beside the active one;
an event is handed out.
"""

from __future__ import annotations

import asyncio
import contextlib

from pydantic import JsonValue

from arbiter.sdk import Arbiter
from blackboard.approval import Terms
from blackboard.callbacks import LEAST_SECONDS
from blackboard.compaction import compact
from blackboard.entry_taking import LEASE_SECONDS
from blackboard.erasure import erase
from blackboard.errors import BadInput, Conflict, Fenced, LeaseLost, ScriptRefused, UnknownRecord
from blackboard.events import Author
from blackboard.example_needs import ExampleNeeds, Illustrations
from blackboard.lessons import Lessons
from blackboard.peers import Peers
from blackboard.permits import Permits, Question
from blackboard.sealing import verify
from blackboard.types import Failure, RetryPolicy, RetryRule, Status
from registry import Manifest, Version

LANE = "records"
"""Nobody serves it: the story claims from it itself."""
_QUESTION = Question(
    "fetch", "0" * 64, ("token@example.com",), ("mail:inbox",), "POST", "https://example.com/", (("a", "b"),), b"body"
)
_TERMS = Terms(86_400.0 * 30, "refuse", (), (), 86_400.0)
_AGAIN = RetryPolicy(
    max_attempts=20,
    rules=(
        RetryRule(errors=("callback_timeout",), retry=False),
        RetryRule(errors=("callback_silent", "lease_lost"), retry=True, interval_seconds=0.01, cap_seconds=0.01),
    ),
)
"""A process that dies takes the token along that it was given; another attempt makes another one."""
_AT_ONCE_SECONDS = 0.01
_NEED = "twice as much"
_LASTING_SECONDS = 86_400.0 * 300
_HALVE = Manifest.of({"name": "halve", "description": "Halve a number.", "input_schema": {"type": "object"}})
_SHARE = 0.5
_PROVEN = 3
"""Tasks after which another version is compared with one, when none has failed."""
_WORSE = 5
"""Tasks of either after which one that always fails is worse than one that never does."""


async def permitted(a: Arbiter) -> JsonValue:
    """A task asks whether its request may carry a secret, and a person says that it may."""
    permits = Permits(a.board)
    run = await a.board.submit_call("fetch", 1, lane=LANE, idempotency_key="permitted")
    while (await a.board.summary(run)).ended_at is None:
        for claim in await a.board.claim("records", [LANE]):
            with contextlib.suppress(Fenced):
                if (await permits.ask(claim, _QUESTION)).state == "waiting":
                    await permits.approve(_QUESTION.id_for(claim.task_id), sources=_QUESTION.sources, by="desk")
                await a.board.complete(claim, claim.completion(Status.SUCCEEDED, data={"done": True}))
    return [f"{each.state} by {each.by}" for each in await permits.list(everything=True) if each.run_id == run]


async def approved(a: Arbiter) -> JsonValue:
    """A task waits for a person, and one says that it may be done."""
    run = await a.board.submit_call("pay", 1, lane=LANE, idempotency_key="approved")
    while (await a.board.summary(run)).ended_at is None:
        for claim in await a.board.claim("records", [LANE]):
            with contextlib.suppress(Fenced):
                if claim.said is None:
                    await a.board.ask_person(claim, 1, _TERMS)
                else:
                    await a.board.complete(claim, claim.completion(Status.SUCCEEDED, data={"said": claim.said.state}))
        for waiting in await a.approvals.list(run_id=run):
            with contextlib.suppress(ScriptRefused):  # it was answered before this process died
                await a.approvals.approve(waiting.id, by="desk")
    return (await a.show(run)).data


async def called_back(a: Arbiter) -> JsonValue:
    """A task waits for something outside, which says that it goes on and then comes; another waits for what never does."""
    told: list[JsonValue] = []
    for name, seconds in (("comes", _TERMS.seconds), ("never", _AT_ONCE_SECONDS)):
        run = await a.board.submit_call(name, 1, lane=LANE, retry=_AGAIN, idempotency_key=name)
        while (await a.board.summary(run)).ended_at is None:
            for claim in await a.board.claim("records", [LANE]):
                with contextlib.suppress(Fenced, ScriptRefused):  # it took too long, and another attempt follows
                    token = await a.board.open_callback(claim, sources=["callback:desk"])
                    await a.board.wait_for_callback(
                        claim, seconds, LEAST_SECONDS, sources=["callback:desk"], repeatable=False
                    )
                    if name == "comes":
                        called = await a.board.called(token)
                        await a.board.beat_callback(called, by="desk")
                        await a.board.complete_callback(called, {"done": True}, by="desk")
            await asyncio.sleep(0.01)
        (task,) = (await a.show(run)).state.work
        assert task.completion is not None
        error = task.completion.error
        told.append(error.type if error else task.completion.data)
    return told


async def taught(a: Arbiter) -> JsonValue:
    """A need is learnt of a run, and what another run taught is forgotten, which is nothing.

    A lesson that comes once more after it was forgotten is learnt anew: the run it is of lies on another shard.
    """
    lessons = Lessons(a.board.catalog)
    run = await a.board.submit_call("teach", 1, lane="nobody", idempotency_key="taught")
    await a.board.cancel_run(run)
    await lessons.learn(run, "default", 1.0, [("double", _NEED)])
    await lessons.follow()
    await lessons.calibrate(None, "desk", {}, operation="calibrated")
    await lessons.forget_run(f"{run}x")
    told = (await Lessons(a.board.catalog).follow()).changed  # what planned runs taught is there, sooner or later
    return any(need.text == _NEED for needs in told.values() for need in needs)


async def forgotten(a: Arbiter) -> JsonValue:
    """What somebody wrote is erased, and what others wrote stays."""
    notes = a.entries
    with contextlib.suppress(Conflict, ScriptRefused):  # it was erased, and its operation with it
        gone = await notes.post(
            "records.private", "mine", author=Author(kind="person", name="ann"), operation="private"
        )
        await notes.amend(gone.id, "still mine", author=Author(kind="person", name="ann"), operation="private still")
    await notes.post("records.public", "ours", operation="public")
    await erase(a.board, author="ann", by="desk")
    return [entry.content for entry in (await notes.query("records.*")).entries]


async def compacted(a: Arbiter) -> JsonValue:
    """What was superseded and retracted leaves the log of a session, and what it says now stays."""
    desk = a.entries.within("session:desk")
    with contextlib.suppress(ScriptRefused):  # it was retracted, or nothing is left of it
        gone = await desk.post("records.draft", "no", operation="draft")
        await desk.retract(gone.id, operation="no draft")
    kept = await desk.post("records.price", 1, operation="price")
    await desk.amend(kept.id, 2, operation="price again")
    done = await compact(a.board, "session:desk", older_than=0, by="desk")
    found = await desk.query("records.*")
    then = [entry.content for entry in (await desk.query("records.*", at=done.readable_from)).entries]
    return [[entry.content for entry in found.entries], then, list((await verify(desk)).faults)]


async def leased(a: Arbiter) -> JsonValue:
    """What is held under a lease is renewed and confirmed; what is given back another has for good."""
    desk = a.entries.within("session:leases")
    for name in ("held", "borrowed"):
        await desk.post(f"records.{name}", name, operation=name)
    held = await desk.take("records.held", lease_seconds=LEASE_SECONDS, operation="holds")
    assert held is not None
    assert held.fence is not None
    await desk.renew(held.id, held.fence, LEASE_SECONDS, operation="goes on")
    await desk.confirm(held.id, held.fence, operation="is done")
    with contextlib.suppress(LeaseLost):  # it was given back
        borrowed = await desk.take("records.borrowed", lease_seconds=LEASE_SECONDS, operation="borrows")
        assert borrowed is not None
        assert borrowed.fence is not None
        await desk.give_back(borrowed.id, borrowed.fence, operation="gives back")
    taken = await desk.take("records.borrowed", operation="takes")
    found = await desk.query("records.*")
    return [
        held.content,
        None if taken is None else taken.content,
        len(found.entries),
        list((await verify(desk)).faults),
    ]


async def heard(a: Arbiter) -> JsonValue:
    """A peer answers one process and not another, which leaves."""
    peers = Peers(a.board.catalog)
    await peers.say("mcp:files", "one", "up", seconds=_LASTING_SECONDS, tools=3)
    await peers.say("mcp:files", "two", "down", seconds=_LASTING_SECONDS, reason="refused")
    await peers.leave("mcp:files", "two")
    # A copy that comes late may say again what holds no more, as a process that lives would.
    return [f"{each.peer} {each.process}" for each in (await peers.heard()).said if each.state == "up"]


async def illustrated(a: Arbiter) -> JsonValue:
    """Example needs of two capabilities are written, and those of one are forgotten."""
    writer = Illustrations(a.board.catalog)
    for name in ("double", "ask_again"):
        written = ExampleNeeds((_NEED,), "0" * 64, "desk")
        await writer.begin(name, written.contract, "desk")
        await writer.keep(name, "desk", written)
    await writer.give_up("double", "desk")
    await writer.forget(["ask_again"])
    told = (await Lessons(a.board.catalog).follow()).illustrated
    return {name: [*found.needs] for name, found in told.items() if found is not None}


async def tried(a: Arbiter) -> JsonValue:
    """Of two versions that are tried beside the active one, one after the other, what the second does ends it; a person lets the
    first take the place of the active one."""
    registry = a.registry
    active = await registry.register(_HALVE, source=_halving("/"), operation="halves")
    await _used(a, active, range(_PROVEN))
    first = await registry.register(_HALVE, source=_halving("//"), activate=False, operation="halves whole")
    with contextlib.suppress(BadInput):  # it has taken the place
        await registry.activate(first.name, first.sha, canary=_SHARE, operation="tries whole")
    second = await registry.register(_HALVE, source=_halving("%"), canary=_SHARE, operation="halves badly")
    await _used(a, active, range(_PROVEN, _PROVEN + _WORSE))
    await _used(a, second, range(_WORSE), Failure(type="handler_error", message="It does not halve."))
    await registry.reflect([(second.name, second.sha)])
    with contextlib.suppress(BadInput):
        await registry.activate(first.name, first.sha, canary=_SHARE, operation="tries whole again")
    await registry.activate(first.name, first.sha, operation="halves whole for all")
    told = (await a.audit.list(f"subject~{_HALVE.name}")).entries
    states: list[JsonValue] = [(await registry.resolve(each.name, each.sha)).state for each in (active, first, second)]
    return [states, ", ".join(sorted(each.kind for each in told))]


def _halving(operator: str) -> str:
    return f"def handler(number):\n    return number {operator} 2\n"


async def _used(a: Arbiter, version: Version, numbers: range, error: Failure | None = None) -> None:
    """Tasks of a version, which all end alike."""
    status = Status.SUCCEEDED if error is None else Status.FAILED
    for number in numbers:
        run = await a.board.submit_call(
            version.name,
            number,
            lane=LANE,
            version=version.sha,
            retry=_AGAIN,
            idempotency_key=f"{version.sha} {number}",
        )
        while (await a.board.summary(run)).ended_at is None:
            for claim in await a.board.claim("records", [LANE]):
                with contextlib.suppress(Fenced):
                    await a.board.complete(claim, claim.completion(status, error=error))


async def subscribed(a: Arbiter) -> JsonValue:
    """Somebody follows all runs, is done with one event, and follows them no more."""
    while True:
        try:
            async with a.subscribe("desk", kinds=["run.accepted"], after="beginning", lease_seconds=1) as events:
                event = await anext(events)
                await events.done()
            await a.subscriptions.remove("desk")
            return event.kind
        except UnknownRecord:  # another life has removed it
            continue
