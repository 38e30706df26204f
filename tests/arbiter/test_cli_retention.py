"""Listing runs by what they are and removing finished ones, from the command line and the SDK."""

from __future__ import annotations

import pytest
from arbiter_support import arbiter as served
from cli_process import arbiter as command
from cli_process import records

from arbiter import Arbiter, Retention, Status
from arbiter.cli import retention
from arbiter.cli.parser import build
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.testing import RedisServer


@pytest.fixture
async def on(redis_server: RedisServer, board_name: str) -> list[str]:
    async with await Board.open(redis_server.url, board=board_name) as board:
        await board.submit("wait here", tenant="acme")
        for text in ("an invoice", "an order"):
            await board.cancel_run(await board.submit(text, tenant="acme"))
    return ["--url", redis_server.url, "--board", board_name]


def test_runs_are_listed_and_removed_by_what_they_are(on: list[str]) -> None:
    [found] = records(command("runs", "--where", "status=cancelled text~invoice since=1h", "--json", *on).stdout)
    assert (found["status"], found["request"]) == ("cancelled", "an invoice")
    wrong = command("runs", "--where", "state=failed", *on)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Write terms like status=failed" in wrong.stderr

    rehearsal = command("prune", "--older-than", "0s", "--dry-run", *on)
    assert (rehearsal.returncode, rehearsal.stdout) == (0, "2 finished runs would be removed: 2 cancelled\n")
    assert found["run_id"] in rehearsal.stderr
    assert command("prune", "--older-than", "0s", "--status", "succeeded", *on).stdout == "0 finished runs removed\n"
    assert command("prune", *on).stdout == "0 finished runs removed\n"
    [done] = records(command("prune", "--older-than", "0s", "--status", "cancelled", "--json", *on).stdout)
    assert (done["runs"], done["by_status"], done["dry_run"]) == (2, {"cancelled": 2}, False)
    left = records(command("runs", "--json", *on).stdout)
    assert [run["status"] for run in left] == ["queued"]


def test_what_cannot_be_meant_is_refused_before_anything_is_removed(on: list[str]) -> None:
    for words in (["--status", "failed"], ["--older-than", "soon"], ["--older-than", "1d", "--status", "done"]):
        refused = command("prune", *words, *on)
        assert (refused.returncode, refused.stdout) == (2, ""), words
        assert words[-2] in refused.stderr
    assert len(records(command("runs", "--json", *on).stdout)) == 3


def test_a_daemon_is_told_what_to_keep() -> None:
    assert retention.policy(None, None) == Retention()
    assert retention.policy("forever", None) is None
    assert retention.policy("forever", 5) == Retention(ages={}, most_runs=5)
    seven = retention.policy("7d,failed=forever", 10)
    assert seven is not None
    assert (seven.ages[Status.SUCCEEDED], Status.FAILED in seven.ages, seven.most_runs) == (604_800, False, 10)
    ninety = retention.policy("forever", None, "90d")
    assert ninety is not None
    assert (ninety.superseded, dict(ninety.ages), retention.policy("7d", None).superseded) == (7_776_000, {}, None)  # type: ignore[union-attr]
    with pytest.raises(BadInput):
        retention.policy("lost=7d", None)
    arguments = build().parse_args(["serve", "--keep", "1h"])
    assert retention.policy(arguments.keep, arguments.keep_runs) != Retention()


async def test_an_arbiter_removes_what_its_policy_does_not_keep(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blackboard.retention import Retirer

    passes: list[Retention] = []

    async def run(self: Retirer) -> None:
        passes.append(self._policy)  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Retirer, "run", run)
    mine = Retention(most_runs=7)
    async with served(redis_server.url, ["hi"], retention=mine) as (one, _):
        assert (await one.run("say hi")).ok
        [found] = await one.runs(where="status=succeeded")
        assert found.request == "say hi"
        assert await one.runs(where="status=failed") == []
    async with served(redis_server.url, ["hi"], retention=None):
        pass
    async with Arbiter(redis_server.url, roles=()):
        pass
    assert passes == [mine]
