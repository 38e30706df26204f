"""Tables of DynamoDB whose rows' code lies in S3: the real boto3 client against a local AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_stage import led_to
from peer_support import Turned, followed

from arbiter import Arbiter, BadInput, Call
from arbiter.cli import main
from arbiter.peers import Peers
from arbiter.testing import AwsStub
from blackboard.board import Board
from registry import Registry
from registry.lineage import origin
from wrapper.peers.dynamodb import DynamoPeer
from wrapper.peers.settings import peer as from_settings

CODE = b"def handler(a: int, b: int) -> dict[str, int]:\n    return {'sum': a + b}\n"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}


def row(name: str, filename: str = "", **more: Any) -> dict[str, Any]:
    config = {
        "filename": filename or f"{name}.py",
        "schema": SCHEMA,
        "description": f"Adds two numbers, as {name}.",
        **more,
    }
    return {"toolId": {"S": name}, "config": {"S": json.dumps(config)}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsStub]:
    with led_to(monkeypatch) as stub:
        stub.tables["agents"] = [row("Add-Numbers", "add.py"), row("other")]
        stub.objects |= {("code", "agents/add.py"): CODE, ("code", "agents/other.py"): CODE}
        yield stub


def peer(**more: Any) -> DynamoPeer:
    return DynamoPeer(**{"name": "ours", "table": "agents", "code": "s3://code/agents", "vouch": True, **more})


async def test_rows_of_every_page_are_capabilities_that_run_here(aws: AwsStub, redis_board: Board) -> None:
    aws.page = 1
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, functions):
        assert [one.name for one in await registry.list()] == ["add_numbers", "other"]
        assert functions == {}
        assert (await registry.load("add_numbers")).source == CODE.decode()
        assert origin((await registry.resolve("other")).manifest) == ("dynamodb:ours",)
        (state,) = await Peers(redis_board, registry).list()
        assert (state.peer, state.available, state.capabilities) == ("dynamodb:ours", True, ("add_numbers", "other"))
        log = await registry.changes(limit=1000)
        await follower.check()
        assert await registry.changes(limit=1000) == log
    assert [said["Key"] for action, said in aws.asked if action == "GetObject"] == [
        "agents/add.py",
        "agents/other.py",
    ] * 2


async def test_its_code_runs_isolated_as_any_other(aws: AwsStub, tmp_path: Path) -> None:
    async with Arbiter(f"memory://{tmp_path.name}", peers=[peer()], roles=["wrapper"]) as a:
        result = await a.run(Call("add_numbers", {"a": 2, "b": 3}), timeout=60)
    assert result.data == {"sum": 5}
    assert "dynamodb:ours" in result.state.work[0].completion.taint  # type: ignore[union-attr]


async def test_unless_it_is_vouched_for_a_person_has_to_sign_and_activate_it(aws: AwsStub, redis_board: Board) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(vouch=False), clock=Turned()) as (follower, _):
        assert await registry.list() == []
        (draft,) = await registry.versions("add_numbers")
        assert (draft.state, draft.signature) == ("draft", None)
        await registry.sign("add_numbers", draft.sha)
        await registry.activate("add_numbers", draft.sha)
        aws.objects["code", "agents/add.py"] = CODE + b"# changed\n"
        await follower.check()
        assert (await registry.resolve("add_numbers")).sha == draft.sha, "what was not looked at takes nobody's place"
        assert [each.state for each in await registry.versions("add_numbers")] == ["active", "draft"]


async def test_new_code_is_a_new_version_and_a_row_that_is_gone_or_off_is_retired(
    aws: AwsStub, redis_board: Board
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        before = await registry.resolve("add_numbers")
        aws.objects["code", "agents/add.py"] = CODE + b"# changed\n"
        aws.tables["agents"][1] = row("other", state="inactive")
        await follower.check()
        assert [(one.name, one.sha == before.sha) for one in await registry.list()] == [("add_numbers", False)]


async def test_what_cannot_be_taken_is_said_and_leaves_the_version_before_and_the_other_rows(
    aws: AwsStub, redis_board: Board
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        del aws.objects["code", "agents/add.py"]
        aws.objects["code", "agents/latin.py"] = b"\xe9"
        aws.objects["code", "agents/more.py"] = CODE
        aws.tables["agents"] += [row("latin"), row("run", "run.sh"), row("bad", schema="{"), row("more")]
        await follower.check()
        said = {one.tool: one.why for one in follower.refused}
        assert set(said) == {"Add-Numbers", "latin", "run", "bad"}
        assert "There is no s3://code/agents/add.py." in said["Add-Numbers"]
        assert "not UTF-8" in said["latin"]
        assert "Only code in Python" in said["run"]
        assert [one.name for one in await registry.list()] == ["add_numbers", "more", "other"]


async def test_a_table_that_cannot_be_read_retires_nothing(aws: AwsStub, redis_board: Board) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        rows = aws.tables.pop("agents")
        await follower.check()
        assert "Name one that is there" in (follower.trouble or "")
        assert [one.name for one in await registry.list()] == ["add_numbers", "other"]
        aws.tables["agents"] = rows


async def test_a_throttled_page_is_asked_for_again(aws: AwsStub, redis_board: Board) -> None:
    aws.page = 1
    aws.fail("Scan", "ProvisionedThroughputExceededException")
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        assert follower.trouble is None
    assert [action for action, _ in aws.asked].count("Scan") == 3


async def test_a_version_that_was_revoked_stays_so_and_the_others_are_taken(aws: AwsStub, redis_board: Board) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()):
        await registry.revoke("add_numbers", (await registry.resolve("add_numbers")).sha)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        (refused,) = follower.refused
        assert (refused.tool, "revoked" in refused.why.lower()) == ("Add-Numbers", True)
        assert [one.name for one in await registry.list()] == ["other"]


async def test_what_reflection_or_a_person_put_another_version_in_place_of_stays_out_until_the_table_has_other_code(
    aws: AwsStub, redis_board: Board
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        works = await registry.resolve("add_numbers")
        aws.objects["code", "agents/add.py"] = CODE + b"# fails\n"
        await follower.check()
        fails = await registry.resolve("add_numbers")
    assert fails.sha != works.sha
    await redis_board.catalog.set_state(
        "add_numbers", works.sha, "active", decided=("activated", "reflection of ann@host"), behalf="reflection"
    )
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        assert (await registry.resolve("add_numbers")).sha == works.sha
        gone_back_from = await registry.resolve("add_numbers", fails.sha)
        assert (gone_back_from.retired_by, gone_back_from.retired_for) == ("reflection of ann@host", "reflection")
        await registry.activate("add_numbers", fails.sha)
        await registry.activate("add_numbers", works.sha)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        assert (await registry.resolve("add_numbers")).sha == works.sha, "a person did so too"
        aws.objects["code", "agents/add.py"] = CODE + b"# mended\n"
        await follower.check()
        mended = await registry.resolve("add_numbers")
        assert mended.sha not in (works.sha, fails.sha)
        aws.objects["code", "agents/add.py"] = CODE
        await follower.check()
        assert (await registry.resolve("add_numbers")).sha == works.sha, "the table itself goes back"


async def test_what_a_person_retired_is_not_vouched_for_again_whatever_the_row_says(
    aws: AwsStub, redis_board: Board
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()):
        await registry.retire("add_numbers", reason="it leaks")
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        assert [one.name for one in await registry.list()] == ["other"]
        aws.objects["code", "agents/add.py"] = CODE + b"# changed\n"
        await follower.check()
        assert [one.name for one in await registry.list()] == ["other"]
        _, changed = await registry.versions("add_numbers")
        assert (changed.state, changed.signature is not None) == ("draft", True)
        await registry.activate("add_numbers", changed.sha)
        aws.objects["code", "agents/add.py"] = CODE + b"# changed again\n"
        await follower.check()
        assert (await registry.resolve("add_numbers")).sha != changed.sha, "it is offered again, and follows the table"


async def test_a_trial_that_a_person_began_is_not_cut_short_by_a_start(aws: AwsStub, redis_board: Board) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(), clock=Turned()) as (follower, _):
        works = await registry.resolve("add_numbers")
        aws.objects["code", "agents/add.py"] = CODE + b"# other\n"
        await follower.check()
        other = await registry.resolve("add_numbers")
    await registry.activate("add_numbers", works.sha)
    await registry.activate("add_numbers", other.sha, canary=0.5)
    async with followed(redis_board, peer(), clock=Turned()):
        assert [one.state for one in await registry.versions("add_numbers")] == ["active", "canary"]


def test_a_file_of_peers_names_a_table_and_what_it_would_offer_is_told(
    aws: AwsStub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peers.toml").write_text('[ours]\nkind = "dynamodb"\ntable = "agents"\ncode = "s3://code/agents"\n')
    assert main(["peers", "check", str(tmp_path / "peers.toml")]) == 0
    assert "dynamodb:ours  add_numbers" in capsys.readouterr().out
    for wrong in ({"table": "a"}, {"code": "code"}, {"vouch": 1}, {"refresh_seconds": 0}):
        with pytest.raises(BadInput, match=rf"peers\.ours\.{next(iter(wrong))}"):
            from_settings("ours", {"kind": "dynamodb", "table": "agents", "code": "s3://code", **wrong})
