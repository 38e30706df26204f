"""Who gets into the HTTP API, what is refused and how that is told; a real server on loopback in this process."""

from __future__ import annotations

import asyncio
import hmac
import importlib.util
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from arbiter_support import arbiter
from http_site import Site, running

from arbiter import Call, Quota
from arbiter.http import access as access_module
from arbiter.http import bodies, local_token, problems, server, streams
from arbiter.http.access import Access
from arbiter.http.application import ROUTES
from arbiter.http.server import Api
from blackboard import errors
from blackboard.errors import BadInput, MissingExtra
from blackboard.permits import Question
from blackboard.testing import RedisServer
from blackboard.tokens import SCOPES, TokenRefused, Tokens
from registry import ExamRecord, Grants, Manifest, SignatureRefused

ANY = {"type": "object"}


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path) as one:
        yield one


# ---- tokens and scopes -------------------------------------------------------------------------------------------------


async def test_every_route_takes_its_own_scope_and_no_other(site: Site) -> None:
    tokens = {scope: site.client(await site.token(scope)) for scope in SCOPES}
    routes = [(verb, path, scope) for verb, path, scope, _ in ROUTES] + [("GET", "/metrics", "metrics:read")]
    for verb, path, needed in routes:
        path = path.replace("{run}", "none").replace("{name}", "none").replace("{letter:path}", "none")
        path = path.replace("{entry:path}", "none").replace("entries/events", "entries/events?after=x")
        for scope, client in tokens.items():
            answer = await client.request(verb, path)
            if scope == needed:
                assert answer.status_code not in (401, 403), (verb, path, scope, answer.text)
            else:
                assert answer.status_code == 403, (verb, path, scope)
                assert answer.json()["scope"] == needed
        assert (await site.client("").request(verb, path)).status_code == 401


