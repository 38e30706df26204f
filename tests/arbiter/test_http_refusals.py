"""What the HTTP API refuses and how it says so; bodies and heads that are too large or do not come."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from http_site import Site, running

from arbiter import Quota
from arbiter.http import bodies, problems, server
from blackboard import errors
from blackboard.errors import BadInput
from blackboard.testing import RedisServer

ANY = {"type": "object"}


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path) as one:
        yield one


# ---- refusals ----------------------------------------------------------------------------------------------------------

Sent = Mapping[str, Any]


@pytest.mark.parametrize(
    ("verb", "path", "sent", "status", "code", "field"),
    [
        ("POST", "/v1/runs", {"content": "", "headers": {"Content-Type": "text/plain"}}, 422, "bad_input", "request"),
        ("POST", "/v1/runs", {"content": b"\xff", "headers": {"Content-Type": "text/plain"}}, 400, "malformed", "body"),
        ("POST", "/v1/runs", {"content": "{", "headers": {"Content-Type": "application/json"}}, 400, "malformed", "body"),
        ("POST", "/v1/runs", {"content": '{"a": NaN}', "headers": {"Content-Type": "application/json"}}, 400, "malformed",
         "body"),
        ("POST", "/v1/runs", {"content": "[" * 100000, "headers": {"Content-Type": "application/json"}}, 400, "malformed",
         "body"),
        ("POST", "/v1/runs", {"content": '{"a": 1, "a": 2}', "headers": {"Content-Type": "application/json"}}, 400,
         "malformed", "body"),
        ("POST", "/v1/calls", {"content": '{"capability": "add", "input": {"a": 1, "b": 1, "a": 2}}',
         "headers": {"Content-Type": "application/json"}}, 400, "malformed", "body"),
        ("POST", "/v1/runs", {"json": [1]}, 400, "malformed", "body"),
        ("POST", "/v1/runs", {"json": {"specversion": "0.3"}}, 422, "bad_input", "request.specversion"),
        ("POST", "/v1/runs", {"content": "{}", "headers": {"Content-Type": "application/cloudevents+json"}}, 422,
         "bad_input", "request.specversion"),
        ("POST", "/v1/runs", {"content": "x", "headers": {"ce-specversion": "1.0", "ce-id": "1"}}, 422, "bad_input",
         "request.source"),
        ("POST", "/v1/runs", {"json": {"a": 1}, "headers": {"ce-id": "1", "ce-source": "/shop", "ce-type": "order"}}, 422,
         "bad_input", "request.specversion"),
        ("POST", "/v1/runs", {"content": "x", "headers": {"Content-Type": "application/xml"}}, 415,
         "unsupported_media_type", "content-type"),
        ("POST", "/v1/runs", {"content": "x"}, 415, "unsupported_media_type", "content-type"),
        ("POST", "/v1/runs", {"json": {"a": 1}, "headers": {"Idempotency-Key": ""}}, 422, "bad_input", "Idempotency-Key"),
        ("POST", "/v1/runs?rounds=0", {"json": {"a": 1}}, 422, "bad_input", "rounds"),
        ("POST", "/v1/runs?what=1", {"json": {"a": 1}}, 422, "bad_input", "query"),
        ("POST", "/v1/runs?durable=maybe", {"json": {"a": 1}}, 422, "bad_input", "durable"),
        ("POST", "/v1/runs?tenant=A%20B", {"json": {"a": 1}}, 422, "bad_input", "tenant"),
        ("POST", "/v1/calls", {"json": {}}, 422, "bad_input", "capability"),
        ("POST", "/v1/calls", {"json": {"capability": "nothing"}}, 422, "bad_input", "call.capability"),
        ("POST", "/v1/calls", {"json": {"capability": "add", "input": {"a": "x", "b": 1}}}, 422, "bad_input", "call.input"),
        ("POST", "/v1/calls", {"json": {"capability": "add", "inptu": {}}}, 422, "bad_input", "inptu"),
        ("POST", "/v1/calls", {"json": {"capability": "add", "priority": 12}}, 422, "bad_input", "priority"),
        ("GET", "/v1/runs?where=status%3Dgone", {}, 422, "bad_input", "where.status"),
        ("GET", "/v1/runs?limit=501", {}, 422, "bad_input", "limit"),
        ("GET", "/v1/runs?after=x", {}, 422, "bad_input", "after"),
        ("GET", "/v1/runs/nothing", {}, 404, "unknown", None),
        ("GET", "/v1/runs/nothing/events", {}, 404, "unknown", None),
        ("GET", "/v1/dead-letters/nothing/1.x", {}, 404, "unknown", None),
        ("POST", "/v1/dead-letters/redrive", {"json": {}}, 422, "bad_input", "ids"),
        ("POST", "/v1/dead-letters/discard", {"json": {"ids": ["x"], "where": ""}}, 422, "bad_input", "ids"),
        ("GET", "/v1/capabilities/nothing", {}, 404, "unknown", None),
        ("POST", "/v1/approvals/nothing/approve", {}, 404, "unknown", None),
        ("POST", "/v1/approvals/add/approve", {}, 404, "unknown", None),
        ("GET", "/v1/budgets?level=what", {}, 422, "bad_input", "level"),
        ("GET", "/v1/audit?where=x", {}, 422, "bad_input", "where"),
        ("GET", f"/v1/dead-letters?where=since%3D{'9' * 400}d", {}, 422, "bad_input", "where.since"),
        ("GET", f"/v1/audit?where={'by~x%20' * 2_100}", {}, 422, "bad_input", "where"),
        ("POST", "/v1/entries/erase", {"content": '{"tenant": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 400,
         "malformed", "body"),
        ("POST", "/v1/calls", {"content": '{"capability": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 400,
         "malformed", "body"),
        ("POST", "/v1/schedules", {"json": {"name": "a", "request": "x", "at": "9999-12-31T23:59",
         "timezone": "America/New_York"}}, 422, "bad_input", "at"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told_with_the_field_and_the_remedy(
    site: Site, verb: str, path: str, sent: Sent, status: int, code: str, field: str | None
) -> None:
    answer = await site.client().request(verb, path, **sent)
    said = answer.json()
    assert (answer.status_code, said["status"], said["type"]) == (status, status, f"urn:arbiter:problem:{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["title"]
    assert said.get("field") == field
    if field is not None:
        assert said["remedy"]
        assert len(said["value"]) <= 120
    assert "Traceback" not in answer.text
    assert await site.served.board.runs() == []


async def test_routes_and_methods_that_are_not_there_are_problems_too(site: Site) -> None:
    client = site.client()
    lost = await client.get("/v1/nothing")
    assert (lost.status_code, lost.headers["content-type"]) == (404, "application/problem+json")
    assert "begin with /v1" in lost.json()["detail"]
    slashed = await client.get("/v1/runs/")
    assert (slashed.status_code, slashed.headers["content-type"]) == (404, "application/problem+json")
    wrong = await client.delete("/v1/runs")
    assert wrong.status_code == 405
    assert set(wrong.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}
    assert (await client.head("/v1/runs")).status_code == 200


async def test_a_full_quota_says_when_to_come_again(site: Site) -> None:
    await site.served.quotas.set(Quota(subject="tenant:busy", runs_per_second=0.1))
    client = site.client()
    assert (await client.post("/v1/runs", params={"tenant": "busy"}, json={"n": 1})).status_code == 202
    refused = await client.post("/v1/runs", params={"tenant": "busy"}, json={"n": 2})
    said = refused.json()
    assert (refused.status_code, said["type"]) == (429, "urn:arbiter:problem:quota_exceeded")
    assert 0 < said["retry_after_seconds"] <= 10
    assert 0 < int(refused.headers["retry-after"]) <= 10
    assert said["subject"] == "tenant:busy"


def _named(kind: type[Exception]) -> Exception:
    match kind.__name__:
        case "QuotaExceeded":
            return errors.QuotaExceeded("QUOTA", "board 2500 has 3 open runs of 3")
        case _ if issubclass(kind, errors.ScriptRefused):
            return kind("CODE", "this is why")
        case _ if issubclass(kind, BadInput):
            return kind("field", "v" * 500, "Do better.")
        case _:
            return kind("this is why")


@pytest.mark.parametrize("kind", [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)])
def test_every_typed_error_has_a_status_of_its_own_making(kind: type[Exception]) -> None:
    said, headers = problems.body(_named(kind))
    expected = {
        "ArbiterError": 500, "BadInput": 422, "Unfitting": 422, "Oversized": 413, "EngineUnavailable": 503, "BoardFull": 507,
        "ScriptRefused": 409, "Fenced": 409, "UnknownRecord": 404, "Conflict": 409, "Stale": 409, "QuotaExceeded": 429,
        "Unconfirmed": 503, "BlobError": 500, "BlobMissing": 410, "BlobDamaged": 500, "BlobUnavailable": 503,
        "MissingExtra": 503, "ModelUnavailable": 503, "IsolationUnavailable": 503, "Compacted": 410, "LeaseLost": 409,
    }  # fmt: skip
    assert said["status"] == expected[kind.__name__]
    assert ("Retry-After" in headers) == (said["status"] in (429, 503))


async def test_a_defect_is_told_without_where_it_is_and_logged_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the inside of it")

    monkeypatch.setattr(site.served.board, "summary", broken)
    with caplog.at_level(logging.ERROR):
        answer = await site.client().get("/v1/runs/x")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:arbiter:problem:internal_error")
    assert "inside" not in answer.text
    assert any("inside of it" in (record.exc_text or "") or record.exc_info for record in caplog.records)


# ---- size and patience -------------------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_refused_said_or_unsaid(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_BYTES", 1000)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    for content in ("x" * 1001, parts()):
        answer = await site.client(**{"Content-Type": "text/plain"}).post("/v1/runs", content=content)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:arbiter:problem:too_large")
        assert answer.headers["connection"] == "close"
    assert (await site.client(**{"Content-Type": "text/plain"}).post("/v1/runs", content="x" * 1000)).status_code == 202


async def raw(site: Site, sent: bytes) -> bytes:
    """Everything that is answered to these bytes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(sent)
    async with asyncio.timeout(30):
        answered = await reader.read()
    writer.close()
    return answered


