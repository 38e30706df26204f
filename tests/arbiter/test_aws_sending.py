"""Webhooks that go to EventBridge and SQS: the real boto3 client against a local AWS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_stage import came, led_to
from http_site import running

from arbiter import BadInput, Webhook, delivering
from arbiter.aws import sending
from arbiter.aws.envelopes import request_of
from arbiter.cli import main
from arbiter.delivering import Delivery
from arbiter.testing import AwsStub, RedisServer
from blackboard.board import Board
from blackboard.events import Event
from blackboard.subscriptions import Subscriptions
from blackboard.webhooks import Hooked, Webhooks
from wrapper.secrets import Secrets

ARN = "arn:aws:events:eu-west-1:123456789012:event-bus/ours"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsStub]:
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.05)
    with led_to(monkeypatch) as stub:
        stub.buses["ours"] = []
        yield stub


async def soon(seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def sent_by(board: Board, **more: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(Delivery(board, Secrets, **{"sleep": soon, **more}).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hook(**more: Any) -> Webhook:
    return Webhook(**{"name": "h", "url": "eventbridge:ours", "kinds": ["run.accepted"], **more})


async def fares(board: Board) -> Hooked:
    found = await Webhooks(board).get("h")
    assert found is not None
    return found


def requests(aws: AwsStub, action: str) -> list[list[dict[str, Any]]]:
    return [said["Entries"] for asked, said in aws.asked if asked == action]


async def test_events_go_to_a_bus_as_they_are_many_at_a_time_and_back_from_it(redis_board: Board, aws: AwsStub) -> None:
    url = aws.queue("copies")
    aws.route("ours", url)
    await Webhooks(redis_board).set(hook())
    runs = [await redis_board.submit(f"r{number}") for number in range(12)]
    async with sent_by(redis_board):
        await came(lambda: len(aws.buses["ours"]) == 12)
    assert [len(entries) for entries in requests(aws, "PutEvents")] == [10, 2]
    envelope = aws.buses["ours"][0]
    (event, *_) = await redis_board.history(runs[0])
    assert (envelope["source"], envelope["detail-type"]) == (redis_board.source, "dev.arbiter.run.accepted.v1")
    assert envelope["resources"] == [runs[0]]
    assert envelope["detail"] == event.model_dump(mode="json")
    assert [request_of(message.body) for message in aws.queues[url].messages] == [
        each["detail"] for each in aws.buses["ours"]
    ]


async def test_a_bus_by_its_arn_is_sent_to_in_its_region(redis_board: Board, aws: AwsStub) -> None:
    webhook = hook(url=f"eventbridge:{ARN}")
    assert webhook.aws is not None
    assert (webhook.aws.region, hook().aws.region) == ("eu-west-1", None)  # type: ignore[union-attr]
    await Webhooks(redis_board).set(webhook)
    async with sent_by(redis_board):
        await redis_board.submit("go")
        await came(lambda: len(aws.buses["ours"]) == 1)
    assert requests(aws, "PutEvents")[0][0]["EventBusName"] == ARN


async def test_events_that_are_not_taken_are_sent_again_alone_and_none_of_a_run_overtakes(
    redis_board: Board, aws: AwsStub
) -> None:
    await Webhooks(redis_board).set(hook(kinds=["run.*"]))
    runs = [await redis_board.submit(f"r{number}") for number in range(3)]
    for run in runs:
        await redis_board.cancel_run(run)
    aws.fail_entries("PutEvents", None, "ThrottlingException", "InternalFailure")
    aws.fail_entries("PutEvents", "ThrottlingException")
    aws.fail("PutEvents", "ThrottlingException")
    async with sent_by(redis_board):
        await came(lambda: len(aws.buses["ours"]) == 9)

        async def done() -> bool:
            return [one.done for one in await Subscriptions(redis_board).list()] == [9]

        async with asyncio.timeout(20):
            while not await done():
                await asyncio.sleep(0.01)
    tried = [
        [(one["Resources"][0], one["DetailType"].split(".")[3]) for one in entries]
        for entries in requests(aws, "PutEvents")
    ]
    first = [(run, "accepted") for run in runs]
    assert tried[:5] == [first, first[1:], first[1:2], first[1:2], [(run, "cancelling") for run in runs]]
    for run in runs:
        kinds = [each["detail-type"].split(".")[3] for each in aws.buses["ours"] if each["resources"] == [run]]
        assert kinds == ["accepted", "cancelling", "completed"]
    now = await fares(redis_board)
    assert (now.last_error, now.given_up) == (None, 0)


async def test_an_event_that_is_never_taken_is_given_up_and_what_was_sent_with_it_is_not(
    redis_board: Board, aws: AwsStub
) -> None:
    await Webhooks(redis_board).set(hook())
    runs = [await redis_board.submit(f"r{number}") for number in range(3)]
    aws.fail_entries("PutEvents", None, "MalformedDetail")
    async with sent_by(redis_board):
        await came(lambda: len(aws.buses["ours"]) == 2)
        async with asyncio.timeout(20):
            while (await fares(redis_board)).given_up != 1:
                await asyncio.sleep(0.01)
    assert (await fares(redis_board)).last_given_up == f"{runs[1]}:1"
    assert [each["resources"] for each in aws.buses["ours"]] == [[runs[0]], [runs[2]]]


async def test_a_bus_that_is_not_there_is_said_and_holds_what_waits(redis_board: Board, aws: AwsStub) -> None:
    await Webhooks(redis_board).set(hook(url="eventbridge:later"))
    async with sent_by(redis_board):
        await redis_board.submit("go")
        async with asyncio.timeout(20):
            while "Name one that is there" not in ((await fares(redis_board)).last_error or ""):
                await asyncio.sleep(0.01)
        aws.buses["later"] = []
        await came(lambda: len(aws.buses["later"]) == 1)


def event(number: int, text: str) -> Event:
    return Event.model_validate(
        {
            "id": f"r{number}:1", "source": "/arbiter/a/b", "type": "dev.arbiter.run.accepted.v1", "subject": f"r{number}",
            "time": "2026-01-31T08:00:00Z", "sequence": "1-0", "partitionkey": f"r{number}", "data": {"request": text},
        }
    )  # fmt: skip


async def test_requests_are_within_what_a_bus_takes_and_too_large_an_event_says_where_its_data_is(aws: AwsStub) -> None:
    third = sending.BATCH_BYTES // 3
    events = [event(0, "ä" * sending.BATCH_BYTES), *(event(number, "x" * (third - 2048)) for number in range(1, 7))]
    place = hook().aws
    assert place is not None
    assert await sending.Sender().send(place, events) == [(None, False)] * 7
    sizes = [sum(len(one["Detail"].encode()) for one in entries) for entries in requests(aws, "PutEvents")]
    assert sorted(len(entries) for entries in requests(aws, "PutEvents")) == [3, 4]
    assert max(sizes) < sending.BATCH_BYTES
    (first,) = [one["detail"] for one in aws.buses["ours"] if one["detail"]["id"] == "r0:1"]
    assert "data" not in first
    assert (first["id"], first["dataref"]) == ("r0:1", "/v1/runs/r0/events")


async def test_several_requests_take_no_longer_than_one_for_what_is_sent_is_held_for_a_minute(aws: AwsStub) -> None:
    place = hook().aws
    assert place is not None
    large = [event(number, "x" * (sending.BATCH_BYTES // 2)) for number in range(3)]
    with aws.held("PutEvents"):
        answers = asyncio.create_task(sending.Sender().send(place, large))
        await came(lambda: len(requests(aws, "PutEvents")) == 3)
    assert [never for _, never in await answers] == [False] * 3


@pytest.mark.parametrize("name", ["copies", "copies.fifo"])
async def test_events_go_to_a_queue_as_well(redis_board: Board, aws: AwsStub, name: str) -> None:
    url = aws.queue(name)
    await Webhooks(redis_board).set(hook(url=f"sqs:{url}"))
    runs = [await redis_board.submit(f"r{number}") for number in range(3)]
    aws.fail_entries("SendMessageBatch", None, "InternalError")
    async with sent_by(redis_board):
        await came(lambda: len(aws.queues[url].messages) == 3)
    messages = aws.queues[url].messages
    assert [json.loads(one.body)["subject"] for one in messages] == [runs[0], runs[2], runs[1]]
    assert len({one.group for one in messages}) == (3 if name.endswith(".fifo") else 1)


def test_an_address_of_aws_is_checked_and_takes_no_secret() -> None:
    for wrong, field in (
        ({"url": "eventbridge:"}, "url"),
        ({"url": "eventbridge:arn:aws:sns:eu-west-1:123456789012:x y"}, "url"),
        ({"url": "sqs:orders"}, "url"),
        ({"secret": "hook"}, "secret"),
        ({"url": "https://example.com/"}, "secret"),
    ):
        with pytest.raises(BadInput) as raised:
            hook(**wrong)
        assert raised.value.field == field, wrong
    found = hook(url="sqs:https://sqs.us-gov-west-1.amazonaws.com/123456789012/a").aws
    assert found is not None
    assert (found.region, found.name) == ("us-gov-west-1", "a")


def test_the_commands_set_and_try_a_bus(
    redis_server: RedisServer, board_name: str, aws: AwsStub, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ["--url", redis_server.url, "--board", board_name]
    assert main(["webhooks", "set", "h", "eventbridge:ours", *on]) == 0
    assert main(["webhooks", "test", "h", *on]) == 0
    assert capsys.readouterr().out.splitlines() == ["h  eventbridge:ours run.completed: on", "h: taken"]
    assert aws.buses["ours"][0]["detail-type"] == "dev.arbiter.webhook.test.v1"
    aws.fail("PutEvents", "AccessDeniedException")
    assert main(["webhooks", "test", "h", *on]) == 1
    assert "Allow the action" in capsys.readouterr().out
    assert main(["webhooks", "set", "h", "eventbridge:ours", "--secret", "hook", *on]) == 2
    assert main(["webhooks", "set", "h", "https://example.com/", *on]) == 2


async def test_a_token_does_not_send_with_the_credentials_of_the_daemon(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running(redis_server.url, tmp_path) as site:
        body = {"name": "h", "url": "eventbridge:ours"}
        token = await site.token("webhooks:write", "runs:read")
        refused = await site.client(token).post("/v1/webhooks", json=body)
        assert (refused.status_code, "credentials of the daemon" in refused.json()["detail"]) == (403, True)
        assert (await site.client().post("/v1/webhooks", json=body)).status_code == 201
