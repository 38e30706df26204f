"""The console in a real browser, on a real board: what people see, do and cannot be made to do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from arbiter_support import add, broken, call
from console_browser import Tab, tab
from http_site import Site, running
from plan_steps import step

from arbiter import Budget, Call, Quota, capability
from blackboard.permits import Question
from blackboard.testing import RedisServer
from blackboard.tokens import Tokens
from registry import ExamRecord, Grants, Manifest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP = """<img src=x onerror="document.documentElement.dataset.ran='1'"><script>document.title='ran'</script>"""
VIEWS = ("runs", "waiting", "capabilities", "dead-letters", "schedules", "subscribers", "limits", "audit")
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
OPEN: dict[str, asyncio.Event] = {}
ANY = {"type": "object"}


@capability
async def gate(name: str) -> str:
    """Wait until it is opened."""
    await OPEN[name].wait()
    return f"through {name}"


@capability(approval=True)
def pay_out(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    chromium: Any, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    turns = (call("add", a=1, b=2), f"It is three. {MARKUP}")
    async with running(redis_server.url, folder, turns, capabilities=(add, broken, gate, pay_out)) as one:
        yield one


async def waiting_version(site: Site, name: str, **provenance: Any) -> str:
    """A version that asks for more than it may have."""
    manifest = Manifest(
        name=name, description=f"Ask. {MARKUP}", input_schema=ANY, provenance=provenance,
        grants=Grants(http_hosts=("api.example.com",)),
    )  # fmt: skip
    exam = ExamRecord(public_cases=1, sealed_cases=1, passed=True, examiner="one", when=1.0)
    source = f"def handler():\n    return {name + MARKUP!r}\n"
    registry = site.served.registry
    return (await registry.register(manifest, source=source, exam=exam, activate=False, sign=False)).sha


async def asked_permit(site: Site, lane: str, url: str) -> str:
    """A request that would carry a secret and waits."""
    manifest = Manifest(name=lane, description="x", input_schema=ANY, action=lane)
    await site.served.registry.register(manifest, source="def handler():\n    return 1\n")
    await site.served.submit(Call(lane, {}))
    (claim,) = await site.served.board.claim("w", [lane])
    question = Question(
        lane, "0" * 64, ("KEY@api.example.com",), ("mail:inbox",), "POST", url, [("X-Note", MARKUP)], b"pay ann 5"
    )
    await site.served.permits.ask(claim, question)
    return next(one.id for one in await site.served.permits.list() if one.capability == lane)


# ---- text stays text ---------------------------------------------------------------------------------------------------


async def test_whatever_a_board_holds_is_shown_as_text_and_runs_nothing(site: Site, seen: Tab) -> None:
    served = site.served
    planned = await served.submit(f"Add. {MARKUP}")
    failed = await served.submit(Call("broken", {"reason": MARKUP}))
    assert (await site.ended(planned), await site.ended(failed)) == ("succeeded", "failed")
    OPEN["never"] = asyncio.Event()
    stopped = await served.submit(Call("gate", {"name": "never"}))
    await served.cancel(stopped, MARKUP)
    sha = await waiting_version(site, "asks_markup", untrusted=[f"mail:{MARKUP[:20].replace(' ', '_')}"])
    marked = Manifest(name="marked", description=f"Do. {MARKUP}", input_schema=ANY)
    await served.registry.register(marked, source="def handler():\n    return 1\n")
    permit = await asked_permit(site, "asks_text", f"https://api.example.com/{MARKUP}")
    page = seen.page
    seen.said.clear()
    await page.evaluate(
        "addEventListener('securitypolicyviolation', event => console.error('violated', event.violatedDirective))"
    )
    where = (
        (f"runs/{planned}", ["It is three", "Add."]), (f"runs/{failed}", []), (f"runs/{stopped}", []), ("runs", []),
        ("waiting", ["https://api.example.com/"]), ("capabilities", ["Do."]), (f"capabilities/asks_markup?sha={sha}", ["Ask."]),
        ("dead-letters", []), (f"dead-letters/{failed}", []), ("audit", []),
    )  # fmt: skip
    for view, words in where:
        await seen.go(view)
        text = await seen.text()
        for word in words:
            assert word in text, (view, text)
        if view != "dead-letters":
            assert "<img src=x onerror=" in text, (view, text)
        pictures = await page.eval_on_selector_all("img", "all => all.map(each => each.src)")
        assert all(source.startswith("blob:") for source in pictures), view
        assert await page.evaluate("document.documentElement.dataset.ran ?? document.title") != "1", view
        assert await page.title() != "ran"
        assert await page.eval_on_selector_all("main script, main iframe, main [onerror]", "all => all.length") == 0
    assert seen.said == []
    await site.served.permits.refuse(permit, reason="done")


async def test_even_the_pages_own_code_could_not_make_elements_out_of_text(seen: Tab) -> None:
    assert "TrustedHTML" in await seen.page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'made' } catch (error) { return String(error) } })()"
    )
    added = "(() => { const made = document.createElement('script'); try { made.text = 'document.title = \"ran\"' } catch {}"
    await seen.page.evaluate(f"{added}; document.body.append(made) }})()")
    assert await seen.page.title() != "ran"


async def test_characters_that_hide_what_is_there_are_shown_as_such(site: Site, seen: Tab) -> None:
    permit = await asked_permit(site, "asks_hidden", "https://api.example.com/\u202egro.elpmaxe")
    await seen.go("waiting")
    assert "https://api.example.com/\ufffdgro.elpmaxe" in await seen.text()
    await site.served.permits.refuse(permit)


# ---- tokens ------------------------------------------------------------------------------------------------------------


async def test_a_token_is_kept_by_the_tab_alone_and_forgotten_when_somebody_signs_out(
    chromium: Any, site: Site
) -> None:
    async with tab(chromium, site.api.address) as one:
        page = one.page
        await one.sign_in(site.local)
        await page.reload()
        await one.ready()
        stored = "JSON.stringify([localStorage.length, document.cookie, Object.values(sessionStorage)])"
        assert json.loads(await page.evaluate(stored)) == [0, "", [site.local]]
        assert site.local not in page.url
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_selector("#top[hidden]", state="attached")
        assert json.loads(await page.evaluate(stored)) == [0, "", []]
        assert await page.context.cookies() == []
        await page.get_by_label("Token").fill("arb_nothing")
        await page.keyboard.press("Enter")
        await page.get_by_text("The token is not valid.").wait_for()


async def test_who_is_signed_in_is_signed_out_when_the_token_is_revoked(chromium: Any, site: Site) -> None:
    token = (await Tokens(site.served.board.catalog).create("left", ("runs:read", "audit:read")))[0]
    async with tab(chromium, site.api.address) as one:
        await one.sign_in(token)
        await Tokens(site.served.board.catalog).revoke("left")
        await one.page.evaluate("location.hash = '/audit'")
        await one.page.get_by_text("The token is not valid.").wait_for()
        assert await one.page.evaluate("sessionStorage.length") == 0


async def test_what_a_token_does_not_open_is_said_and_not_tried(chromium: Any, site: Site) -> None:
    OPEN["looked_at"] = asyncio.Event()
    run = await site.served.submit(Call("gate", {"name": "looked_at"}), tenant="acme")
    token = (await Tokens(site.served.board.catalog).create("looks", ("runs:read",), tenant="acme"))[0]
    async with tab(chromium, site.api.address) as one:
        await one.sign_in(token, f"runs/{run}")
        cancel = one.page.get_by_role("button", name="Cancel")
        await cancel.wait_for()
        assert await cancel.is_disabled()
        assert await cancel.get_attribute("title") == "This token lacks the scope runs:write."
        for view, scope in (("audit", "audit:read"), ("limits", "limits:read"), ("capabilities", "capabilities:read")):
            await one.go(view)
            assert f"Not allowed. This token lacks the scope {scope}." in await one.text()
        await one.go("waiting")
        assert "capabilities:read or secrets:permit" in await one.text()
        await one.go("runs")
        assert run in await one.text()
        assert await one.page.get_by_label("Tenant").count() == 0
    OPEN["looked_at"].set()
    assert await site.audit("kind=token.refused subject~" + token.split("_")[1]) == []


# ---- what people do ----------------------------------------------------------------------------------------------------


async def test_a_run_is_watched_without_looking_again_and_what_was_opened_stays_open(site: Site, seen: Tab) -> None:
    OPEN["watched"] = asyncio.Event()
    run = await site.served.submit(Call("gate", {"name": "watched"}))
    await seen.go("runs")
    page = seen.page
    row = page.get_by_role("row").filter(has_text=run)
    await row.get_by_text("running").wait_for()
    await row.get_by_role("link").click()
    await seen.ready()
    await page.get_by_role("table", name="Tasks").get_by_text("running").wait_for()
    opened = page.get_by_role("table", name="Tasks").locator("details").first
    await opened.locator("summary").click()
    OPEN["watched"].set()
    await page.locator("h1 + .badge", has_text="succeeded").wait_for()
    await page.locator(".events", has_text="run.completed").wait_for()
    await page.get_by_role("table", name="Tasks").get_by_text("through watched").first.wait_for()
    assert await opened.get_attribute("open") is not None
    assert await page.get_by_role("button", name="Cancel").count() == 0


async def test_a_new_run_appears_in_the_list_by_itself(site: Site, seen: Tab) -> None:
    await seen.go("runs")
    await seen.page.locator(".live", has_text="live").wait_for()
    run = await site.served.submit(Call("broken", {"reason": "late"}))
    await seen.page.get_by_role("row").filter(has_text=run).get_by_text("failed").wait_for()


async def test_runs_are_found_by_what_stands_in_the_address(site: Site, seen: Tab) -> None:
    ours = await site.served.submit(Call("broken", {"reason": 'the "blue" one'}), tenant="blue")
    other = await site.served.submit(Call("broken", {"reason": "the red one"}), tenant="red")
    await site.ended(ours)
    await seen.go("runs")
    await seen.page.get_by_label("Status").select_option("failed")
    await seen.page.get_by_label("Tenant").fill("blue")
    await seen.page.keyboard.press("Enter")
    await seen.page.get_by_role("row").filter(has_text=ours).wait_for()
    assert "status=failed" in seen.page.url
    assert "tenant=blue" in seen.page.url
    assert other not in await seen.text()


async def test_a_list_goes_on_beyond_its_first_page_when_somebody_asks(site: Site, seen: Tab) -> None:
    await asyncio.gather(
        *(site.served.submit(Call("add", {"a": number, "b": 1}), tenant="many") for number in range(52))
    )
    await seen.go("runs?tenant=many")
    rows = seen.page.locator("tbody tr")
    assert await rows.count() == 50
    await seen.page.get_by_role("button", name="More").click()
    await rows.nth(51).wait_for()
    assert await rows.count() == 52


async def test_a_run_is_submitted_paused_resumed_and_cancelled_with_the_keyboard_alone(site: Site, seen: Tab) -> None:
    page = seen.page
    OPEN["held"] = asyncio.Event()
    run = await site.served.submit(Call("gate", {"name": "held"}))
    await seen.go(f"runs/{run}")
    for button, reason, badge in (
        ("Pause", "a rest", "paused"),
        ("Resume", None, "running"),
        ("Cancel", "enough", "cancelled"),
    ):
        await page.get_by_role("button", name=button, exact=True).focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("dialog").wait_for()
        if reason is not None:
            await page.keyboard.type(reason)
        await page.keyboard.press("Enter")
        await page.locator("h1 + .badge", has_text=badge).wait_for()
    records = {each.kind: each.reason for each in await site.audit(f"subject~{run}")}
    assert (records["run.paused"], records["run.cancelled"]) == ("a rest", "enough")
    await seen.go("runs")
    await page.get_by_role("button", name="New run").press("Enter")
    await page.get_by_role("dialog").wait_for()
    await page.keyboard.type("Say it again.")
    await page.get_by_role("button", name="Submit").press("Enter")
    await page.locator("h1", has_text="Run r").wait_for()
    made = page.url.rpartition("/")[2]
    assert (await site.served.show(made)).state.request == "Say it again."


async def test_escape_leaves_a_question_and_nothing_is_done(site: Site, seen: Tab) -> None:
    OPEN["left"] = asyncio.Event()
    run = await site.served.submit(Call("gate", {"name": "left"}))
    await seen.go(f"runs/{run}")
    await seen.page.get_by_role("button", name="Cancel", exact=True).click()
    await seen.page.get_by_role("dialog").wait_for()
    await seen.page.keyboard.press("Escape")
    await seen.page.get_by_role("dialog").wait_for(state="detached")
    OPEN["left"].set()
    assert await site.ended(run) == "succeeded"


async def test_grants_are_approved_only_by_who_was_shown_them_and_where_they_come_from(site: Site, seen: Tab) -> None:
    sha = await waiting_version(site, "asks_more", untrusted=["mail:inbox"])
    page = seen.page
    await seen.go("waiting")
    card = page.get_by_role("article").filter(has_text="asks_more")
    await card.get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog")
    shown = await dialog.inner_text()
    assert "api.example.com" in shown
    assert "not trusted: mail:inbox" in shown
    assert sha in shown
    await dialog.get_by_text("Code").click()
    assert "def handler():" in await dialog.inner_text()
    await dialog.get_by_role("button", name="Approve").click()
    assert await dialog.count() == 1, "the box that says that it was seen is not ticked"
    await dialog.get_by_label("I have seen where it comes from").check()
    await dialog.get_by_role("button", name="Approve").click()
    await card.wait_for(state="detached")
    (active,) = [each for each in await site.served.registry.list() if each.name == "asks_more"]
    assert active.sha == sha


async def test_a_request_with_a_secret_is_refused_by_who_was_shown_all_of_it(site: Site, seen: Tab) -> None:
    permit = await asked_permit(site, "asks_pay", "https://api.example.com/pay?who=ann")
    page = seen.page
    await seen.go("waiting")
    card = page.get_by_role("article").filter(has_text="pay?who=ann")
    await card.get_by_role("button", name="Refuse").click()
    dialog = page.get_by_role("dialog")
    shown = await dialog.inner_text()
    for part in (
        "POST https://api.example.com/pay?who=ann",
        "X-Note: <img",
        "pay ann 5",
        "KEY@api.example.com",
        "mail:inbox",
    ):
        assert part in shown, part
    await dialog.get_by_label("Reason, for the record").fill("ann is not owed")
    await page.keyboard.press("Enter")
    await card.wait_for(state="detached")
    (record,) = await site.audit("kind=secret.refused by~http")
    assert record.reason == "ann is not owed"
    assert record.detail["permit"] == permit


async def test_a_task_is_done_with_what_a_person_was_shown_and_changed(site: Site, seen: Tab) -> None:
    run = await site.served.submit(Call("pay_out", {"to": MARKUP}))
    page = seen.page
    await seen.go("waiting")
    card = page.get_by_role("article").filter(has_text="May pay_out be done?")
    await card.wait_for()
    assert json.dumps({"to": MARKUP}, separators=(",", ":")) in await card.inner_text()
    await card.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Arguments").fill('{"to": 5}')
    await dialog.get_by_role("button", name="Approve").click()
    await dialog.get_by_role("alert").filter(has_text="do not fit pay_out").wait_for()
    await dialog.get_by_label("Arguments").fill('{"to": "ann"}')
    await dialog.get_by_role("button", name="Approve").click()
    await card.wait_for(state="detached")
    assert (await site.served.result(run, timeout=60)).data == "paid ann"
    assert [each.subject for each in await site.audit("kind=task.approved")] == [f"{run}/0.call"]


async def test_work_that_was_given_up_is_put_back(site: Site, seen: Tab) -> None:
    run = await site.served.submit(Call("broken", {"reason": "put me back"}))
    assert await site.ended(run) == "failed"
    page = seen.page
    await seen.go(f"runs/{run}")
    await page.locator("summary", has_text="put me back").click()
    assert "\n    raise RuntimeError(reason)\nRuntimeError: put me back" in await seen.text(), (
        "lines, and no JSON of them"
    )
    await seen.go(f"dead-letters/{run}")
    assert "put me back" in await seen.text()
    await page.get_by_role("button", name="Put back").click()
    await page.get_by_role("dialog").get_by_role("button", name="Put back").click()
    await page.locator("h1", has_text="Run r").wait_for()
    made = page.url.rpartition("/")[2]
    assert made != run
    assert (await site.served.show(made)).state.redrive_of == run


async def test_a_run_that_failed_is_gone_on_from(site: Site, seen: Tab) -> None:
    plan = [step("one", "add", {"a": 1, "b": 2}), step("two", "broken", {"reason": "no"}, after=["one"])]
    run = await site.served.submit("Go on from me.", plan=plan)
    assert await site.ended(run) == "failed"
    page = seen.page
    await seen.go(f"runs/{run}")
    await page.get_by_role("button", name="Rerun").click()
    await page.get_by_role("dialog").get_by_role("button", name="Rerun").click()
    await page.get_by_role("link", name=run).first.wait_for()
    made = page.url.rpartition("/")[2]
    assert (await site.served.result(made, timeout=60)).state.rerun_of.run == run  # pyright: ignore
    await page.get_by_text("taken over", exact=True).wait_for()


async def test_budgets_quotas_and_the_audit_are_shown(site: Site, seen: Tab) -> None:
    await site.served.set_budget(Budget(level="tenant:money", tokens=1000, money=2_500_000))
    await site.served.quotas.set(Quota(subject="tenant:money", open_runs=7))
    await site.served.quotas.set(Quota(subject="model:m", tokens_per_minute=5000))
    await seen.go("limits")
    text = await seen.text()
    assert "tenant:money" in text
    assert "2.50" in text
    assert "0 of 7" in text
    assert re.search(r"0 of 5\D?000", text)
    token, _ = await Tokens(site.served.board.catalog).create("noted", ("runs:read",))
    await seen.go("audit?kind=token.made")
    text = await seen.text()
    assert token.split("_")[1] in text
    assert "run.cancelled" not in text


async def test_what_the_server_refuses_is_said_in_its_own_words(seen: Tab) -> None:
    await seen.go("runs/rnosuchrun")
    assert "No run rnosuchrun" in await seen.text()


# ---- how it looks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["wide", "narrow"])
async def test_every_view_fits_its_width(chromium: Any, site: Site, size: dict[str, int], scheme: str) -> None:
    run = await site.served.submit(Call("broken", {"reason": "x" * 600}), tenant="a-tenant-with-a-name-that-is-long")
    assert await site.ended(run) == "failed"
    async with tab(chromium, site.api.address, viewport=size, color_scheme=scheme) as one:
        await one.sign_in(site.local)
        for view in (*VIEWS, "capabilities/broken", f"dead-letters/{run}", f"runs/{run}"):
            await one.go(view)
            wide = await one.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], view
        light = await one.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((sum, each) => sum + each) > 380"
        )
        assert light == (scheme == "light")
        await one.page.locator("main img").nth(1).wait_for()
        widths = "async all => { await Promise.all(all.map(each => each.decode())); return all.map(each => each.naturalWidth) }"
        assert min(await one.page.eval_on_selector_all("main img", widths)) > 50
