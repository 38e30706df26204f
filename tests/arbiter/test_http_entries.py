"""Entries over HTTP: what each token may write and see, from whom it is, and that a repeated request is the same one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_site import Site, running

from arbiter.http import streams
from blackboard.entries import Entries
from blackboard.events import Author
from blackboard.testing import RedisServer
from blackboard.tokens import Tokens

NOBODY = "/e/" + "0" * 24


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, roles=()) as one:
        yield one


async def written(client: httpx.AsyncClient, topic: str, content: Any, key: str | None = None, **more: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await client.post("/v1/entries", json={"topic": topic, "content": content, **more}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def contents(client: httpx.AsyncClient, **params: Any) -> list[Any]:
    answer = await client.get("/v1/entries", params=params)
    assert answer.status_code == 200, answer.text
    return [one["content"] for one in answer.json()["entries"]]


async def test_entries_are_written_found_changed_and_read_again(site: Site) -> None:
    client = site.client()
    first = await written(client, "claims.invoice.1", {"amount": 120, "text": "roof tiles"}, "k", confidence=0.5)
    again = await written(client, "claims.invoice.1", {"amount": 120, "text": "roof tiles"}, "k", confidence=0.5)
    assert (first["new"], again) == (True, {**first, "new": False})
    other = await written(
        client, "claims.order.1", {"amount": 80, "text": "boat"}, links=[{"rel": "contradicts", "to": first["id"]}]
    )
    assert await contents(client, pattern="claims.invoice.*") == [{"amount": 120, "text": "roof tiles"}]
    assert await contents(client, where="amount<100") == [{"amount": 80, "text": "boat"}]
    assert await contents(client, links_to=first["id"], rel="contradicts") == [{"amount": 80, "text": "boat"}]
    (best,) = (await client.get("/v1/entries", params={"about": "tiles"})).json()["entries"]
    assert (best["id"], best["score"] > 0, bool(best["reasons"])) == (first["id"], True, True)
    page = (await client.get("/v1/entries", params={"limit": 1})).json()
    assert len(page["entries"]) == 1
    assert len(await contents(client, after=page["after"])) == 1

    changed = await client.post(f"/v1/entries/{first['id']}/amend", json={"content": {"amount": 130}, "expect": 1})
    assert (changed.status_code, changed.json()["version"]) == (201, 2)
    stale = await client.post(f"/v1/entries/{first['id']}/amend", json={"confidence": 1, "expect": 1})
    assert stale.status_code == 409
    for path in ("amend", "retract"):
        late = await client.post(f"/v1/entries/{first['id']}/{path}", json={"expect_topic": 1})
        assert (late.status_code, "has version 2, not 1" in late.json()["detail"]) == (409, True)
    lasting = await client.post(f"/v1/entries/{first['id']}/amend", json={"seconds": 60})
    assert lasting.status_code == 201
    entry = (await client.get(f"/v1/entries/{first['id']}")).json()
    assert (entry["content"], entry["version"], "expires_at" in entry) == ({"amount": 130}, 3, True)
    assert (await client.post(f"/v1/entries/{first['id']}/amend", json={"seconds": None})).status_code == 201
    then = (await client.get(f"/v1/entries/{first['id']}", params={"at": other["position"]})).json()
    assert then["content"]["amount"] == 120
    chain = (await client.get(f"/v1/entries/{first['id']}", params={"history": "true"})).json()["entries"]
    assert [one["version"] for one in chain] == [1, 2, 3, 4]
    gone = await client.post(f"/v1/entries/{other['id']}/retract", json={"reason": "wrong"})
    assert gone.status_code == 201
    assert await contents(client) == [{"amount": 130}]
    assert (await client.get(f"/v1/entries/{other['id']}")).json()["state"] == "retracted"


async def test_what_is_written_comes_from_its_token_and_says_who_wrote_it(site: Site) -> None:
    person, program = site.client(), site.client(await site.token("entries:write"))
    expected = [
        (person, {}, ["person"], "person"),
        (person, {"taint": ["mail:inbox"]}, ["mail:inbox"], "person"),
        (program, {}, ["token:ci"], "program"),
        (program, {"taint": ["person"]}, ["person", "token:ci"], "program"),
    ]
    for client, more, labels, kind in expected:
        entry_id = (await written(client, "a", 1, **more))["id"]
        entry = (await person.get(f"/v1/entries/{entry_id}")).json()
        assert (entry["taint"], entry["author"]["kind"]) == (labels, kind)
        if client is program:
            assert entry["author"]["name"] == "ci"
    first = (await written(person, "a", 1))["id"]
    await program.post(f"/v1/entries/{first}/amend", json={"content": 2})
    assert set((await person.get(f"/v1/entries/{first}")).json()["taint"]) == {"person", "token:ci"}


async def test_what_a_group_writes_is_seen_by_tokens_that_were_let_into_it(site: Site) -> None:
    red = site.client(await site.token("entries:read", "entries:write", "runs:write", "group:red"))
    entry = (await written(red, "a", "among us", scope="group:red"))["id"]
    assert await contents(red, scope="group:red") == await contents(site.client(), scope="group:red") == ["among us"]
    ours = site.client(await site.token("entries:read", "entries:write", "group:red", tenant="acme"))
    assert await contents(ours, scope="group:red") == ["among us"]
    for scopes in ((), ("group:blue",)):
        other = site.client(await site.token("entries:read", "entries:write", "runs:write", *scopes))
        watch = {"name": "w", "scope": "group:red", "topic": ">"}
        there = {"topic": "b", "content": 1, "links": [{"rel": "supports", "to": entry}]}
        for answer, status in (
            (await other.get("/v1/entries", params={"scope": "group:red"}), 403),
            (await other.get("/v1/entries/events", params={"scope": "group:red"}), 403),
            (await other.get(f"/v1/entries/{entry}"), 404),
            (await other.post(f"/v1/entries/{entry}/promote", json={"to": "public"}), 404),
            (await other.post("/v1/entries", json=there), 404),
            (await other.post("/v1/standing", json=watch), 403),
        ):
            assert answer.status_code == status, answer.text
    assert "lacks the scope group:red" in answer.json()["detail"]


async def test_a_token_of_a_tenant_sees_and_writes_only_its_own(site: Site) -> None:
    board, whole = site.served.board, site.client()
    mine, theirs = await board.submit("mine", tenant="acme"), await board.submit("theirs", tenant="other")
    client = site.client(await site.token("entries:read", "entries:write", tenant="acme"))
    assert (await written(client, "a", "ours"))["id"].startswith("tenant:acme/e/")
    await written(client, "a", "in our run", scope=f"run:{mine}")
    assert await contents(client) == ["ours"]
    assert await contents(client, scope=f"run:{mine}") == ["in our run"]
    hidden = {
        scope: (await written(whole, "a", "hidden", scope=scope))["id"]
        for scope in ("tenant:other", "public", "session:s", "group:g", f"run:{theirs}")
    }
    for scope, entry in hidden.items():
        status = 404 if scope.startswith("run:") else 403
        for answer in (
            await client.get("/v1/entries", params={"scope": scope}),
            await client.get("/v1/entries/events", params={"scope": scope}),
            await client.post("/v1/entries", json={"topic": "a", "content": 1, "scope": scope}),
            await client.post(
                "/v1/entries/take", json={"pattern": "a", "scope": scope}, headers={"Idempotency-Key": "k"}
            ),
        ):
            assert answer.status_code == status, (scope, answer.text)
        unknown = entry.partition("/")[0] + NOBODY
        for verb, path, body in (
            ("GET", "", None),
            ("POST", "/amend", {"content": 1}),
            ("POST", "/retract", {}),
        ):
            there, none = [
                await client.request(verb, f"/v1/entries/{one}{path}", json=body) for one in (entry, unknown)
            ]
            assert there.status_code == none.status_code == 404
            assert there.text == none.text.replace(unknown, entry)
        linked = [
            await client.post(
                "/v1/entries", json={"topic": "b", "content": 1, "links": [{"rel": "derived_from", "to": one}]}
            )
            for one in (entry, unknown)
        ]
        assert linked[0].status_code == linked[1].status_code == 404
        assert (await whole.get(f"/v1/entries/{entry}")).json()["content"] == "hidden"
    assert await contents(client) == ["ours"]


async def test_what_was_taken_under_a_lease_is_confirmed_or_given_back(site: Site) -> None:
    client = site.client()
    await written(client, "todo.a", "x")

    async def take(key: str) -> Any:
        sent: Any = {"json": {"pattern": "todo.*", "lease_seconds": 600}, "headers": {"Idempotency-Key": key}}
        return (await client.post("/v1/entries/take", **sent)).json()["entry"]

    held = await take("one")
    assert (held["state"], held["fence"], await take("one"), await take("two")) == ("leased", 2, held, None)
    place = f"/v1/entries/{held['id']}"
    renewed = await client.post(f"{place}/renew", json={"fence": 2, "lease_seconds": 900})
    assert renewed.json()["version"] == 3
    assert (await client.post(f"{place}/give-back", json={"fence": 2})).json()["version"] == 4
    assert (await client.post(f"{place}/confirm", json={"fence": 2})).status_code == 409
    again = await take("three")
    assert (await client.post(f"{place}/confirm", json={"fence": again["fence"]})).json()["version"] == 6
    assert await contents(client) == []


async def test_a_taking_needs_a_key_and_repeated_finds_the_same(site: Site) -> None:
    client, key = site.client(), {"Idempotency-Key": "once"}
    await written(client, "todo.a", "x")
    await written(client, "todo.a", "y")
    without = await client.post("/v1/entries/take", json={"pattern": "todo.*"})
    assert (without.status_code, without.json()["field"]) == (422, "Idempotency-Key")
    taken = [await client.post("/v1/entries/take", json={"pattern": "todo.*"}, headers=key) for _ in range(2)]
    assert [one.json()["entry"]["content"] for one in taken] == ["x", "x"]
    assert await contents(client) == ["y"]
    none = await client.post("/v1/entries/take", json={"pattern": "nothing"}, headers={"Idempotency-Key": "other"})
    assert none.json() == {"entry": None}
    sent = {"json": {"pattern": "late", "wait": 60}, "headers": {"Idempotency-Key": "third"}}
    waiting = asyncio.ensure_future(client.post("/v1/entries/take", **sent))
    await written(client, "late", "z")
    assert (await waiting).json()["entry"]["content"] == "z"


async def test_what_is_to_last_is_promoted_to_a_scope_the_token_sees(site: Site) -> None:
    mine = await site.served.board.submit("mine", tenant="acme")
    client = site.client(await site.token("entries:read", "entries:write", tenant="acme"))
    first = await written(client, "found.bank", "Beta", scope=f"run:{mine}")
    path = f"/v1/entries/{first['id']}/promote"
    kept = [await client.post(path, json={"to": "tenant:acme", "topic": "learned.bank"}) for _ in range(2)]
    assert [one.status_code for one in kept] == [201, 200]
    assert {**kept[0].json(), "new": False} == kept[1].json()
    entry = (await client.get(f"/v1/entries/{kept[0].json()['id']}")).json()
    assert (entry["topic"], entry["content"], entry["taint"]) == ("learned.bank", "Beta", ["token:ci"])
    assert entry["links"] == [{"rel": "derived_from", "to": first["id"]}]
    for to, status in (("public", 403), ("tenant:other", 403), (f"run:{mine}", 422), ("nowhere", 422)):
        assert (await client.post(path, json={"to": to})).status_code == status, to
    hidden = await written(site.client(), "a", "hidden", scope="public")
    assert (await client.post(f"/v1/entries/{hidden['id']}/promote", json={"to": "tenant:acme"})).status_code == 404


async def test_what_is_to_go_is_erased_by_who_may_and_only_what_is_the_tenants(site: Site) -> None:
    board, whole = site.served.board, site.client()
    theirs = await board.submit("theirs", tenant="other")
    writer = site.client(await site.token("entries:read", "entries:write", tenant="acme"))
    eraser = site.client((await Tokens(board.catalog).create("eraser", ("entries:erase",), tenant="acme"))[0])
    ours = await written(writer, "a", "our secret")
    other = await Entries(board, "public", author=Author(kind="program", name="ci")).post("a", "public secret")
    assert (await writer.post("/v1/entries/erase", json={"author": "ci"})).status_code == 403
    assert (await eraser.get("/v1/entries")).status_code == 403
    for body, status in (
        ({}, 422), ({"author": "ci", "tenant": "acme"}, 422), ({"tenant": "other"}, 403), ({"run": theirs}, 404),
        ({"author": "ci", "scope": "public"}, 403), ({"author": "ci", "scope": f"run:{theirs}"}, 404),
    ):  # fmt: skip
        assert (await eraser.post("/v1/entries/erase", json=body)).status_code == status, body
    done = await eraser.post("/v1/entries/erase", json={"author": "ci", "reason": "asked"})
    assert (done.status_code, done.json()["facts"], done.json()["scopes"]) == (200, 1, ["tenant:acme"])
    entry = (await writer.get(f"/v1/entries/{ours['id']}")).json()
    assert (entry["state"], entry["erased"]["by"]["name"], entry["erased"]["reason"]) == (
        "erased",
        "token:eraser",
        "asked",
    )
    assert (await whole.get(f"/v1/entries/{other.id}")).json()["content"] == "public secret"
    again = (await whole.post("/v1/entries/erase", json={"author": "ci"})).json()
    assert (again["facts"], again["scopes"]) == (1, ["public"])


async def test_a_past_that_was_compacted_is_gone_and_says_from_where_it_reads(site: Site) -> None:
    client = site.client()
    first = await written(client, "a", 1)
    await client.post(f"/v1/entries/{first['id']}/amend", json={"content": 2})
    done = await site.served.compact(older_than=0)
    answer = await client.get(f"/v1/entries/{first['id']}", params={"at": first["position"]})
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:arbiter:problem:compacted")
    assert done.readable_from in answer.text


async def test_a_stream_tells_each_fact_once_and_goes_on_where_it_ended(site: Site) -> None:
    client = site.client()
    first = await written(client, "a.b", 1)
    await written(client, "c", 2)
    await client.post(f"/v1/entries/{first['id']}/amend", json={"content": 3})

    async def facts(most: int, **headers: str) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        last = ""
        params = {"pattern": "a.>", **({} if headers else {"after": "-"})}
        async with client.stream("GET", "/v1/entries/events", params=params, headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    last = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    found.append((last, json.loads(line.removeprefix("data: "))["data"]["content"]))
                    if len(found) == most:
                        break
        return found

    everything = await facts(2)
    assert [content for _, content in everything] == [1, 3]
    assert await facts(1, **{"Last-Event-ID": everything[0][0]}) == everything[1:]


async def test_a_busy_stream_ends_as_well_when_its_token_is_revoked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = count(0.0, 60.0)
    monkeypatch.setattr(streams, "clock", lambda: next(minutes))
    client = site.client(await site.token("entries:read"))
    async with client.stream("GET", "/v1/entries/events") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        await written(site.client(), "a", 1)
        assert [line async for line in _upto(lines, "data: ")]
        await Tokens(site.served.board.catalog).revoke("ci")
        await written(site.client(), "a", 2)
        async with asyncio.timeout(30):
            rest = [line async for line in lines]
    assert "event: problem" in rest
    assert not any(line.startswith("id: ") for line in rest), "what happens afterwards is not told"


async def _upto(lines: AsyncIterator[str], beginning: str) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith(beginning):
            yield line
            return


async def test_a_process_that_ends_lets_go_of_whoever_waits_and_follows(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running(redis_server.url, tmp_path, roles=()) as site:
        client = site.client()
        sent: dict[str, Any] = {"json": {"pattern": "late", "wait": 60}, "headers": {"Idempotency-Key": "k"}}
        waiting = asyncio.ensure_future(client.post("/v1/entries/take", **sent))
        async with client.stream("GET", "/v1/entries/events") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            async with asyncio.timeout(30):
                await site.api.close()
                ended = await waiting
                async for _ in lines:
                    pass
        assert (ended.status_code, ended.json()["type"]) == (503, "urn:arbiter:problem:engine_unavailable")
        await Entries(site.served.board, "tenant:default").post("late", "still there")
        assert len((await site.served.entries.query("late")).entries) == 1


@pytest.mark.parametrize(
    ("verb", "path", "sent", "status", "field"),
    [
        ("POST", "/v1/entries", {"json": {"topic": "a"}}, 422, "content"),
        ("POST", "/v1/entries", {"json": {"topic": "a..b", "content": 1}}, 422, "topic"),
        ("POST", "/v1/entries", {"json": {"topic": "a", "content": 1, "scope": "x"}}, 422, "scope"),
        ("POST", "/v1/entries", {"json": {"topic": "a", "content": 1, "confidence": 2}}, 422, "confidence"),
        ("POST", "/v1/entries", {"json": {"topic": "a", "content": 1, "taint": ["no label"]}}, 422, "taint"),
        ("POST", "/v1/entries", {"json": {"topic": "a", "content": 1, "links": [{"rel": "is", "to": "x"}]}}, 422, "links.0.rel"),
        ("POST", "/v1/entries", {"json": {"topic": "a", "content": 1, "scope": "run:none"}}, 404, None),
        ("GET", "/v1/entries?where=amount", {}, 422, "where"),
        ("GET", "/v1/entries?limit=101", {}, 422, "limit"),
        ("GET", "/v1/entries?about=+", {}, 422, "about"),
        ("GET", "/v1/entries/events?pattern=a..b", {}, 422, "pattern"),
        ("GET", "/v1/entries/events?after=x", {}, 422, "Last-Event-ID"),
        ("GET", f"/v1/entries/tenant:default{NOBODY}", {}, 404, None),
        ("GET", "/v1/entries/nothing", {}, 422, "entry"),
        ("POST", f"/v1/entries/tenant:default{NOBODY}/remove", {}, 405, None),
        ("POST", "/v1/entries/take", {"json": {"pattern": "a", "wait": 61}, "headers": {"Idempotency-Key": "k"}}, 422, "wait"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told_with_its_field(
    site: Site, verb: str, path: str, sent: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await site.client().request(verb, path, **sent)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
