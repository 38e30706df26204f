"""A process without a model carries out what needs none, and says what it lacks for the rest."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS
from cli_process import arbiter as command
from plan_steps import say

from arbiter import Arbiter, Call, Limits, ModelUnavailable, Trigger, capability
from arbiter.inquiry import Inquiry, Posting
from blackboard.board import Board
from blackboard.testing import RedisServer

ROLES: Any = ("arbiter", "wrapper")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """None, until somebody puts something in."""
    from arbiter import ScriptedModel

    found: list[str] = []

    def bedrock(*_: object, **__: object) -> object:
        if not found:
            raise ModelUnavailable("bedrock: no AWS credentials were found.")
        return ScriptedModel(["From the model."])

    monkeypatch.delenv("ARBITER_MODEL", raising=False)
    monkeypatch.setattr("wrapper.models.bedrock.bedrock_model", bedrock)
    return found


def opened(server: RedisServer, **more: Any) -> Arbiter:
    return Arbiter(server.url, board="t" + uuid.uuid4().hex[:12], roles=ROLES, capabilities=FUNCTIONS, **more)


@pytest.mark.usefixtures("credentials")
async def test_plans_calls_and_agendas_are_carried_out_without_a_model(redis_server: RedisServer) -> None:
    @capability(triggers=[Trigger(topic="claims.*")])
    async def check(entry: dict[str, Any]) -> str:
        """Check a claim."""
        return "checked"

    async with opened(redis_server) as a:
        await a.register(check)
        planned = await a.run(
            "go", plan=[say("one", "x"), say("two", "y", when="one=x")], limits=Limits(money=10), timeout=60
        )
        called = await a.run(Call("add", {"a": 1, "b": 2}), timeout=60)
        asked = await a.run(Inquiry([Posting("claims.a", 1)]), timeout=60)
    assert (planned.status, planned.answer) == ("succeeded", '"y"')
    assert called.data == {"sum": 3}
    assert asked.status == "succeeded"
    assert a.model_label == "none"


@pytest.mark.usefixtures("credentials")
async def test_a_request_that_has_to_be_planned_is_refused_where_nobody_can_plan_it(redis_server: RedisServer) -> None:
    async with opened(redis_server) as a:
        with pytest.raises(ModelUnavailable, match=r"Name another with model=.* plan of its own \(plan=, --plan\)"):
            await a.submit("go")
        assert list(await a.runs()) == []


@pytest.mark.usefixtures("credentials")
async def test_a_run_of_somebody_else_that_has_to_be_planned_ends_and_says_why(redis_server: RedisServer) -> None:
    async with opened(redis_server) as a, await Board.open(redis_server.url, board=a.board.name) as other:
        run = await other.submit("go")
        result = await a.result(run, timeout=60)
    assert (result.status, result.error.type) == ("failed", "model_unavailable")
    assert "no AWS credentials were found. No model was named" in result.error.message
    assert len([task for task in result.state.tasks.values() if task.retries]) == 0, (
        "another attempt would say the same"
    )


async def test_a_model_that_can_be_had_later_is_used_from_then_on(
    redis_server: RedisServer, credentials: list[str]
) -> None:
    async with opened(redis_server) as a:
        assert a.model_label == "none"
        credentials.append("there")
        result = await a.run("go", timeout=60)
        assert "scripted" in a.model_label
    assert result.answer == "From the model."


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "given",
    [{"model": "bedrock"}, {"fabricator_model": "bedrock"}, {"roles": ("fabricator",)}, {"illustrate": True}],
    ids=lambda one: next(iter(one)),
)
async def test_a_model_that_was_named_or_is_all_there_is_to_serve_is_still_refused_at_the_start(
    redis_server: RedisServer, given: dict[str, Any]
) -> None:
    with pytest.raises(ModelUnavailable, match="no AWS credentials"):
        await Arbiter(redis_server.url, **{"roles": ROLES, **given}).start()


def test_the_command_says_what_is_missing_and_runs_a_plan_all_the_same(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(
        "from arbiter import capability\n\n@capability\ndef echo(text: str) -> str:\n    '''Say it.'''\n    return text\n"
    )
    (tmp_path / "plan.json").write_text('[{"key": "one", "capability": "echo", "input": {"text": "x"}}]')
    place = ["--url", redis_server.url, "--board", board_name]
    home = {"HOME": str(tmp_path)}
    refused = command("run", "go", *place, cwd=tmp_path, env=home)
    words = ("run", "go", "--plan", "plan.json", "--capabilities", str(tmp_path / "functions.py"))
    ran = command(*words, *place, cwd=tmp_path, env=home)
    assert refused.returncode == 2
    assert "No model was named" in refused.stderr
    assert "--plan" in refused.stderr
    assert (ran.returncode, ran.stdout.strip()) == (0, '"x"'), ran.stderr
