"""Requests from SQS: the real boto3 client against a local AWS; deleted once durable, once each, held while the board refuses."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_stage import came, led_to
from cli_process import Running, arbiter, until
from hypothesis import given
from hypothesis import strategies as st

from arbiter import Arbiter, BadInput, Quota, ScriptedModel
from arbiter.aws import receiving
from arbiter.aws.envelopes import from_eventbridge, request_of, text_of
from arbiter.aws.receiving import Receiver
from arbiter.testing import AwsStub, RedisServer
from blackboard.board import Board
from blackboard.errors import EngineUnavailable
from blackboard.events import RunAccepted

EVENT = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "order.placed", "data": {"n": 1}}
ENVELOPE = {
    "version": "0", "id": "e-1", "detail-type": "Object Created", "source": "aws.s3", "account": "123456789012",
    "time": "2026-01-31T08:00:00Z", "region": "eu-central-1", "resources": ["arn:aws:s3:::a", "arn:aws:s3:::b"],
    "detail": {"key": "x"},
}  # fmt: skip


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsStub]:
    with led_to(monkeypatch) as stub:
        yield stub


class Waits:
    """Stands for ``sleep``: says what was to be waited, and goes on when it is told to."""

    def __init__(self) -> None:
        self.waited: asyncio.Queue[float] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.waited.put_nowait(seconds)
        await self.go.acquire()

    async def one(self) -> float:
        return await asyncio.wait_for(self.waited.get(), 20)


@asynccontextmanager
async def received(
    client: Arbiter, url: str, submit: Any = None, sleep: Any = asyncio.sleep
) -> AsyncIterator[Receiver]:
    one = Receiver(url, submit or client.submit, sleep=sleep)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def client(redis_server: RedisServer, board_name: str) -> AsyncIterator[Arbiter]:
    async with Arbiter(redis_server.url, board=board_name, roles=()) as one:
        yield one


async def accepted(client: Arbiter) -> list[RunAccepted]:
    """Of each run."""
    found = [(await client.board.history(run.id))[0] for run in await client.runs()]
    assert all(isinstance(one, RunAccepted) for one in found)
    return found  # type: ignore[return-value]


async def test_a_queue_of_a_tenant_makes_its_runs_obeys_its_quotas_and_holds_up_no_other_queue(
    aws: AwsStub, client: Arbiter
) -> None:
    ours, theirs = aws.queue("ours"), aws.queue("theirs")
    await client.quotas.set(Quota(subject="tenant:acme", open_runs=1))
    waits = Waits()
    async with (
        received(client, f"acme={theirs}", sleep=waits) as held,
        received(client, ours) as free,
    ):
        aws.send(theirs, json.dumps(EVENT))
        aws.send(theirs, "One too many.")
        await waits.one()
        assert (held.state.tenant, held.state.accepted, held.state.held) == ("acme", 1, 1)
        aws.send(ours, json.dumps(EVENT))
        await came(lambda: free.state.accepted == 1)
        assert "theirs for acme: about" in await held.said()
    assert sorted(run.tenant for run in await client.runs()) == ["acme", "default"], (
        "the same event of two tenants is two"
    )


@pytest.mark.parametrize("given", ["Acme=https://sqs.eu-central-1.amazonaws.com/1/q", "acme=orders", "=https://q/1/q"])
def test_what_is_no_tenant_or_no_queue_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="from_sqs"):
        Arbiter("memory://", from_sqs=[given])


# ---- what a message asks for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ("Price an order.", "Price an order."),
        ('"Price an order."', "Price an order."),
        ('"Hello" is what they said', '"Hello" is what they said'),
        ("[urgent] order 12 failed", "[urgent] order 12 failed"),
        ('{"order": 12}', {"order": 12}),
        (json.dumps(EVENT), EVENT),
        (json.dumps({**ENVELOPE, "detail": EVENT}), EVENT),
        (
            json.dumps(ENVELOPE),
            {
                "specversion": "1.0", "id": "e-1", "source": "aws.s3", "type": "Object Created",
                "time": "2026-01-31T08:00:00Z", "datacontenttype": "application/json", "account": "123456789012",
                "region": "eu-central-1", "resources": "arn:aws:s3:::a arn:aws:s3:::b", "data": {"key": "x"},
            },
        ),
    ],
)  # fmt: skip
def test_a_message_is_text_an_object_a_cloudevent_or_an_event_of_a_bus(body: str, request_: Any) -> None:
    assert request_of(body) == request_


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (" ", "Send text"),
        ('{"a": 1, "a": 2}', "not strict JSON"),
        ('{"a": ', "not strict JSON"),
        (json.dumps({**EVENT, "id": ""}), "requires 'id'"),
        (json.dumps({**ENVELOPE, "id": 7}), "requires 'id'"),
    ],
)
def test_a_message_that_can_never_be_read_says_why(body: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        request_of(body)


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=4))
def test_an_event_of_ours_comes_back_from_a_bus_as_it_was(data: dict[str, Any]) -> None:
    event = RunAccepted.model_validate(
        {
            "id": "r:1", "source": "/arbiter/a/b", "type": "dev.arbiter.run.accepted.v1", "subject": "r",
            "time": "2026-01-31T08:00:00Z", "sequence": "1-0", "partitionkey": "r",
            "data": {"request": data, "tenant": "t", "limits": {}},
        }
    )  # fmt: skip
    detail = json.loads(text_of(event, 100_000))
    assert request_of(json.dumps({**ENVELOPE, "detail": detail})) == detail == event.model_dump(mode="json")
    assert from_eventbridge({**ENVELOPE, "detail": {"plain": 1}})["data"] == {"plain": 1}


# ---- receiving -----------------------------------------------------------------------------------------------------------


async def test_each_message_becomes_a_run_of_an_untrusted_source_and_is_deleted(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    ids = aws.send(url, "Price an order.", json.dumps(EVENT), '{"order": 12}')
    async with received(client, url) as one:
        await came(lambda: one.state.accepted == 3)
    assert aws.queues[url].deleted == ids
    runs = {json.dumps(run.data.request): run.data.taint for run in await accepted(client)}
    assert runs == {
        '"Price an order."': ("sqs:orders",),
        json.dumps(EVENT): ("event:/orders", "sqs:orders"),
        '{"order": 12}': ("sqs:orders",),
    }
    assert (one.state.accepted, one.state.refused, one.state.last_error) == (3, 0, None)


async def test_the_same_message_twice_and_the_same_event_in_two_messages_are_one_run(
    aws: AwsStub, client: Arbiter
) -> None:
    url = aws.queue("orders")
    by_hand = await client.submit(EVENT, sources=["event:/orders", "sqs:orders"])
    first, *events = aws.send(url, "Price an order.", json.dumps(EVENT), json.dumps({**ENVELOPE, "detail": EVENT}))
    aws.fail_entries("DeleteMessageBatch", "InternalError")
    async with received(client, url) as one:
        await came(lambda: "comes again" in (one.state.last_error or ""))
        assert aws.queues[url].deleted == events
        aws.passed(31)
        await came(lambda: one.state.accepted == 3)
    assert aws.queues[url].deleted == [*events, first]
    assert sorted(run.run_id == by_hand for run in await accepted(client)) == [False, True]


async def test_polls_are_long_and_one_follows_the_other(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")

    def polls() -> list[dict[str, Any]]:
        return [said for action, said in aws.asked if action == "ReceiveMessage"]

    async with received(client, url) as one:
        for count in (1, 2, 3):
            await came(lambda count=count: len(polls()) == count)  # type: ignore[misc]
            aws.end_poll()
        await came(lambda: len(polls()) == 4)
        aws.send(url, "Price an order.")
        await came(lambda: one.state.accepted == 1)
    assert {(said["WaitTimeSeconds"], said["MaxNumberOfMessages"]) for said in polls()} == {(20, 10)}


async def test_a_poll_that_nobody_waits_for_any_more_gives_back_what_it_receives(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    async with received(client, url):
        await came(lambda: aws.asked[-1:] != [] and aws.asked[-1][0] == "ReceiveMessage")
    aws.send(url, "Price an order.")
    await came(lambda: aws.asked[-1][0] == "ChangeMessageVisibilityBatch")
    async with received(client, url) as one:
        await came(lambda: one.state.accepted == 1)


async def test_what_can_never_be_accepted_is_left_to_the_redrive_policy_and_said(
    aws: AwsStub, client: Arbiter, caplog: pytest.LogCaptureFixture
) -> None:
    url = aws.queue("orders", most_receives=2)
    await client.submit(EVENT, sources=["event:/orders"])
    queue = aws.queues[url]
    poison, good, other = aws.send(url, '{"a": ', "Price an order.", json.dumps({**EVENT, "data": 2}))
    async with received(client, url) as one:
        await came(lambda: queue.deleted == [good])
        for refused in (2, 4):
            await came(lambda refused=refused: one.state.refused == refused)  # type: ignore[misc]
            aws.passed(31)
        await came(lambda: [each.id for each in queue.dead] == [poison, other])
    assert f"message {poison} can never be accepted" in caplog.text
    assert "not strict JSON" in caplog.text
    assert "different request" in caplog.text
    assert queue.deleted == [good]


async def test_while_the_board_is_full_messages_are_held_and_no_more_are_received(
    aws: AwsStub, client: Arbiter, caplog: pytest.LogCaptureFixture
) -> None:
    url = aws.queue("orders", most_receives=1)
    await client.quotas.set(Quota(subject="board", open_runs=1))
    queue, waits = aws.queues[url], Waits()
    ids = aws.send(url, *(f"Order {number}." for number in range(12)))
    async with received(client, url, sleep=waits) as one:
        seconds = await waits.one()
        assert (one.state.held, queue.deleted) == (9, ids[:1])
        hidden = [said for action, said in aws.asked if action == "ChangeMessageVisibilityBatch"][-1]["Entries"]
        assert {each["VisibilityTimeout"] for each in hidden} == {receiving.MARGIN_SECONDS + -(-seconds // 1)}
        waits.go.release()
        await waits.one()
        assert caplog.text.count("is not accepted yet") == 1
        assert [each.received for each in queue.messages] == [1] * 9 + [0] * 2, "nothing more was received"
        await client.quotas.remove("board")
        waits.go.release()
        await came(lambda: len(queue.deleted) == 12)
    assert queue.deleted == ids
    assert not queue.dead
    assert {run.data.request for run in await accepted(client)} == {f"Order {number}." for number in range(12)}


async def test_a_process_that_stops_gives_back_at_once_what_it_holds(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    waits = Waits()
    await client.quotas.set(Quota(subject="board", open_runs=1))
    ids = aws.send(url, "one", "two")
    async with received(client, url, sleep=waits):
        await waits.one()
    assert [each.hidden_until for each in aws.queues[url].messages] == [0.0]
    await client.quotas.remove("board")
    async with received(client, url):
        await came(lambda: aws.queues[url].deleted == ids)


async def test_a_board_that_cannot_be_reached_loses_no_message(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    waits, troubles = Waits(), [EngineUnavailable("the server is away")]

    async def submit(request: Any, **more: Any) -> str:
        if troubles:
            raise troubles.pop()
        return await client.submit(request, **more)

    ids = aws.send(url, "one", "two")
    async with received(client, url, submit, waits) as one:
        await waits.one()
        assert (one.state.held, aws.queues[url].deleted) == (2, [])
        waits.go.release()
        await came(lambda: aws.queues[url].deleted == ids)


async def test_messages_that_can_be_held_no_longer_are_left_to_come_again(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    waits = Waits()
    await client.quotas.set(Quota(subject="board", open_runs=1))
    aws.send(url, "one", "two", "three")
    aws.fail_entries("ChangeMessageVisibilityBatch", "InvalidParameterValue")
    async with received(client, url, sleep=waits) as one:
        await waits.one()
        assert one.state.held == 1
        await client.quotas.remove("board")
        waits.go.release()
        await came(lambda: one.state.accepted == 2)
        aws.passed(31)
        await came(lambda: one.state.accepted == 3)


async def test_a_queue_that_throttles_or_refuses_is_asked_again_later(aws: AwsStub, client: Arbiter) -> None:
    url = aws.queue("orders")
    waits = Waits()
    aws.fail("GetQueueAttributes", "AccessDenied", status=403)
    aws.fail("ReceiveMessage", "ThrottlingException")
    aws.send(url, "one")
    async with received(client, url, sleep=waits) as one:
        await waits.one()
        assert "Allow the action" in (one.state.last_error or "")
        waits.go.release()
        await waits.one()
        assert "ThrottlingException" in (one.state.last_error or "")
        waits.go.release()
        await came(lambda: one.state.accepted == 1)


# ---- as a daemon, and in a program ---------------------------------------------------------------------------------------


async def test_a_program_takes_requests_from_a_queue_and_answers_them(
    aws: AwsStub, redis_server: RedisServer, board_name: str
) -> None:
    url = aws.queue("orders")
    model = ScriptedModel(["Done."])
    async with Arbiter(redis_server.url, model, board=board_name, roles=["arbiter"], from_sqs=[url]) as a:
        aws.send(url, "Price an order.")
        await came(lambda: a.queues[0].accepted == 1)
        (run,) = await a.runs()
        assert (await a.result(run.id, timeout=20)).answer == "Done."
        await came(lambda: aws.asked[-1][0] == "ReceiveMessage")
    aws.send(url, "Price another.")
    await came(lambda: aws.asked[-1][0] == "ChangeMessageVisibilityBatch")
    assert aws.asked[-1][1]["Entries"][0]["VisibilityTimeout"] == 0, "what closed takes nothing more"
    for wrong, says in ((["nowhere"], "URL of a queue"), ([url, url], "once"), (url, "list")):
        with pytest.raises(BadInput, match=says):
            Arbiter("memory://wrong", roles=(), from_sqs=wrong)


def test_a_daemon_that_is_killed_between_accepting_and_deleting_loses_and_repeats_nothing(
    aws: AwsStub, redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    url = aws.queue("orders")
    on = ["--url", redis_server.url, "--board", board_name]
    (tmp_path / "model.json").write_text(json.dumps({"scenes": [{"turns": ["Done."]}]}))
    words = ["serve", "--roles", "arbiter", "--model", f"scripted:{tmp_path / 'model.json'}", "--from-sqs", url, *on]
    queue = aws.queues[url]

    async def runs() -> int:
        async with await Board.open(redis_server.url, board=board_name) as board:
            return len(await board.runs(10))

    with aws.held("DeleteMessageBatch"), Running(*words, env=aws.environment) as daemon:
        daemon.wait_for("ready")
        assert any("queue" in line and "orders: about 0 messages; no redrive policy" in line for line in daemon.said)
        (id,) = aws.send(url, "Price an order.")
        until(lambda: any(action == "DeleteMessageBatch" for action, _ in aws.asked), "the deletion")
        daemon.signal(signal.SIGKILL)
        daemon.process.wait()
    assert queue.deleted == []
    assert asyncio.run(runs()) == 1
    aws.passed(31)
    with Running(*words, env=aws.environment) as daemon:
        until(lambda: queue.deleted == [id], "the second deletion")
        assert asyncio.run(runs()) == 1
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0, "a poll that goes on keeps nothing from ending"


def test_the_doctor_says_whether_queues_and_buses_are_there(
    aws: AwsStub, redis_server: RedisServer, board_name: str
) -> None:
    url = aws.queue("orders")
    on = ["--url", redis_server.url, "--board", board_name]
    assert arbiter("webhooks", "set", "crm", "eventbridge:nowhere", *on).returncode == 0
    missing = "https://sqs.eu-west-1.amazonaws.com/123456789012/missing"
    said = arbiter("doctor", "--json", "--from-sqs", url, "--from-sqs", missing, *on, env=aws.environment).stdout
    found = [one for one in map(json.loads, said.splitlines()) if one["name"] == "aws"]
    assert [(one["level"], one["remedy"][:8]) for one in found] == [
        ("ok", ""),
        ("fail", "Name the"),
        ("fail", "Name one"),
    ]
