"""Asking openly and standing watches over HTTP: what they come to, and what each token may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from http_site import Site, running
from test_volunteering import ACCOUNT, SOON, bidder, look_up

from blackboard.testing import RedisServer

QUESTION = {"question": "Who can find the bank details of a supplier?", "input": {"supplier": "Acme"}, "name": "bank"}
WATCH = {"name": "desk", "topic": "claims.*", "where": "amount>=100"}


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    async with running(redis_server.url, tmp_path, capabilities=sources) as one:
        yield one


async def test_what_is_asked_openly_is_bid_on_awarded_and_answered_once(site: Site) -> None:
    client = site.client()
    first, again = [await client.post("/v1/asks", json=QUESTION, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, first.json(), first.headers["location"]) == (
        202, again.json(), f"/v1/asks/{first.json()['run_id']}/bank",
    )  # fmt: skip
    said = (await client.get(first.headers["location"], params={"wait": 30})).json()
    assert (said["status"], said["answer"]) == ("answered", {"supplier": "Acme", "account": ACCOUNT})
    assert [one["content"]["capability"] for one in said["bids"]] == ["look_up"]
    assert said["award"]["content"]["capability"] == "look_up"


async def test_what_nobody_answers_says_why_and_what_is_no_request_is_refused(site: Site) -> None:
    client = site.client()
    posted = await client.post("/v1/asks", json={"question": "Who sings?", "seconds": SOON})
    said = (await client.get(posted.headers["location"], params={"wait": 30})).json()
    assert said["status"] == "unanswered"
    assert "nobody bid" in said["reason"]
    assert (await client.get(f"/v1/asks/{posted.json()['run_id']}/other")).status_code == 404
    for wrong in (
        {},
        {"question": "?", "seconds": -1},
        {"question": "?", "otherwise": "fabricate"},
        {**QUESTION, "name": "a b"},
    ):
        assert (await client.post("/v1/asks", json=wrong)).status_code == 422, wrong


async def test_a_token_of_a_tenant_asks_as_the_tenant_and_sees_only_what_that_asked(site: Site) -> None:
    acme, other = [await site.token("runs:write", "runs:read", tenant=name) for name in ("acme", "other")]
    posted = await site.client(acme).post("/v1/asks", json=QUESTION)
    assert (await site.client(other).get(posted.headers["location"])).status_code == 404
    assert (await site.client(acme).get(posted.headers["location"], params={"wait": 30})).json()["status"] == "answered"
    assert (await site.client(acme).post("/v1/asks?tenant=other", json=QUESTION)).status_code == 403


async def test_a_watch_is_stored_once_listed_and_removed_and_starts_runs(site: Site) -> None:
    client = site.client()
    first, again = [await client.post("/v1/standing", json=WATCH) for _ in range(2)]
    assert (first.status_code, again.status_code, first.json()["scope"]) == (201, 200, "tenant:default")
    await client.post("/v1/entries", json={"topic": "claims.a", "content": {"amount": 120}})
    async with asyncio.timeout(30):
        while not (one := (await client.get("/v1/standing")).json()["standing"][0])["started"]:
            await asyncio.sleep(0.1)
    assert (one["name"], one["started"], one["refused"]) == ("desk", 1, 0)
    assert (await client.post("/v1/standing", json={**WATCH, "where": ""})).status_code == 409
    assert (await client.post("/v1/standing", json={**WATCH, "name": "x", "scope": "run:r1"})).status_code == 422
    assert (await client.post("/v1/standing/desk/remove")).json() == {"name": "desk", "status": "removed"}
    assert (await client.post("/v1/standing/desk/remove")).status_code == 404


async def test_a_token_watches_only_what_it_sees(site: Site) -> None:
    blind = site.client(await site.token("runs:write"))
    assert (await blind.post("/v1/standing", json=WATCH)).json()["scope"] == "entries:read"
    acme, other = [
        site.client(await site.token("runs:write", "runs:read", "entries:read", tenant=name))
        for name in ("acme", "other")
    ]
    for scope in ("tenant:other", "session:desk", "public"):
        assert (await acme.post("/v1/standing", json={**WATCH, "scope": scope})).status_code == 403
    stored = (await acme.post("/v1/standing", json=WATCH)).json()
    assert (stored["scope"], stored["tenant"]) == ("tenant:acme", "acme")
    assert (await other.get("/v1/standing")).json() == {"standing": []}
    assert (await other.post("/v1/standing", json=WATCH)).status_code == 403
    assert (await other.post("/v1/standing/desk/remove")).status_code == 404