@pytest.mark.parametrize("shown", ["", "Bearer", "Basic YTpi", "Bearer x", "Bearer arb_local_" + "x" * 43])
async def test_without_a_valid_token_nothing_is_done(site: Site, shown: str) -> None:
    async with httpx.AsyncClient(base_url=site.api.address) as client:
        headers = {"Authorization": shown} if shown else {}
        answer = await client.post("/v1/runs", content="go", headers={**headers, "Content-Type": "text/plain"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert await site.served.board.runs() == []


async def test_what_a_program_submits_comes_from_its_token_and_what_a_person_submits_from_a_person(site: Site) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "x"}
    program, person = site.client(await site.token("runs:write")), site.client()
    sent = [
        (person, {"json": {"go": 1}}, ["person"]),
        (program, {"json": {"go": 1}}, ["token:ci"]),
        (program, {"json": {**event, "source": "/bills"}}, ["event:/bills", "token:ci"]),
        (person, {"json": event}, ["event:/orders"]),
        (
            program,
            {"json": {"go": 2}, "params": {"source": ["mail:inbox", "person"]}},
            ["mail:inbox", "person", "token:ci"],
        ),
    ]
    for client, request, sources in sent:
        answer = await client.post("/v1/runs", **request)
        shown = await person.get(f"/v1/runs/{answer.json()['run_id']}")
        assert shown.json()["sources"] == sources, request
    refused = await program.post("/v1/runs", json={"go": 3}, params={"source": "no label"})
    assert (refused.status_code, refused.json()["field"]) == (422, "source")


async def test_why_a_process_is_not_ready_is_in_the_log_and_not_in_the_answer(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def ready() -> str | None:
        raise RuntimeError("the disk is on fire")

    async with arbiter(redis_server.url, ["done"], data_dir=tmp_path) as (a, _):
        api = Api("127.0.0.1:0", data_dir=tmp_path)
        await api.start(a, ready)
        try:
            async with httpx.AsyncClient(base_url=api.address) as client:
                answer = await client.get("/ready")
        finally:
            await api.close()
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert "not ready: RuntimeError: the disk is on fire" in caplog.text


async def test_a_token_that_is_revoked_opens_nothing_from_the_next_request_on(site: Site) -> None:
    client = site.client(await site.token("runs:read"))
    assert (await client.get("/v1/runs")).status_code == 200
    await Tokens(site.served.board.catalog).revoke("ci")
    assert (await client.get("/v1/runs")).status_code == 401


async def test_a_stream_ends_when_its_token_is_revoked(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.01)
    async with running(redis_server.url, tmp_path, roles=()) as site:
        board = site.served.board
        run = await board.submit("nobody takes it")
        client = site.client(await site.token("runs:read"))
        async with client.stream("GET", f"/v1/runs/{run}/events") as response:
            lines = response.aiter_lines()
            async for line in lines:
                if line == ": alive":
                    break
            await Tokens(board.catalog).revoke("ci")
            async with asyncio.timeout(20):
                rest = [line async for line in lines]
    assert "event: problem" in rest
    assert json.loads(rest[-2].removeprefix("data: "))["status"] == 401


async def test_a_token_of_a_tenant_sees_and_touches_only_its_own(site: Site) -> None:
    board, registry = site.served.board, site.served.registry
    mine, theirs = await board.submit("mine", tenant="acme"), await board.submit("theirs", tenant="other")
    await registry.register(
        Manifest(name="ours", description="x", input_schema=ANY, tenant="acme", kind="function", action="local.x")
    )
    await registry.register(
        Manifest(name="others", description="x", input_schema=ANY, tenant="other", kind="function", action="local.x")
    )
    await site.served.quotas.set(Quota(subject="tenant:other", at_once=5))
    await site.served.quotas.set(Quota(subject="tenant:acme", at_once=5))
    scopes = [scope for scope in SCOPES if scope not in ("metrics:read", "audit:read")]
    client = site.client(await site.token(*scopes, tenant="acme"))

    assert [run["run_id"] for run in (await client.get("/v1/runs")).json()["runs"]] == [mine]
    assert (await client.get("/v1/runs", params={"where": "tenant=other"})).json()["runs"] == []
    for verb, path in (
        ("GET", f"/v1/runs/{theirs}"),
        ("GET", f"/v1/runs/{theirs}/events"),
        ("POST", f"/v1/runs/{theirs}/cancel"),
        ("POST", f"/v1/runs/{theirs}/pause"),
        ("POST", f"/v1/runs/{theirs}/resume"),
    ):
        unknown = await client.request(verb, path.replace(theirs, "r" + "0" * 23))
        hidden = await client.request(verb, path)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.text == unknown.text.replace("r" + "0" * 23, theirs)
    assert (await board.summary(theirs)).status in ("queued", "running", "succeeded")
    assert (await client.get(f"/v1/runs/{mine}")).status_code == 200

    made = await client.post("/v1/runs", json={"n": 1})
    assert (await board.summary(made.json()["run_id"])).tenant == "acme"
    assert (await client.post("/v1/runs", params={"tenant": "other"}, json={"n": 1})).status_code == 403
    names = {one["name"] for one in (await client.get("/v1/capabilities")).json()["capabilities"]}
    assert "ours" in names
    assert "others" not in names
    assert (await client.get("/v1/capabilities/others")).status_code == 404
    call = await client.post("/v1/calls", json={"capability": "others"})
    assert (call.status_code, call.json()["field"]) == (422, "call.capability")
    assert [one["subject"] for one in (await client.get("/v1/quotas")).json()["quotas"]] == ["tenant:acme"]


async def test_dead_letters_of_another_tenant_are_unknown(site: Site) -> None:
    board = site.served.board
    theirs = await board.submit_call("gone", {}, lane="nobody", tenant="other", seconds=0.001)
    async with asyncio.timeout(20):
        while (await board.summary(theirs)).status != "timed_out":
            await board.sweep()
    client = site.client(await site.token("runs:read", "runs:write", tenant="acme"))
    assert (await client.get("/v1/dead-letters")).json()["letters"] == []
    assert (await client.get(f"/v1/dead-letters/{theirs}")).status_code == 404
    for act in ("redrive", "discard"):
        assert (await client.post(f"/v1/dead-letters/{act}", json={"ids": [theirs]})).status_code == 404
        assert (await client.post(f"/v1/dead-letters/{act}", json={"where": "tenant=other"})).status_code == 200
    assert len((await site.client().get("/v1/dead-letters")).json()["letters"]) == 1


async def test_refused_tokens_are_on_record_folded_by_reason(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    place = Access(site.served.board, (), None, clock=lambda: now[0])
    token = await site.token("runs:read")

    async def asked(shown: str, scope: str = "runs:write") -> None:
        request = httpx.Request("GET", "http://x/", headers={"Authorization": f"Bearer {shown}"})
        from starlette.requests import Request

        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope_of = {"type": "http", "headers": headers, "client": ("10.0.0.9", 1)}
        with pytest.raises((TokenRefused, problems.Forbidden)):
            await place.admit(Request(scope_of), scope)

    for _ in range(5):
        await asked("nonsense")
        await asked(token)
    found = await site.audit("kind=token.refused")
    assert [(each.detail["why"], each.detail["count"], each.by) for each in found] == [
        ("malformed", 1, "10.0.0.9"), ("scope runs:write", 1, "10.0.0.9"),
    ]  # fmt: skip
    assert [each.subject for each in found] == ["?", token.split("_")[1]]
    now[0] += access_module.FOLD_SECONDS
    await asked("nonsense")
    assert [each.detail["count"] for each in await site.audit("kind=token.refused")] == [1, 1, 5]


async def test_secrets_are_compared_in_constant_time_also_where_there_is_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append(len(a))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    known = await site.token("runs:read")
    id = known.split("_")[1]
    for shown in (known, f"arb_{id}_{'x' * 43}", f"arb_{'0' * 12}_{'x' * 43}", "arb_local_x", site.local):
        await site.client(shown).get("/v1/runs")
    assert len(compared) == 5


# ---- web pages ---------------------------------------------------------------------------------------------------------


async def test_pages_of_other_sites_and_names_bound_to_this_machine_are_refused(site: Site) -> None:
    own = f"127.0.0.1:{site.port}"
    for headers, status in (
        ({}, 200),
        ({"Host": f"localhost:{site.port}"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": f"http://{own}"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8300"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "127.0.0.1@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": f"http://{own}.evil.example"}, 403),
    ):
        answer = await site.client(**headers).get("/v1/runs")
        assert answer.status_code == status, headers
        assert "access-control-allow-origin" not in answer.headers
        if status == 403:
            assert (await site.client(**headers).get("/live")).status_code == 403


async def test_answers_are_not_stored_nor_guessed_at(site: Site) -> None:
    for path in ("/v1/runs", "/nothing", "/live"):
        headers = (await site.client().get(path)).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert "server" not in headers


# ---- the local token ---------------------------------------------------------------------------------------------------


def test_a_local_token_that_others_may_have_read_is_refused(tmp_path: Path) -> None:
    token = local_token.made(tmp_path)
    assert local_token.made(tmp_path) == token
    file = local_token.path(tmp_path)
    file.chmod(0o644)
    with pytest.raises(BadInput, match="remove it"):
        local_token.made(tmp_path)
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(BadInput, match="no token of ours"):
        local_token.made(tmp_path)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="cannot be made or read"):
        local_token.made(tmp_path)


async def test_processes_that_start_at_once_get_the_same_token(tmp_path: Path) -> None:
    tokens = await asyncio.gather(*(asyncio.to_thread(local_token.made, tmp_path) for _ in range(20)))
    assert len(set(tokens)) == 1
    assert [file.name for file in local_token.path(tmp_path).parent.iterdir()] == ["token"]


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "uvicorn" else importlib.util.find_spec(name))
    with pytest.raises(MissingExtra, match=r"pip install 'arbiter\[http\]'"):
        Api("127.0.0.1:0")


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
        ("POST", "/v1/runs", {"json": [1]}, 400, "malformed", "body"),
        ("POST", "/v1/runs", {"json": {"specversion": "0.3"}}, 422, "bad_input", "request.specversion"),
        ("POST", "/v1/runs", {"content": "{}", "headers": {"Content-Type": "application/cloudevents+json"}}, 422,
         "bad_input", "request.specversion"),
        ("POST", "/v1/runs", {"content": "x", "headers": {"ce-specversion": "1.0", "ce-id": "1"}}, 422, "bad_input",
         "request.source"),
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
        "ArbiterError": 500, "BadInput": 422, "Oversized": 413, "EngineUnavailable": 503, "BoardFull": 507,
        "ScriptRefused": 409, "Fenced": 409, "UnknownRecord": 404, "Conflict": 409, "Stale": 409, "QuotaExceeded": 429,
        "Unconfirmed": 503, "BlobError": 500, "BlobMissing": 410, "BlobDamaged": 500, "BlobUnavailable": 503,
        "MissingExtra": 503, "ModelUnavailable": 503, "IsolationUnavailable": 503,
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


# ---- approvals ---------------------------------------------------------------------------------------------------------


async def waits(site: Site, name: str, tenant: str = "default") -> str:
    manifest = Manifest(
        name=name, description="x", input_schema=ANY, tenant=tenant, grants=Grants(http_hosts=("api.example.com",))
    )
    exam = ExamRecord(public_cases=1, sealed_cases=1, passed=True, examiner="one", when=1.0)
    version = await site.served.registry.register(
        manifest, source=f"def handler():\n    return {name!r}\n", exam=exam, activate=False, sign=False
    )
    return version.sha


async def test_grants_are_approved_and_refused_by_token_and_it_is_on_record(site: Site) -> None:
    approved, refused = await waits(site, "one"), await waits(site, "two")
    token = await site.token("capabilities:read", "capabilities:approve")
    client, label = site.client(token), f"token ci ({token.split('_')[1]})"
    waiting = (await client.get("/v1/approvals")).json()["waiting"]
    assert {one["name"]: one["grants"]["http_hosts"] for one in waiting} == {
        "one": ["api.example.com"], "two": ["api.example.com"],
    }  # fmt: skip
    done = await client.post("/v1/approvals/one/approve", json={"sha": approved})
    assert (done.status_code, done.json()["state"]) == (200, "active")
    done = await client.post("/v1/approvals/two/refuse", json={"reason": "too much"})
    assert (done.status_code, done.json()["state"]) == (200, "retired")
    assert (await client.get("/v1/approvals")).json()["waiting"] == []
    await site.served.registry.load("one", approved)
    with pytest.raises(SignatureRefused):
        await site.served.registry.load("two", refused)
    found = await site.audit("kind=grants.*,version.signed")
    assert [(each.kind, each.subject, each.by) for each in found] == [
        ("version.signed", f"one|{approved}", label),
        ("grants.approved", f"one|{approved}", label),
        ("grants.refused", f"two|{refused}", label),
    ]
    assert found[2].reason == "too much"
    again = await client.post("/v1/approvals/two/refuse")
    assert again.status_code == 404


async def test_what_every_tenant_may_use_is_not_one_tenants_to_approve(site: Site) -> None:
    await waits(site, "shared", "*")
    await waits(site, "theirs", "other")
    client = site.client(await site.token("capabilities:read", "capabilities:approve", tenant="acme"))
    assert (await client.get("/v1/approvals")).json()["waiting"] == []
    for name in ("shared", "theirs"):
        for act in ("approve", "refuse"):
            assert (await client.post(f"/v1/approvals/{name}/{act}")).status_code == 404
    assert len(await site.served.registry.waiting()) == 2


async def test_a_request_that_would_carry_a_secret_is_permitted_by_a_token_of_its_scope_and_tenant(site: Site) -> None:
    board = site.served.board
    manifest = Manifest(name="pay", description="x", input_schema=ANY, action="elsewhere")
    await site.served.registry.register(manifest, source="def handler():\n    return 1\n")
    await site.served.submit(Call("pay", {}), tenant="acme")
    (claim,) = await board.claim("w", ["elsewhere"])
    asked = Question(
        "pay", "0" * 64, ("KEY@api.example.com",), ("mail:inbox",), "GET", "https://api.example.com/", [], b""
    )
    await site.served.permits.ask(claim, asked)
    stranger = site.client(await site.token("secrets:permit", tenant="other"))
    assert (await stranger.get("/v1/permits")).json() == {"waiting": []}
    token = await site.token("secrets:permit", tenant="acme")
    client, label = site.client(token), f"token ci ({token.split('_')[1]})"
    (waiting,) = (await client.get("/v1/permits")).json()["waiting"]
    place = f"/v1/permits/{waiting['id']}"
    assert (await stranger.post(f"{place}/approve", json={"sources": ["mail:inbox"]})).status_code == 404
    assert (await client.post(f"{place}/approve")).status_code == 422
    done = await client.post(f"{place}/approve", json={"sources": waiting["sources"]})
    assert (done.status_code, done.json()["state"], done.json()["by"]) == (200, "approved", label)
    assert (await client.post(f"{place}/refuse", json={"reason": "no"})).status_code == 409
    assert [(each.kind, each.by) for each in await site.audit("kind=secret.approved")] == [("secret.approved", label)]


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
    async with asyncio.timeout(20):
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
    async with asyncio.timeout(20):
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
            async with asyncio.timeout(20):
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
