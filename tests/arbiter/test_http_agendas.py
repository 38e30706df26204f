"""Agendas and schemas of topics over HTTP: looked at, explained and overruled, and what each token may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from http_site import Site, running

from arbiter import AgendaTerms, Inquiry, Posting, Trigger, capability
from blackboard.testing import RedisServer

GATE: list[asyncio.Event] = []


@capability(triggers=[Trigger(topic="claims.*", priority=2)])
async def check(entry: dict[str, Any]) -> str:
    """Check a claim, once it may."""
    await GATE[-1].wait()
    return str(entry["topic"])


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    GATE.append(asyncio.Event())
    async with running(redis_server.url, tmp_path, capabilities=(check,)) as one:
        yield one
        GATE[-1].set()


async def waiting(site: Site, **more: Any) -> str:
    """A run of whose three activations one was picked, and two wait."""
    known = [Posting(f"claims.{name}", name) for name in "abc"]
    run_id = await site.served.submit(Inquiry(known, AgendaTerms(concurrency=1)), **more)
    async with asyncio.timeout(30):
        while [one.state for one in await site.served.agenda(run_id).activations()] != ["picked", "waiting", "waiting"]:
            await asyncio.sleep(0.02)
    return run_id


async def test_an_agenda_is_listed_explained_and_overruled_and_its_strategy_changed(site: Site) -> None:
    client, run_id = site.client(), await waiting(site)
    base = f"/v1/runs/{run_id}/agenda"
    first = (await client.get(base, params={"limit": 2})).json()
    rest = (await client.get(base, params={"after": first["after"]})).json()
    assert [one["topic"] for one in (*first["activations"], *rest["activations"])] == [
        "claims.a",
        "claims.b",
        "claims.c",
    ]
    assert (first["activations"][1]["rating"], rest["after"]) == (2.0, None)
    assert len((await client.get(base, params={"state": "waiting"})).json()["activations"]) == 2

    key = {"Idempotency-Key": "first"}
    for _ in range(2):
        said = await client.post(f"{base}/3/promote", json={"reason": "it is urgent"}, headers=key)
        assert said.json() == {"id": f"{run_id}/a/3", "state": "waiting"}
    assert (await client.post(f"{base}/2/rerate", json={"rating": 7.5})).json()["state"] == "waiting"
    best = (await client.get(f"{base}/recommended", params={"limit": 1})).json()["recommended"]
    assert [(one["topic"], one["why"]) for one in best] == [("claims.c", "somebody promoted it")]
    assert (await client.post(f"{base}/3/block")).json()["state"] == "blocked"
    assert (await client.post(f"{base}/3/unblock")).json()["state"] == "waiting"
    told = (await client.get(f"{base}/3")).json()
    assert len([one for one in told["steps"] if "it is urgent" in one["what"]]) == 1
    assert [one.kind for one in await site.audit("kind=activation.*")][:2] == [
        "activation.promoted",
        "activation.rerated",
    ]

    assert (await client.get(f"{base}/strategy")).json()["strategy"] == "priority"
    written = (await client.post(f"{base}/strategy", json={"strategy": "fair_share", "weights": {"check": 2}})).json()
    said = (await client.get(f"{base}/strategy")).json()
    assert (said["strategy"], said["weights"], said["version"]) == (
        "fair_share",
        {"check": 2.0},
        f"{written['entry']}:1",
    )
    assert "fair_share" in said["built_in"]


async def test_what_does_not_fit_an_agenda_is_refused_with_field_value_and_remedy(site: Site) -> None:
    client, run_id = site.client(), await waiting(site)
    base = f"/v1/runs/{run_id}/agenda"
    for path, body, field in (
        ("2/rerate", {"rating": 1e12}, "rating"),
        ("2/rerate", {}, "rating"),
        ("2/promote", {"rating": 1}, "rating"),
        ("zero/promote", {}, "activation"),
        ("strategy", {"strategy": "Not A Name"}, "strategy"),
        ("strategy", {"strategy": "priority", "weights": {"check": -1}}, "weights.check"),
    ):
        answer = await client.post(f"{base}/{path}", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
        assert answer.json()["remedy"]
    for query in ({"state": "asleep"}, {"limit": "0"}, {"order": "x"}):
        assert (await client.get(base, params=query)).status_code == 422, query
    assert (await client.post(f"{base}/9/promote")).status_code == 404
    assert (await client.post(f"{base}/2/applaud")).status_code == 404
    assert (await client.post(f"{base}/1/promote")).status_code == 409, "it was picked already"
    plain = await site.served.submit("Without an agenda.")
    assert (await client.get(f"/v1/runs/{plain}/agenda")).json() == {"activations": [], "after": None}
    answer = await client.post(f"/v1/runs/{plain}/agenda/strategy", json={"strategy": "priority"})
    assert (answer.status_code, answer.json()["field"]) == (422, "run")


async def test_a_token_of_a_tenant_knows_only_the_agendas_of_that_and_what_it_writes_is_its_own(site: Site) -> None:
    run_id = await waiting(site, tenant="acme")
    acme, other = [site.client(await site.token("runs:read", "runs:write", tenant=one)) for one in ("acme", "other")]
    for path in ("", "/recommended", "/strategy", "/1"):
        assert (await acme.get(f"/v1/runs/{run_id}/agenda{path}")).status_code == 200, path
        assert (await other.get(f"/v1/runs/{run_id}/agenda{path}")).status_code == 404, path
    assert (await other.post(f"/v1/runs/{run_id}/agenda/2/block")).status_code == 404
    assert (await other.post(f"/v1/runs/{run_id}/agenda/strategy", json={"strategy": "priority"})).status_code == 404
    assert (await acme.post(f"/v1/runs/{run_id}/agenda/2/block")).json()["state"] == "blocked"
    await acme.post(f"/v1/runs/{run_id}/agenda/strategy", json={"strategy": "deadline"})
    (said,) = (await site.served.entries.within(f"run:{run_id}").query("control.strategy")).entries
    assert (said.author.name, said.taint) == ("ci", ("token:ci",))


async def test_a_schema_of_topics_is_set_holds_and_is_taken_away_by_who_is_of_no_tenant(site: Site) -> None:
    client = site.client(await site.token("entries:read", "entries:write"))
    acme = site.client(await site.token("entries:read", "entries:write", tenant="acme"))
    wanted = {"pattern": "claims.invoice.*", "schema": {"type": "object", "required": ["amount"]}}
    assert (await client.post("/v1/topic-schemas", json=wanted)).json() == {
        "pattern": "claims.invoice.*",
        "status": "set",
    }
    assert (await acme.get("/v1/topic-schemas")).json() == {"schemas": [wanted]}
    assert (await acme.post("/v1/topic-schemas", json=wanted)).status_code == 403
    assert (await acme.post("/v1/topic-schemas/remove", json={"pattern": "claims.invoice.*"})).status_code == 403
    entry = {"topic": "claims.invoice.1", "content": {}}
    assert (await client.post("/v1/entries", json=entry)).json()["type"] == "urn:arbiter:problem:bad_input"
    for wrong, field in (
        ({"pattern": "a b", "schema": {}}, "pattern"),
        ({"pattern": "a"}, "schema"),
        ({"pattern": "a", "schema": {"type": "nothing"}}, "schema.type"),
    ):
        answer = await client.post("/v1/topic-schemas", json=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    removed = await client.post("/v1/topic-schemas/remove", json={"pattern": "claims.invoice.*"})
    assert removed.json() == {"pattern": "claims.invoice.*", "status": "removed"}
    assert (await client.post("/v1/topic-schemas/remove", json={"pattern": "claims.invoice.*"})).status_code == 404
    recorded = (await site.served.audit.list("kind=schema.*")).entries
    assert [each.kind for each in recorded] == ["schema.removed", "schema.set"]
    assert all(each.by.startswith("token ci (") for each in recorded)
    assert (await client.post("/v1/entries", json=entry)).status_code == 201
