"""The console's side of the server: its files and their headers, where it is served, and what it asks that others may ask too."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from arbiter_support import arbiter, call
from http_site import Site, running

from arbiter import Call, capability
from arbiter.cli import main
from arbiter.http.server import Api
from blackboard.testing import RedisServer
from blackboard.tokens import SCOPES, Tokens
from blackboard.types import Status
from registry import Manifest

MARKUP = '<img src=x onerror="alert(1)">'
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, (call("add", a=1, b=2), "three")) as one:
        yield one


def page_files() -> dict[str, str]:
    return {each.name: each.read_text("utf-8") for each in files("arbiter.http").joinpath("page").iterdir()}


# ---- files and headers -------------------------------------------------------------------------------------------------


async def test_the_page_and_its_files_are_served_without_a_token_under_a_strict_policy(site: Site) -> None:
    client = site.client("")
    names = [name for name in page_files() if name != "index.html"]
    assert {"console.js", "console.css", "icon.svg"} < set(names)
    for path in ("/console", *(f"/console/{name}" for name in names)):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        headers = answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers
        assert headers["content-type"].partition(";")[0] in (
            "text/html",
            "text/css",
            "text/javascript",
            "image/svg+xml",
        )


async def test_nothing_beside_its_files_can_be_had_from_the_console(site: Site) -> None:
    client = site.client("")
    for path in (
        "index.html",
        "nothing.js",
        "..%2fconsole.py",
        "%2e%2e/console.py",
        "__init__.py",
        "a/b",
        "console.js%00",
    ):
        answer = await client.get(f"/console/{path}")
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.post("/console")).status_code == 405


async def test_a_page_of_another_site_gets_no_console(site: Site) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert (await site.client("", **headers).get("/console")).status_code == 403


def test_the_page_has_no_inline_code_no_address_of_others_and_no_way_to_make_elements_of_text() -> None:
    for name, text in page_files().items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text), name
        if name.endswith(".js"):
            ways = r"(inner|outer|Adjacent)HTML|document\.(write|cookie)|DOMParser|eval\(|new Function|localStorage"
            assert not re.search(ways, text), name


# ---- where it is served --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("public", "wanted", "served"),
    [((), None, True), ((), False, False), (("a.example",), None, False), (("a.example",), True, True)],
)
async def test_beyond_the_loopback_interface_it_is_off_unless_it_is_asked_for(
    redis_server: RedisServer, tmp_path: Path, public: tuple[str, ...], wanted: bool | None, served: bool
) -> None:
    async with arbiter(redis_server.url, ["done"], data_dir=tmp_path) as (a, _):
        await Tokens(a.board.catalog).create("one", ("runs:read",))
        api = Api("127.0.0.1:0", public, tmp_path, console=wanted)

        async def ready() -> str | None:
            return None

        said = await api.start(a, ready)
        try:
            async with httpx.AsyncClient(base_url=api.address) as client:
                for path in ("/console", "/console/console.js"):
                    assert (await client.get(path)).status_code == (200 if served else 404)
        finally:
            await api.close()
    assert any("/console" in line for line in said) == served


def test_a_console_without_an_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--url", "memory://", "--console"]) == 2
    assert "It goes with --http HOST:PORT." in capsys.readouterr().err


# ---- what it asks --------------------------------------------------------------------------------------------------------


async def test_any_token_is_told_what_it_opens_and_no_more(site: Site) -> None:
    mine = (await site.client().get("/v1/token")).json()
    assert (mine["name"], mine["tenant"], mine["scopes"]) == ("local", None, list(SCOPES))
    shown = await site.token("audit:read")
    theirs = (await site.client(shown).get("/v1/token")).json()
    assert (theirs["name"], theirs["scopes"], theirs["id"]) == ("ci", ["audit:read"], shown.split("_")[1])
    assert shown.split("_", 2)[2] not in json.dumps(theirs)
    assert (await site.client("").get("/v1/token")).status_code == 401
    assert (await site.client("arb_nothing").get("/v1/token")).status_code == 401


async def test_a_run_is_drawn_as_svg_in_which_its_words_are_text(site: Site) -> None:
    planned = await site.served.submit(f"Add. {MARKUP}")
    failed = await site.served.submit(Call("broken", {"reason": MARKUP}))
    for run in (planned, failed):
        await asyncio.wait_for(site.served.result(run), 60)
    client = site.client(await site.token("runs:read"))
    for run, of in ((planned, "plan"), (planned, "timeline"), (failed, "plan"), (failed, "timeline")):
        answer = await client.get(f"/v1/runs/{run}/picture", params={"of": of, "paper": "dark"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        drawn = ElementTree.fromstring(answer.text)
        assert drawn.tag == f"{SVG}svg"
        assert drawn.attrib["color"] == "#e6e8eb"
        kinds = {each.tag.removeprefix(SVG) for each in drawn.iter()}
        assert kinds <= {"svg", "g", "title", "rect", "text", "path", "circle", "line", "polyline"}
        if (run, of) == (failed, "plan"):
            assert any(MARKUP in (each.text or "") for each in drawn.iter())


async def test_what_cannot_be_drawn_is_refused(site: Site) -> None:
    client = site.client()
    run = await site.served.submit(Call("add", {"a": 1, "b": 2}), tenant="acme")
    for words, status in (({"of": "face"}, 422), ({"paper": "pink"}, 422), ({"size": "9"}, 422)):
        assert (await client.get(f"/v1/runs/{run}/picture", params=words)).status_code == status, words
    assert (await client.get("/v1/runs/rnone/picture")).status_code == 404
    stranger = site.client(await site.token("runs:read", tenant="other"))
    assert (await stranger.get(f"/v1/runs/{run}/picture")).status_code == 404


async def test_a_run_that_has_done_nothing_yet_has_no_picture(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running(redis_server.url, tmp_path, roles=()) as site:
        run = await site.served.submit("later")
        answer = await site.client().get(f"/v1/runs/{run}/picture")
        assert answer.status_code == 404
        assert "nothing to draw yet" in answer.json()["detail"]


async def test_what_happens_to_runs_is_streamed_to_who_may_see_them(site: Site) -> None:
    clients = {"all": site.client(), "acme": site.client(await site.token("runs:read", tenant="acme"))}
    heard: dict[str, list[tuple[str, str]]] = {name: [] for name in clients}

    async def listen(name: str) -> None:
        async with clients[name].stream("GET", "/v1/runs/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    heard[name].append((event["partitionkey"], event["type"].split(".")[3]))

    async def ended(tenant: str) -> str:
        run = await site.served.submit(Call("add", {"a": 1, "b": 2}), tenant=tenant)
        await site.served.result(run)
        return run

    listening = [asyncio.create_task(listen(name)) for name in clients]
    runs: dict[str, set[str]] = {"other": set(), "acme": set()}
    try:
        async with asyncio.timeout(60):
            while not all(any(kind == "completed" for _, kind in said) for said in heard.values()):
                for tenant in runs:
                    runs[tenant].add(await ended(tenant))
    finally:
        for each in listening:
            each.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    assert {run for run, _ in heard["all"]} <= runs["other"] | runs["acme"]
    assert {run for run, _ in heard["acme"]} <= runs["acme"]
    assert {kind for said in heard.values() for _, kind in said} == {"accepted", "completed"}


async def test_a_listing_of_capabilities_says_how_each_fares(site: Site) -> None:
    for _ in range(3):
        await asyncio.wait_for(site.served.result(await site.served.submit(Call("broken", {"reason": "x"}))), 60)
    listed = (await site.client().get("/v1/capabilities")).json()["capabilities"]
    fared = {each["name"]: (each["health"], each["calls"], each["success"], each["version_count"]) for each in listed}
    assert fared["broken"] == ("failing", 3, 0.0, 1)
    assert fared["add"] == ("new", 0, None, 1)


async def test_versions_that_are_not_offered_are_listed_when_they_are_asked_for_and_a_canary_tells_how_it_stands(
    site: Site,
) -> None:
    registry, manifest = site.served.registry, Manifest(name="tries", description="x", input_schema={"type": "object"})
    first = await registry.register(manifest, source="def handler():\n    return 1\n")
    second = await registry.register(manifest, source="def handler():\n    return 2\n")
    third = await registry.register(manifest, source="def handler():\n    return 3\n", activate=False)
    await registry.activate("tries", third.sha, canary=0.25)

    async def listed(**query: str) -> dict[str, str]:
        found = (await site.client().get("/v1/capabilities", params=query)).json()["capabilities"]
        return {each["sha"]: each["state"] for each in found if each["name"] == "tries"}

    assert await listed() == {second.sha: "active", third.sha: "canary"}
    assert await listed(every="true") == {first.sha: "retired", second.sha: "active", third.sha: "canary"}
    trial = (await site.client().get("/v1/capabilities/tries")).json()["trial"]
    assert (trial["sha"], trial["share"]) == (third.sha, 0.25)
    assert trial["said"].startswith("canary for 0.25 of the runs")
    assert (await site.client().get("/v1/capabilities/add")).json()["trial"] is None
    ours = manifest.model_copy(update={"name": "ours", "tenant": "acme"})
    await registry.register(ours, source="def handler():\n    return 1\n")
    other = await registry.register(ours, source="def handler():\n    return 2\n", activate=False)
    await registry.activate("ours", other.sha, canary=0.25)
    stranger = site.client(await site.token("capabilities:read", tenant="other"))
    for every in ("true", "false"):
        shown = (await stranger.get("/v1/capabilities", params={"every": every})).json()["capabilities"]
        names = {each["name"] for each in shown}
        assert "tries" in names
        assert "ours" not in names


async def test_a_task_that_waits_for_a_person_tells_until_when_and_what_counts_then(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    @capability(approval=True)
    def pay(to: str) -> str:
        """Pay somebody."""
        return to

    async with running(redis_server.url, tmp_path, capabilities=(pay,)) as site:
        run = await site.served.submit(Call("pay", {"to": "ann"}))
        async with asyncio.timeout(60):
            while not await site.served.approvals.list():
                await asyncio.sleep(0)
        (task,) = (await site.client().get(f"/v1/runs/{run}")).json()["task_list"]
        assert (task["asked"]["kind"], task["asked"]["otherwise"], task["awaited"]) == ("approval", None, None)
        assert task["asked"]["until_ms"] > 0
        await site.served.approvals.refuse(task["task"], reason="no")
        await asyncio.wait_for(site.served.result(run), 60)
        (task,) = (await site.client().get(f"/v1/runs/{run}")).json()["task_list"]
        assert task["asked"] is None


async def test_a_task_that_is_worked_on_is_told_as_such_though_its_log_does_not_say_so(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running(redis_server.url, tmp_path, roles=()) as site:
        board, client = site.served.board, site.client()

        async def stands(run: str) -> list[tuple[str, int]]:
            tasks = (await client.get(f"/v1/runs/{run}")).json()["task_list"]
            return [(task["state"], task["attempts"]) for task in tasks]

        manifest = Manifest(name="far", description="x", input_schema={"type": "object"}, action="elsewhere")
        await site.served.registry.register(manifest, source="def handler():\n    return 1\n")
        run = await site.served.submit(Call("far", {}))
        assert await stands(run) == [("ready", 0)]
        (claim,) = await board.claim("w", ["elsewhere"])
        assert await stands(run) == [("running", 1)]
        await board.complete(claim, claim.completion(Status.SUCCEEDED, data=1))
        assert await stands(run) == [("succeeded", 1)]
        assert await board.standing(run, [claim.task_id, f"{run}/nothing"]) == {}
