"""The description of the HTTP API: that it is valid, has every route, and is told to whoever asks.

That answers are as described is looked at by the clients of all tests of the API; see ``http_described``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter
from http_described import OTHERS, fits
from http_site import Site, running
from jsonschema import Draft202012Validator
from starlette.routing import Route

from arbiter.http.application import Application
from arbiter.http.openapi import document
from blackboard import events
from blackboard.testing import RedisServer


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path) as one:
        yield one


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (one for name, one in value.items() if name == "$ref")
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


async def test_every_route_that_is_served_is_described_and_no_other() -> None:
    app: Any = Application.__new__(Application)
    Application.__init__(app, *[None] * 4)  # type: ignore[arg-type]
    served = {
        (method, route.path.replace(":path", ""))
        for route in app.app._app.routes
        if isinstance(route, Route) and not OTHERS.match(route.path)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == {(verb.upper(), path) for path, found in document()["paths"].items() for verb in found}


def test_the_description_is_sound() -> None:
    said = document()
    for name, schema in said["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), (
            "two models of one name, or one that takes and gives different things"
        )
    for reference in _references(said):
        found: Any = said
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    operations = [one for found in said["paths"].values() for one in found.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] and one["tags"] for one in operations)


def test_every_event_is_described_by_its_type() -> None:
    said = document()["components"]["schemas"]["Event"]
    assert {*said["discriminator"]["mapping"]} == {f"{events.PREFIX}{kind}{events.SUFFIX}" for kind in events.TYPES}
    with pytest.raises(AssertionError):
        fits({"$ref": "#/components/schemas/Event"}, {"type": "dev.arbiter.run.gone.v1"}, "an event there is not")


async def test_the_description_is_told_without_a_token_and_by_the_command(site: Site) -> None:
    told = (await site.client("").get("/v1/openapi.json")).json()
    assert told == document()
    assert json.loads(arbiter("openapi").stdout) == told


async def test_events_of_a_run_are_as_described(site: Site) -> None:
    client = site.client()
    run = (await client.post("/v1/runs", json={"go": 1})).json()["run_id"]
    assert (await client.get(f"/v1/runs/{run}", params={"wait": 30})).json()["status"] == "succeeded"
    found = [
        json.loads(line.removeprefix("data: "))
        for line in (await client.get(f"/v1/runs/{run}/events")).text.splitlines()
        if line.startswith("data: ")
    ]
    assert {one["type"] for one in found} >= {"dev.arbiter.run.accepted.v1", "dev.arbiter.run.completed.v1"}
    for one in found:
        fits({"$ref": "#/components/schemas/Event"}, one, one["type"])


async def test_an_option_is_given_once(site: Site) -> None:
    refused = await site.client().get("/v1/runs", params={"limit": [1, 2]})
    assert (refused.status_code, refused.json()["field"]) == (422, "limit")
