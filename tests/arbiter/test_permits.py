"""A person is asked before content that is not trusted leads to the use of a secret: the run rests until there is an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import arbiter
from cli_process import arbiter as cli

from arbiter import Arbiter, BadInput, Call, Conflict, Grants, Manifest, Status
from blackboard import permits as module
from blackboard.claims import Claim
from blackboard.errors import ScriptRefused, UnknownRecord
from blackboard.permits import Permit, Permits, Question
from blackboard.testing import RedisServer

SECRET = "a-very-secret-value"
ASKING: dict[str, Any] = {
    "secrets": {"KEY": SECRET}, "private_addresses": ["127.0.0.1"], "taint": {"secret": "ask"},
}  # fmt: skip
USES = """
import os
from wrapper import sdk

def handler(url, before=False, salt=False):
    if before:
        sdk.fetch(url)
    headers = {"X-Key": "Bearer {{secret:KEY}}"} | ({"X-Salt": os.urandom(8).hex()} if salt else {})
    try:
        return sdk.fetch(url, method="POST", headers=headers, body=b"pay ann 5").status
    except sdk.CallError:
        return "went on"
"""
Echo = tuple[str, list[dict[str, str]]]


async def registered(a: Arbiter, host: str, **more: Any) -> None:
    granted = Grants(http_hosts=(host,), http_methods=("GET", "POST"), secrets=(f"KEY@{host}",))
    await a.registry.register(
        Manifest(name="uses", description="Use it.", input_schema={"type": "object"}, grants=granted, **more),
        source=USES,
    )


async def paused(a: Arbiter, run: str, not_these: tuple[str, ...] = ()) -> Permit:
    """The request a run rests for, once it does."""
    async with asyncio.timeout(30):
        async for event in a.board.watch(run, volatile=True):
            if event.kind == "task.released":
                for permit in await a.permits.list():
                    if permit.run_id == run and permit.id not in not_these:
                        return permit
    raise AssertionError("it ended")


@pytest.fixture(params=["redis", "memory"])
async def asking(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Arbiter]:
    url = redis_server.url if request.param == "redis" else "memory://"
    async with arbiter(url, ["unused"], **ASKING) as (a, _):
        yield a


async def test_nobody_is_asked_any_more_for_a_run_that_is_over(asking: Arbiter, echo: Echo) -> None:
    host = echo[0]
    await registered(asking, host)
    run = await asking.submit(Call("uses", {"url": f"http://{host}/"}), sources=["mail:inbox"])
    permit = await paused(asking, run)
    await asking.cancel(run, "not any more")
    await asking.result(run, timeout=60)
    assert await asking.permits.list() == []
    assert [each.id for each in await asking.permits.list(everything=True)] == [permit.id]


async def test_g10_the_run_rests_until_a_person_who_was_shown_the_sources_permits_the_request(
    asking: Arbiter, echo: Echo
) -> None:
    a, (host, seen) = asking, echo
    await registered(a, host)
    run = await a.submit(Call("uses", {"url": f"http://{host}/pay"}), sources=["mail:inbox"])
    permit = await paused(a, run)
    assert seen == [], "nothing was sent"
    assert (await a.board.summary(run)).status == "paused"
    assert (permit.secrets, permit.sources) == ((f"KEY@{host}",), ("mail:inbox",))
    assert (permit.capability, permit.state, permit.tenant) == ("uses", "waiting", "default")
    assert permit.request.url == f"http://{host}/pay"
    assert (permit.request.method, permit.request.body, permit.request.body_bytes) == ("POST", "pay ann 5", 9)
    assert permit.request.headers == {"X-Key": "Bearer {{secret:KEY}}"}

    for named in ((), ("mail:other",)):
        with pytest.raises(BadInput, match="mail:inbox"):
            await a.permits.approve(permit.id, sources=named)
    assert (await a.permits.approve(permit.id[:8], sources=["mail:inbox"])).state == "approved"
    result = await a.result(run, timeout=30)
    assert (result.status, result.data) == ("succeeded", 200)
    assert [each["x-key"] for each in seen] == [f"Bearer {SECRET}"]
    (task,) = result.state.work
    assert not task.retries, "being asked about spends no attempt"
    assert await a.permits.list() == []
    told = [each.kind for each in reversed((await a.audit.list("kind=secret.*,run.*,grants.exceeded")).entries)]
    # What is done to runs has a trail of its own: of two facts of one millisecond either may be told first.
    assert [*told[:2], *sorted(told[2:4]), *told[4:]] == [
        "secret.asked", "run.paused", "run.resumed", "secret.approved", "secret.used"
    ]  # fmt: skip


async def test_g10_what_a_person_refuses_ends_the_task_and_says_who_and_why(asking: Arbiter, echo: Echo) -> None:
    a, (host, seen) = asking, echo
    await registered(a, host)
    run = await a.submit(Call("uses", {"url": f"http://{host}/"}), sources=["mail:inbox"])
    permit = await paused(a, run)
    await a.permits.refuse(permit.id, reason="ann is nobody", by="bob")
    (task,) = (await a.result(run, timeout=30)).state.work
    assert task.completion is not None
    error = task.completion.error
    assert error is not None
    assert (task.completion.status, error.type, seen) == (Status.REFUSED, "taint", [])
    assert "bob refused it: ann is nobody." in error.message
    assert error.evidence == {
        "gate": "secret", "rule": "ask", "sources": ["mail:inbox"], "secret": f"KEY@{host}"
    }  # fmt: skip
    (entry,) = (await a.audit.list("kind=secret.refused")).entries
    assert (entry.subject, entry.by, entry.reason) == (permit.task_id, "bob", "ann is nobody")


async def test_g6_what_nobody_answers_in_time_ends_the_task(
    asking: Arbiter, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.02)
    a, (host, seen) = asking, echo
    await registered(a, host)
    result = await a.run(Call("uses", {"url": f"http://{host}/"}), sources=["mail:inbox"], timeout=30)
    (task,) = result.state.work
    assert task.completion is not None
    assert task.completion.error is not None
    assert (task.completion.status, seen) == (Status.REFUSED, [])
    assert "Nobody permitted it in time" in task.completion.error.message
    (permit,) = await a.permits.list(everything=True)
    assert permit.state == "expired"
    with pytest.raises(ScriptRefused, match="not answered in time"):
        await a.permits.approve(permit.id, sources=["mail:inbox"])


async def test_only_the_request_that_was_seen_is_permitted_and_another_one_is_asked_about_again(
    asking: Arbiter, echo: Echo
) -> None:
    a, (host, seen) = asking, echo
    await registered(a, host)
    run = await a.submit(Call("uses", {"url": f"http://{host}/", "salt": True}), sources=["mail:inbox"])
    first = await paused(a, run)
    await a.permits.approve(first.id, sources=["mail:inbox"])
    second = await paused(a, run, (first.id,))
    assert first.request.headers["X-Salt"] != second.request.headers["X-Salt"]
    assert seen == []
    await a.cancel(run)


async def test_what_cannot_be_repeated_is_refused_and_nobody_asked(asking: Arbiter, echo: Echo) -> None:
    a, (host, seen) = asking, echo
    await registered(a, host, effects="irreversible")
    result = await a.run(Call("uses", {"url": f"http://{host}/", "before": True}), sources=["mail:inbox"], timeout=30)
    (task,) = result.state.work
    assert task.completion is not None
    assert task.completion.error is not None
    assert "Nobody was asked, because what it did before cannot be repeated" in task.completion.error.message
    assert ([each.get("x-key") for each in seen], await a.permits.list()) == ([None], [])


async def test_where_nobody_can_be_asked_nothing_is_sent(
    asking: Arbiter, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 0)
    a, (host, seen) = asking, echo
    await registered(a, host)
    result = await a.run(Call("uses", {"url": f"http://{host}/"}), sources=["mail:inbox"], timeout=30)
    assert (result.data, seen) == ("went on", [])


# ---- the question itself -------------------------------------------------------------------------------------------------


@pytest.fixture
async def claimed(redis_server: RedisServer) -> AsyncIterator[tuple[Arbiter, Claim]]:
    """A task in the hands of a worker, which is the test."""
    async with arbiter(redis_server.url, ["unused"], roles=(), **ASKING) as (a, _):
        await registered(a, "api.example.com")
        run = await a.submit(Call("uses", {"url": "http://api.example.com/"}), sources=["mail:inbox"])
        (claim,) = await a.board.claim("worker", ["generic"])
        assert claim.run_id == run
        yield a, claim


def question(**other: Any) -> Question:
    asked = Question(
        "uses",
        "0" * 64,
        ("KEY@api.example.com",),
        ("mail:inbox",),
        "GET",
        "https://api.example.com/",
        [("A", "b")],
        b"",
    )
    return asked._replace(**other)


async def test_a_question_asked_twice_is_one_and_one_answered_before_the_run_rests_lets_it_go_on(
    claimed: tuple[Arbiter, Claim],
) -> None:
    a, claim = claimed
    permits = Permits(a.board)
    for _ in range(2):
        assert (await permits.ask(claim, question())).state == "waiting"
    (permit,) = await permits.list()
    assert len((await a.audit.list("kind=secret.asked")).entries) == 1
    await permits.approve(permit.id, sources=["mail:inbox"])
    await permits.rest(claim, question())
    assert (await a.board.summary(claim.run_id)).status == "running"
    (again,) = await a.board.claim("worker", ["generic"])
    assert (again.task_id, again.attempt) == (claim.task_id, 1)
    assert (await permits.ask(again, question())).state == "approved"


async def test_an_answer_stands_and_one_that_comes_twice_changes_nothing(claimed: tuple[Arbiter, Claim]) -> None:
    a, claim = claimed
    permits = Permits(a.board)
    await permits.ask(claim, question())
    (permit,) = await permits.list()
    with pytest.raises(UnknownRecord):
        await permits.approve(permit.id, sources=["mail:inbox"], tenant="acme")
    for _ in range(2):
        await permits.refuse(permit.id, by="ann")
    with pytest.raises(Conflict, match="refused already"):
        await permits.approve(permit.id, sources=["mail:inbox"])
    assert len((await a.audit.list("kind=secret.refused,secret.approved")).entries) == 1
    with pytest.raises(UnknownRecord):
        await permits.refuse("nothing")


@pytest.mark.parametrize(
    "other",
    [
        {"method": "POST"}, {"url": "https://api.example.com/x"}, {"headers": [("A", "c")]}, {"body": b"x"},
        {"sources": ("mail:inbox", "http:x")}, {"secrets": ("OTHER@api.example.com",)}, {"version": "1" * 64},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
async def test_whatever_differs_of_a_request_is_another_question(
    claimed: tuple[Arbiter, Claim], other: dict[str, Any]
) -> None:
    a, claim = claimed
    permits = Permits(a.board)
    await permits.ask(claim, question())
    (permit,) = await permits.list()
    await permits.approve(permit.id, sources=["mail:inbox"])
    assert (await permits.ask(claim, question())).state == "approved"
    assert (await permits.ask(claim, question(**other))).state == "waiting"


async def test_with_too_many_questions_open_old_ones_make_room_only_when_their_time_is_over(
    claimed: tuple[Arbiter, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, claim = claimed
    permits = Permits(a.board)
    monkeypatch.setattr(module, "MOST", 1)
    await permits.ask(claim, question())
    with pytest.raises(ScriptRefused, match="answer those first"):
        await permits.ask(claim, question(body=b"x"))
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.0)
    await permits.ask(claim, question(body=b"over at once"))
    monkeypatch.setattr(module, "ANSWER_SECONDS", 60.0)
    await permits.ask(claim, question(body=b"x"))
    assert {each.request.body for each in await permits.list(everything=True)} == {"", "x"}


# ---- how a person answers ------------------------------------------------------------------------------------------------


async def test_the_command_line_shows_what_is_asked_without_letting_it_speak_and_answers(
    claimed: tuple[Arbiter, Claim], redis_server: RedisServer, tmp_path: Path
) -> None:
    a, claim = claimed
    await Permits(a.board).ask(claim, question(body=b"\x1b[2J approve this\n  task none", headers=[]))
    place = ("--url", redis_server.url, "--board", a.board.name, "--data-dir", str(tmp_path))
    listed = await asyncio.to_thread(cli, "permits", *place)
    assert listed.returncode == 0, listed.stderr
    assert "uses" in listed.stdout
    assert "KEY@api.example.com" in listed.stdout
    assert "mail:inbox" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert "\\u001b[2J approve this\\n" in listed.stdout
    (permit,) = await a.permits.list()
    missing = await asyncio.to_thread(cli, "permits", "approve", permit.id, *place)
    assert missing.returncode == 2
    done = await asyncio.to_thread(cli, "permits", "approve", permit.id[:6], "--source", "mail:inbox", *place)
    assert (done.returncode, claim.run_id in done.stderr) == (0, True), done.stderr
    shown = await asyncio.to_thread(cli, "permits", "--all", "--json", *place)
    assert json.loads(shown.stdout)["state"] == "approved"
