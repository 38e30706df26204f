"""Outgoing webhooks: signed, at least once, in order, again until taken or too old, and nobody held up by another."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from http_site import Site, running

from arbiter import BadInput, Webhook, delivering
from arbiter.cli import main
from arbiter.delivering import Delivery, signed
from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.subscriptions import Subscription, Subscriptions
from blackboard.testing import RedisServer
from blackboard.webhooks import Hooked, Webhooks
from wrapper.addresses import networks
from wrapper.secrets import Secrets

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
HANDLE = "hook"


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it is sent; answers as it is told, and 204 when it is told nothing."""

    seen: list[tuple[dict[str, str], bytes]]
    answers: list[tuple[int, dict[str, str]]]
    came: threading.Semaphore
    hold: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.came.release()
        self.hold.wait(30)
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        with contextlib.suppress(OSError):  # whoever sent it may be gone
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Place:
    """A receiver on loopback."""

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.came = threading.Semaphore(0)
        self.kind: Any = type("One", (Receiver,), {"seen": [], "answers": [], "came": self.came, "hold": self.hold})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.kind)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?of=arbiter"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def sent(self, count: int) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Headers and event of each message, once so many have come."""
        for _ in range(count):
            assert await asyncio.to_thread(self.came.acquire, timeout=20), f"only {len(self.kind.seen)} came"
        return [(headers, json.loads(body)) for headers, body in self.kind.seen]

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def place() -> Iterator[Place]:
    one = Place()
    yield one
    one.close()


