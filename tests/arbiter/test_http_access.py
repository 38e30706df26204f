"""Who gets into the HTTP API, what is refused and how that is told; a real server on loopback in this process."""

from __future__ import annotations

import asyncio
import hmac
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from arbiter_support import arbiter
from http_site import Site, running

from arbiter import Call, Quota
from arbiter.http import access as access_module
from arbiter.http import local_token, problems, server, streams
from arbiter.http.access import Access
from arbiter.http.application import ROUTES
from arbiter.http.server import Api
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
        path = path.replace("{entry:path}", "none").replace("/events", "/events?after=x")
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
            async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
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