def head(site: Site, verb: str, path: str, *lines: str) -> bytes:
    said = (f"{verb} {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Authorization: Bearer {site.local}", *lines)
    return "\r\n".join((*said, "", "")).encode()


async def test_a_head_that_does_not_come_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    assert await raw(site, b"") == b""
    assert await raw(site, b"GET /live HTTP/1.1\r\nHost:") == b""
    # The second request of a connection has no more time than the first.
    first = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(first)
    async with asyncio.timeout(30):
        assert b"live" in await reader.readuntil(b"}")
        writer.write(b"GET /live")
        assert await reader.read() == b""
    writer.close()


async def test_a_body_that_does_not_come_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    answered = await raw(
        site, head(site, "POST", "/v1/runs", "Content-Type: text/plain", "Content-Length: 10") + b"half"
    )
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b"urn:arbiter:problem:too_slow" in answered


async def test_a_client_that_does_not_take_its_answer_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STUCK_SECONDS", 0.05)
    run = await site.served.board.submit({"large": "x" * 200_000})
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(lazy, ("127.0.0.1", site.port))
    connections: set[Any] = site.api._server.server_state.connections
    async with asyncio.timeout(30):
        while not connections:
            await asyncio.sleep(0)
        # Answers are asked for one after the other and never read: the buffers between fill up.
        await loop.sock_sendall(lazy, head(site, "GET", f"/v1/runs/{run}") * 60)
        while connections:
            await asyncio.sleep(0)
    lazy.close()


