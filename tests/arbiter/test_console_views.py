"""What the console tells in a real browser of plans, agendas, versions and what stands, and that it goes on by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from arbiter_support import FUNCTIONS
from console_browser import Tab, tab
from http_site import Site, running
from plan_steps import half, ref, say, step

from arbiter import AgendaTerms, Call, Inquiry, Limits, Posting, Query, Trigger, Webhook, capability
from arbiter.http.server import Api
from blackboard.testing import RedisServer
from blackboard.webhooks import Webhooks
from registry import ExamRecord, Manifest

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN = asyncio.Event()


@capability(approval=True)
def pay_out(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


@capability
async def gate() -> str:
    """Wait until it is opened."""
    await OPEN.wait()
    return "through"


@capability(triggers=[Trigger(topic="claims.*")])
async def look(entry: dict[str, Any]) -> str:
    """Look at a claim until it is told to stop."""
    await asyncio.Event().wait()
    return "seen"


@capability(triggers=[Trigger(topic="claims.*", priority=1)])
def later(entry: dict[str, Any]) -> str:
    """Look at a claim after others."""
    return "seen too"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    chromium: Any, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    functions = (*FUNCTIONS, half, pay_out, gate, look, later)
    folder = tmp_path_factory.mktemp("console")
    async with running(redis_server.url, folder, capabilities=functions) as one:
        yield one


def numbers(site: Site, name: str, source: str, **more: Any) -> Any:
    """Register a version of code that takes a number."""
    number: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    return site.served.registry.register(
        Manifest(name=name, description="Double it.", input_schema=number), source=source, **more
    )


async def used(site: Site, name: str, times: int) -> None:
    for n in range(times):
        await site.ended(await site.served.submit(Call(name, {"n": n})))


async def test_a_plan_is_told_by_its_steps_and_its_tasks_by_their_states(site: Site, seen: Tab) -> None:
    plan = [
        step("all", "half", {"n": ref("item")}, each="request#/numbers", tolerate=1),
        say("never", "x", when="all.0.n=9"),
        say("always", "y", else_of="never"),
    ]
    run = await site.served.submit({"numbers": [2, 3, 4]}, plan=plan)
    assert await site.ended(run) == "succeeded"
    await seen.go(f"runs/{run}")
    page = seen.page
    steps = page.get_by_role("table", name="Steps of the plan").get_by_role("row")
    assert "3 of 3, 1 failed" in await steps.filter(has_text="half").inner_text()
    assert "all.0.n=9 does not hold" in await steps.filter(has_text="skipped").inner_text()
    rounds = (await site.served.show(run)).state.rounds
    assert f"1 of 20, and {len(rounds) - 1} without the model" in await seen.text()
    tasks = page.get_by_role("table", name="Tasks").locator("tbody tr")
    assert await tasks.count() == 4
    await page.get_by_role("button", name="failed 1").click()
    assert await tasks.count() == 1
    assert "3 is odd" in await tasks.inner_text()
    assert await page.get_by_role("button", name="failed 1").get_attribute("aria-pressed") == "true"


async def test_a_run_that_goes_on_says_what_happens_now_and_what_for_it_waits(site: Site, seen: Tab) -> None:
    plan = [
        step("pay", "pay_out", {"to": "ann"}),
        say("tell", ref("pay#")),
        say("soon", "z", wait_seconds=600.0),
    ]
    run = await site.served.submit("Pay ann.", plan=plan)
    await seen.go(f"runs/{run}")
    page = seen.page
    now = page.locator("section", has=page.get_by_role("heading", name="Now"))
    await now.get_by_role("link", name="waits for approval").wait_for()
    told = await now.inner_text()
    assert "then it is refused" in told
    assert "begins at" in told
    assert "waits for 1.pay" in told
    assert "waits for 1.pay" in await page.get_by_role("row").filter(has_text="1.tell").inner_text()
    await now.get_by_role("link", name="waits for approval").click()
    card = page.get_by_role("article").filter(has_text=run)
    await card.get_by_role("button", name="Refuse").click()
    await page.get_by_role("dialog").get_by_role("button", name="Refuse").click()
    await card.wait_for(state="detached")


async def test_a_run_that_rests_says_why_and_until_when(site: Site, seen: Tab) -> None:
    run = await site.served.submit("Wait.", plan=[say("soon", "z", wait_seconds=600.0)])
    await site.served.pause(run, "the printer is on fire")
    await seen.go(f"runs/{run}")
    told = await seen.page.locator("section", has=seen.page.get_by_role("heading", name="Now")).inner_text()
    assert re.search(r"It rests until .+, or until somebody resumes it: the printer is on fire", told)
    record = (await site.client().get(f"/v1/runs/{run}")).json()
    assert record["paused"]["until_ms"] > 0
    await site.served.resume(run)
    assert (await site.client().get(f"/v1/runs/{run}")).json()["paused"] is None


async def test_a_run_of_many_tasks_is_shown_in_parts(site: Site, seen: Tab) -> None:
    plan = [say("all", "x", each="request#/items", at_once=50)]
    run = await site.served.submit({"items": [*range(130)]}, plan=plan, limits=Limits(tasks=200))
    assert await site.ended(run) == "succeeded"
    await seen.go(f"runs/{run}")
    page = seen.page
    rows = page.get_by_role("table", name="Tasks").locator("tbody tr")
    assert await rows.count() == 100
    await page.get_by_role("button", name="Show more of 130").click()
    assert await rows.count() == 130
    events = len(await site.served.board.history(run))
    large = await site.served.submit("Much.", plan=[step("much", "rows", {"count": 5000}), say("more", "y")])
    assert await site.ended(large) == "succeeded"
    await seen.go(f"runs/{large}")
    much = page.get_by_role("table", name="Tasks").get_by_role("row").filter(has_text="1.much")
    assert re.search(r"\d,\d{3} bytes, stored apart", await much.inner_text())
    await seen.go(f"runs/{run}")
    await page.get_by_text(f"The latest 300 of {events:,}.").wait_for()
    assert await page.locator(".events li").count() == 300


async def test_a_version_says_how_its_canary_stands_why_it_was_retired_and_what_its_exam_was(
    site: Site, seen: Tab
) -> None:
    exam = ExamRecord(
        public_cases=4, sealed_cases=6, passed=True, mistakes_planted=12, mistakes_noticed=11, properties=3,
        property_inputs=120, examiner="somebody", when=1.0,
    )  # fmt: skip
    await numbers(site, "double", "def handler(n):\n    return 2 * n\n", exam=exam)
    await used(site, "double", 6)
    fails = await numbers(site, "double", "def handler(n):\n    return n.twice()\n")
    await used(site, "double", 7)
    await site.served.registry.reflect()
    tried = await numbers(site, "double", "def handler(n):\n    return n + n\n", canary=0.5)
    await site.served.registry.reflect()
    await seen.go("capabilities/double")
    text = await seen.text()
    for said in ("4 public, 6 sealed", "11 of 12", "3 on 120 inputs", "version.activated", "It is granted nothing."):
        assert said in text, said
    row = seen.page.get_by_role("table", name="Versions", exact=True).get_by_role("row")
    assert "7 of the last 7 tasks failed" in await row.filter(has_text=fails.sha[:12]).inner_text()
    assert "canary for 0.5 of the runs" in await row.filter(has_text=tried.sha[:12]).inner_text()
    await seen.go("capabilities?words=DOUBLE")
    listed = seen.page.locator("tbody tr")
    assert await listed.count() == 2
    await seen.page.get_by_label("Versions").select_option("true")
    await seen.page.get_by_role("button", name="Find").click()
    await listed.nth(2).wait_for()
    assert "retired" in await listed.filter(has_text=fails.sha[:12]).inner_text()


async def test_what_stands_is_shown_with_how_it_fares_and_removed(site: Site, seen: Tab) -> None:
    await site.served.schedule("nightly", "Do it.", cron="@daily")
    await Webhooks(site.served.board).set(
        Webhook(name="erp", url="https://erp.example.com/in", secret="erp", kinds=("run.paused",))
    )
    await seen.go("subscribers")
    page = seen.page
    assert "well" in await page.get_by_role("row").filter(has_text="https://erp.example.com/in").inner_text()
    assert await page.get_by_role("row").filter(has_text="webhook.erp").count() == 1
    await seen.go("schedules")
    row = page.get_by_role("row").filter(has_text="cron(@daily)")
    assert "enabled" in await row.inner_text()
    await row.get_by_role("button", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await row.wait_for(state="detached")
    assert await site.served.schedules.list() == []
    token = await site.token("runs:read")
    async with tab(page.context.browser, site.api.address) as other:
        await other.sign_in(token, "subscribers")
        assert "This token lacks the scope webhooks:write." in await other.text()
        assert "webhook.erp" in await other.text()


async def test_an_agenda_is_shown_explained_and_overruled(site: Site, seen: Tab) -> None:
    asked = Inquiry(
        entries=[Posting("claims.one", {"amount": 1})],
        agenda=AgendaTerms(concurrency=1, until=Query(topic="verdict")),
    )
    run = await site.served.submit(asked)
    await seen.go(f"runs/{run}")
    page = seen.page
    waits = page.get_by_role("table", name="Activations").get_by_role("row").filter(has_text="later")
    await waits.get_by_text("waiting").wait_for()
    await waits.get_by_role("button", name="Why").click()
    assert "on claims.one" in await page.get_by_role("dialog").inner_text()
    await page.keyboard.press("Escape")
    await waits.get_by_role("button", name="Block").click()
    await page.keyboard.type("not now")
    await page.keyboard.press("Enter")
    await waits.get_by_text("blocked").wait_for()
    (record,) = await site.audit(f"subject~{run} by~http")
    assert record.reason == "not now"
    await site.served.cancel(run)


async def test_what_is_shown_goes_on_when_the_server_is_there_again(
    chromium: Any, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with (
        running(redis_server.url, tmp_path, capabilities=(gate,)) as one,
        tab(chromium, one.api.address) as shown,
    ):
        OPEN.clear()
        run = await one.served.submit(Call("gate", {}))
        await shown.sign_in(one.local, f"runs/{run}")
        page = shown.page
        await page.locator(".live", has_text="live").wait_for()
        async with page.expect_event("requestfailed", _not_there):
            await one.api.close()
        await page.get_by_role("status").filter(has_text="this page goes on trying").wait_for()
        again = Api(f"127.0.0.1:{one.port}", data_dir=tmp_path)

        async def ready() -> str | None:
            return None

        await again.start(one.served, ready)
        try:
            OPEN.set()
            await page.locator("h1 + .badge", has_text="succeeded").wait_for()
            await page.locator(".events", has_text="run.completed").wait_for()
            assert await page.locator(".events li").count() == len(await one.served.board.history(run))
            assert await page.get_by_role("status").inner_text() == ""
        finally:
            await again.close()


def _not_there(request: Any) -> bool:
    return request.url.endswith("/events") and "REFUSED" in request.failure
