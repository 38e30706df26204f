"""Whoever wrote a function reads where it failed, and whoever used the SDK wrongly what to write instead."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from runlog import Log

from arbiter import Arbiter, BadInput, Call, RunFailed, capability, loading, narration
from arbiter.cli import main
from arbiter.display import run_html, run_text
from arbiter.fold import fold
from blackboard.errors import ModelUnavailable
from blackboard.testing import RedisServer
from wrapper.models import resolve

SHOP = """
from arbiter import capability as offered


def _rate(weight):
    return 1 / weight


@offered
def shipping(weight: int) -> float:
    '''Price of a parcel.'''
    return _rate(weight)


@offered
def packing(weight: int) -> float:
    '''Price of a box.'''
    return 1.0


_hidden = packing
"""


@capability
def division(by: int) -> float:
    """Divide one by a number."""
    return 1 / by


@capability
async def slow_division(by: int) -> float:
    """Divide one by a number, in the event loop."""
    return 1 / by


@pytest.mark.parametrize("name", ["division", "slow_division"])
async def test_a_failure_carries_the_traceback_from_the_functions_own_code_on(
    redis_server: RedisServer, name: str
) -> None:
    board = f"t{uuid.uuid4().hex[:12]}"
    async with Arbiter(redis_server.url, board=board, capabilities=[division, slow_division], roles=()) as a:
        result = await a.run(Call(name, {"by": 0}), timeout=60)
        (said,) = narration.traces(result.state)
        html = run_html(result.state)
    lines = said.splitlines()
    assert lines[:2] == [f"Where {name} failed:", "Traceback (most recent call last):"]
    assert __file__ in lines[2], "the frames that lead to the function are left out"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "<details" in html
    assert "return 1 / by" in html
    with pytest.raises(RunFailed, match=r"failed: ZeroDivisionError") as failed:
        result.raise_for_status()
    assert failed.value.__notes__ == [said]


def test_a_call_without_an_event_loop_fails_without_a_word_about_event_loops(redis_server: RedisServer) -> None:
    board = f"t{uuid.uuid4().hex[:12]}"
    a = Arbiter(redis_server.url, board=board, capabilities=[division], roles=())
    with pytest.raises(BadInput, match=r"Did you mean division\?$") as refused:
        a.run_sync(Call("divison", {"by": 1}))
    assert not isinstance(refused.value.__context__, RuntimeError)
    with pytest.raises(RunFailed) as failed:
        a.run_sync(Call("division", {"by": 0})).raise_for_status()
    assert "RuntimeError" not in failed.value.__notes__[0]


def test_a_run_that_nobody_begins_says_so_to_whoever_waits(redis_server: RedisServer) -> None:
    board = f"t{uuid.uuid4().hex[:12]}"
    with pytest.raises(TimeoutError, match=r"still queued after 0\.1 s, and no process has begun it"):
        Arbiter(redis_server.url, board=board, roles=()).run_sync("Plan this.", timeout=0.1)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"roles": "arbiter"}, "roles: 'arbiter' was refused. Write a list, even of one"),
        ({"roles": ["planner"]}, "roles: 'planner' was refused. Use any of"),
        ({"capabilities": division}, "Write a list, even of one"),
    ],
)
def test_what_should_be_a_list_is_said_to_be_one(given: dict[str, object], remedy: str) -> None:
    with pytest.raises(BadInput, match=remedy):
        Arbiter(**given)  # type: ignore[arg-type]


async def test_limits_that_are_a_mapping_are_refused(redis_server: RedisServer) -> None:
    async with Arbiter(redis_server.url, board=f"t{uuid.uuid4().hex[:12]}", capabilities=[division], roles=()) as a:
        with pytest.raises(BadInput, match=r"limits: \{'rounds': 2\} was refused. Write Limits\("):
            await a.run(Call("division", {"by": 1}), limits={"rounds": 2})  # type: ignore[arg-type]


def test_a_file_offers_what_is_decorated_in_it(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    assert [one.manifest.name for one in loading.capabilities([str(file)])] == ["shipping", "packing"]
    assert [one.manifest.name for one in loading.capabilities([f"{file}:packing"])] == ["packing"]
    with pytest.raises(BadInput, match=r"shop.py has no price. It has shipping, packing\."):
        loading.capabilities([f"{file}:price"])
    file.write_text(f"{SHOP}\nCAPABILITIES = [packing]\n")
    assert [one.manifest.name for one in loading.capabilities([str(file)])] == ["packing"]


def test_a_file_has_strategies_that_are_functions_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "rates.py"
    file.write_text("def one(candidate): return 1.0\nSTRATEGIES = {'one': one}\nBAD = {'one': 1}\nNONE = {}\n")
    assert set(loading.strategies([str(file), f"{file}:STRATEGIES"])) == {"one"}
    for name in ("one", "BAD", "NONE", "missing"):
        with pytest.raises(BadInput, match=rf'Let .*rates.py have {name} = {{"name": a function that rates}}'):
            loading.strategies([f"{file}:{name}"])
    with pytest.raises(BadInput, match=r"strategies: .* It cannot be imported"):
        loading.strategies([str(tmp_path / "nothing.py")])


def test_show_says_where_the_function_failed(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    board = f"t{uuid.uuid4().hex[:12]}"
    found = loading.capabilities([str(file)])
    a = Arbiter(redis_server.url, board=board, capabilities=found, roles=())
    result = a.run_sync(Call("shipping", {"weight": 0}), timeout=60)
    assert main(["show", result.run_id, "--url", redis_server.url, "--board", board]) == 0
    shown = capsys.readouterr().out
    assert "Where shipping failed:" in shown
    assert "return 1 / weight" in shown


def test_a_model_nobody_named_is_said_to_be_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> None:
        raise ModelUnavailable("bedrock: no AWS credentials were found.")

    monkeypatch.delenv("ARBITER_MODEL", raising=False)
    monkeypatch.setattr("wrapper.models.bedrock.bedrock_model", without)
    with pytest.raises(
        ModelUnavailable, match=r"this is the default\. Name another with model=, --model or ARBITER_MODEL"
    ):
        resolve(None)
    with pytest.raises(ModelUnavailable, match=r"were found\.$"):
        resolve("bedrock")


def test_the_text_of_a_long_run_keeps_what_failed_and_says_what_is_left_out() -> None:
    log = Log().accepted("x").step(1).planned(1, [{"name": "post_plan", "tasks": []}])
    for number in range(200):
        status = "failed" if number == 150 else "succeeded"
        log.posted(f"1.t{number}", "work").completed(f"1.t{number}", "work", status)
    log.ended()
    text = run_text(fold(log.run_id, log.events))
    assert len(text.splitlines()) < 30
    assert "1.t150  failed" in text
    assert "and 180 more" in text