class Time:
    """A clock that moves on by what is slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.ahead = 0.0

    def now(self) -> float:
        import time

        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead += seconds
        await asyncio.sleep(0)


def delivery(board: Board, time: Time | None = None, **more: Any) -> Delivery:
    time = time or Time()
    more = {"private": networks(["127.0.0.1"]), **more}
    return Delivery(board, lambda: Secrets({HANDLE: SECRET}), **more, now=time.now, sleep=time.sleep)


@contextlib.asynccontextmanager
async def delivering_by(*those: Delivery) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in those]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


async def fares(board: Board, name: str = "h") -> Hooked:
    found = await Webhooks(board).get(name)
    assert found is not None
    return found


def hook(place: Place, **more: Any) -> Webhook:
    return Webhook(**{"name": "h", "url": place.url, "secret": HANDLE, "kinds": ["run.accepted"], **more})


def genuine(headers: dict[str, str], body: bytes) -> bool:
    """As a receiver checks it, by the words of the specification."""
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    wanted = base64.b64encode(hmac.digest(KEY, content, hashlib.sha256)).decode()
    return wanted in [each.partition(",")[2] for each in headers["webhook-signature"].split() if each[:3] == "v1,"]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.05)


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of the reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_events_are_sent_as_signed_cloudevents_in_order(board: Board, place: Place) -> None:
    await Webhooks(board).set(hook(place, kinds=["run.*"], tenant="acme"))
    async with delivering_by(delivery(board)):
        await board.submit("other")
        run = await board.submit("go", tenant="acme")
        await board.cancel_run(run)
        messages = await place.sent(3)
        await until(lambda: _done(board, 3))
    assert all(genuine(headers, body) for headers, body in place.kind.seen)
    assert [event["id"] for _, event in messages] == [
        event.id for event in await board.history(run) if event.kind[:4] == "run."
    ]
    headers, event = messages[0]
    assert headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert headers["webhook-id"] == event["id"]
    assert (event["specversion"], event["type"], event["data"]["request"]) == (
        "1.0",
        "dev.arbiter.run.accepted.v1",
        "go",
    )
    headers["webhook-id"] += "x"
    assert not genuine(headers, place.kind.seen[0][1])


async def _done(board: Board, count: int) -> bool:
    (one,) = await Subscriptions(board).list()
    return one.done == count


async def test_what_is_not_taken_is_sent_again_with_jitter_and_not_before_the_receiver_says(
    board: Board, place: Place
) -> None:
    time = Time()
    place.kind.answers += [(500, {}), (503, {"Retry-After": "40"}), (302, {"Location": place.url}), (429, {})]
    await Webhooks(board).set(hook(place))
    async with delivering_by(delivery(board, time)):
        run = await board.submit("go")
        messages = await place.sent(5)
        await until(lambda: _done(board, 1))
    assert {headers["webhook-id"] for headers, _ in messages} == {f"{run}:1"}
    assert all(genuine(headers, body) for headers, body in place.kind.seen)
    first, *waits = time.slept
    assert 0 <= first <= 1
    assert waits[:3] == [15, 15, 10], "in parts, between which what is held is held longer"
    assert len({headers["webhook-timestamp"] for headers, _ in messages}) > 1
    now = await fares(board)
    assert (now.last_error, now.given_up, now.disabled) == (None, 0, None)


async def test_terms_that_somebody_died_while_changing_hold_nothing_up(board: Board, place: Place) -> None:
    await Webhooks(board).set(hook(place))
    subscriptions = Subscriptions(board)
    await subscriptions.remove("webhook.h")
    await subscriptions.add(Subscription(name="webhook.h", kinds=("run.completed",)))
    async with delivering_by(delivery(board)):
        await until(lambda: _kinds(board, ("run.accepted",)))
        run = await board.submit("go")
        ((headers, _),) = await place.sent(1)
    assert headers["webhook-id"] == f"{run}:1"


async def _kinds(board: Board, wanted: tuple[str, ...]) -> bool:
    return [one.kinds for one in await Subscriptions(board).list()] == [wanted]


async def test_what_is_never_taken_is_given_up_said_and_the_next_is_sent(
    board: Board, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    place.kind.answers += [(400, {}), *[(500, {})] * 7]
    await Webhooks(board).set(hook(place, age_seconds=60))
    runs = [await board.submit(f"r{number}") for number in range(3)]

    async def sleep(seconds: float) -> None:
        await Time.sleep(time, 10)

    time.sleep = sleep  # type: ignore[method-assign]
    board.random.uniform = lambda _, longest: min(longest, 10.0)  # type: ignore[method-assign]
    async with delivering_by(delivery(board, time)):
        await until(lambda: _done(board, 3))
    ids = [headers["webhook-id"] for headers, _ in place.kind.seen]
    assert ids[0] == f"{runs[0]}:1"
    assert ids.count(f"{runs[1]}:1") == 7, "one attempt each ten seconds, and one when it was too old"
    assert ids[-1] == f"{runs[2]}:1"
    now = await fares(board)
    assert (now.given_up, now.last_given_up) == (2, f"{runs[1]}:1")
    assert f"{runs[0]}:1 is given up: it answered 400" in caplog.text


async def test_a_receiver_that_is_gone_is_sent_nothing_until_it_is_set_again(board: Board, place: Place) -> None:
    place.kind.answers += [(410, {})]
    webhooks = Webhooks(board)
    await webhooks.set(hook(place))
    async with delivering_by(delivery(board)):
        run = await board.submit("go")
        await place.sent(1)

        async def off() -> bool:
            return (await fares(board)).disabled is not None

        await until(off)
        second = await board.submit("waits")
        assert (await fares(board)).disabled == "it answered 410"
        await webhooks.set(hook(place))
        messages = await place.sent(2)
    assert [event["id"] for _, event in messages] == [f"{run}:1", f"{run}:1", f"{second}:1"]
    found = (await Audit(board).list("kind=webhook.*")).entries
    assert [one.kind for one in reversed(found)] == ["webhook.set", "webhook.disabled", "webhook.set"]


async def test_a_receiver_that_does_not_answer_holds_up_no_other(board: Board, place: Place) -> None:
    other = Place()
    try:
        place.hold.clear()
        for name, where in (("slow", place), ("quick", other)):
            await Webhooks(board).set(hook(where, name=name))
        async with delivering_by(delivery(board)):
            runs = [await board.submit(f"r{number}") for number in range(3)]
            messages = await other.sent(3)
            await place.sent(1)
            waiting = {one.name: one.waiting + one.held for one in await Subscriptions(board).list()}
            place.hold.set()
        assert [event["id"] for _, event in messages] == [f"{run}:1" for run in runs]
        assert waiting["webhook.slow"] == 3, "its backlog is that of its subscription"
    finally:
        other.close()


async def test_what_a_process_that_died_was_sending_another_sends(board: Board, place: Place) -> None:
    await Webhooks(board).set(hook(place))
    place.hold.clear()
    async with delivering_by(delivery(board)):
        run = await board.submit("go")
        await place.sent(1)
    place.hold.set()
    async with delivering_by(delivery(board)):
        messages = await place.sent(1)
        await until(lambda: _done(board, 1))
    assert [headers["webhook-id"] for headers, _ in messages] == [f"{run}:1"] * 2


async def test_two_processes_send_each_event_once(board: Board, place: Place) -> None:
    await Webhooks(board).set(hook(place))
    async with delivering_by(delivery(board), delivery(board)):
        runs = [await board.submit(f"r{number}") for number in range(8)]
        messages = await place.sent(8)
        await until(lambda: _done(board, 8))
    assert sorted(event["id"] for _, event in messages) == sorted(f"{run}:1" for run in runs)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"private": ()}, "no request goes to"),
        ({"secret": "other"}, "no such secret"),
        ({"secret": "short"}, "whsec_ and the base64 of 24 to 64 bytes"),
    ],
)
async def test_what_cannot_be_sent_is_said(board: Board, place: Place, more: dict[str, Any], says: str) -> None:
    await Webhooks(board).set(hook(place, secret=more.get("secret", HANDLE)))
    time, secrets = Time(), Secrets({HANDLE: SECRET, "short": "whsec_c2hvcnQ="})
    private = more.get("private", networks(["127.0.0.1"]))
    async with delivering_by(Delivery(board, lambda: secrets, private, now=time.now, sleep=time.sleep)):
        await board.submit("go")

        async def said() -> bool:
            return says in ((await fares(board)).last_error or "")

        await until(said)
    assert not place.kind.seen


async def test_other_kinds_begin_anew_and_the_same_go_on(board: Board, place: Place) -> None:
    webhooks = Webhooks(board)
    await webhooks.set(hook(place))
    run = await board.submit("go")
    await webhooks.set(hook(place, age_seconds=5))
    (one,) = await Subscriptions(board).list()
    assert (one.name, one.waiting) == ("webhook.h", 1)
    await webhooks.set(hook(place, kinds=["run.completed"]))
    async with delivering_by(delivery(board)):
        await board.cancel_run(run)
        ((_, event),) = await place.sent(1)
        assert event["type"] == "dev.arbiter.run.completed.v1"
        assert await webhooks.remove("h")
        assert not await webhooks.remove("h")
    assert await Subscriptions(board).list() == []
    for wrong in (
        {"url": "ftp://x/"},
        {"url": "https://a:b@x/"},
        {"kinds": ["run.begun"]},
        {"secret": ""},
        {"name": "H"},
    ):
        with pytest.raises(BadInput):
            hook(place, **wrong)


async def test_webhooks_are_set_listed_and_removed_over_http_and_sent_by_whoever_serves(
    redis_server: RedisServer, tmp_path: Path, place: Place
) -> None:
    options: dict[str, Any] = {"secrets": {HANDLE: SECRET}, "private_addresses": ["127.0.0.1"]}
    async with running(redis_server.url, tmp_path, **options) as site:
        client = site.client()
        body = {"name": "h", "url": place.url, "secret": HANDLE, "kinds": ["run.completed"]}
        first, again = [await client.post("/v1/webhooks", json=body) for _ in range(2)]
        assert (first.status_code, again.status_code, first.json()["disabled"]) == (201, 200, None)
        assert (await client.post("/v1/webhooks", json={**body, "kinds": ["x"]})).status_code == 422
        run = await site.served.submit("go")
        ((headers, event),) = await place.sent(1)
        assert (event["type"], event["subject"]) == ("dev.arbiter.run.completed.v1", run)
        assert genuine(headers, place.kind.seen[0][1])
        (listed,) = (await client.get("/v1/webhooks")).json()["webhooks"]
        assert {"name": "h", "given_up": 0, "kinds": ["run.completed"]}.items() <= listed.items()
        await _as_tenant(site, body)
        assert (await client.post("/v1/webhooks/h/remove")).json() == {"name": "h", "status": "removed"}
        assert (await client.post("/v1/webhooks/h/remove")).status_code == 404


async def _as_tenant(site: Site, body: dict[str, Any]) -> None:
    blind = site.client(await site.token("webhooks:write"))
    assert (await blind.post("/v1/webhooks", json=body)).json()["scope"] == "runs:read"
    runs = site.client(await site.token("webhooks:write", "runs:read"))
    for kinds in (["entry.posted"], ["*"], ["ent*"]):
        assert (await runs.post("/v1/webhooks", json={**body, "kinds": kinds})).json()["scope"] == "entries:read"
    both = site.client(await site.token("webhooks:write", "runs:read", "entries:read"))
    assert (await both.post("/v1/webhooks", json={**body, "kinds": ["*"]})).status_code == 403
    acme = site.client(await site.token("webhooks:write", "runs:read", "entries:read", tenant="acme"))
    assert (await acme.get("/v1/webhooks")).json() == {"webhooks": []}
    assert (await acme.post("/v1/webhooks", json=body)).status_code == 403, "the name is taken"
    assert (await acme.post("/v1/webhooks/h/remove")).status_code == 404
    assert (await acme.post("/v1/webhooks", json={**body, "name": "i", "tenant": "other"})).status_code == 403
    assert (await acme.post("/v1/webhooks", json={**body, "name": "i", "kinds": ["*"]})).json()["tenant"] == "acme"
    reader = site.client(await site.token("runs:read", "runs:write"))
    assert (await reader.get("/v1/webhooks")).status_code == 403


def test_the_commands_set_list_try_and_remove(
    redis_server: RedisServer,
    board_name: str,
    place: Place,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ARBITER_SECRET_HOOK", SECRET)
    on = ["--url", redis_server.url, "--board", board_name]
    assert main(["webhooks", "set", "h", place.url, "--secret", "hook", "--kinds", "run.*,task.completed", *on]) == 0
    assert main(["webhooks", "list", *on]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"h  {place.url} run.* task.completed: on"
    assert main(["webhooks", "test", "h", *on]) == 1
    assert "no request goes to" in capsys.readouterr().out
    assert main(["webhooks", "test", "h", "--private", "127.0.0.1", *on]) == 0
    assert capsys.readouterr().out == "h: taken, it answered 204\n"
    ((headers, body),) = place.kind.seen
    assert genuine(headers, body)
    assert json.loads(body)["type"] == "dev.arbiter.webhook.test.v1"
    assert main(["webhooks", "remove", "h", *on]) == 0
    assert main(["webhooks", "remove", "h", *on]) == 2
    assert main(["webhooks", "set", "h", "nowhere", "--secret", "hook", *on]) == 2