async def test_closing_ends_what_waits_and_streams(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running(redis_server.url, tmp_path, roles=()) as site:
        run = await site.served.board.submit("nobody takes it")
        client = site.client()
        waiting = asyncio.ensure_future(client.get(f"/v1/runs/{run}", params={"wait": 60}))
        async with client.stream("GET", f"/v1/runs/{run}/events") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            async with asyncio.timeout(30):
                await site.api.close()
                assert (await waiting).json()["status"] == "queued"
                async for _ in lines:
                    pass


async def test_a_stream_after_the_end_has_nothing_and_one_after_the_unknown_has_everything(site: Site) -> None:
    result = await site.served.run("go")
    events = await site.served.board.history(result.run_id)

    async def ids(after: str) -> list[str]:
        headers = {"Last-Event-ID": after}
        async with site.client(**headers).stream("GET", f"/v1/runs/{result.run_id}/events") as response:
            return [line.removeprefix("id: ") async for line in response.aiter_lines() if line.startswith("id: ")]

    assert await ids(events[-1].sequence) == []
    assert await ids("0000000000001-000000") == [event.sequence for event in events]
    answer = await site.client(**{"Last-Event-ID": "x"}).get(f"/v1/runs/{result.run_id}/events")
    assert (answer.status_code, answer.json()["field"]) == (422, "Last-Event-ID")
