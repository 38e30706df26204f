"""The commands about tokens and the audit, each in a process of its own as people use them."""

from __future__ import annotations

import asyncio

import pytest
from cli_process import Running, arbiter, records, until

from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.testing import RedisServer
from blackboard.tokens import Tokens


@pytest.fixture
def on(redis_server: RedisServer, board_name: str) -> list[str]:
    return ["--url", redis_server.url, "--board", board_name]


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(on: list[str]) -> None:
    made = arbiter("tokens", "create", "--name", "ci", "--scope", "runs:write", "--scope", "runs:read", "--tenant", "acme",
                   "--expires", "12h", *on)  # fmt: skip
    assert made.returncode == 0, made.stderr
    shown = made.stdout.strip()

    async def checked() -> tuple[str, ...]:
        async with await Board.open(on[1], board=on[3]) as board:
            token = await Tokens(board.catalog).check(shown)
            assert token.expires_at is not None
            assert (token.tenant, round(token.expires_at - token.created_at)) == ("acme", 12 * 3600)
            return token.scopes

    assert asyncio.run(checked()) == ("runs:write", "runs:read")
    table, lines = arbiter("tokens", *on).stdout, records(arbiter("tokens", "list", "--json", *on).stdout)
    assert [(each["name"], each["state"], each["by"]) for each in lines] == [("ci", "valid", somebody())]
    assert "acme" in table
    for said in (table, str(lines)):
        assert shown.rpartition("_")[2] not in said
    assert arbiter("tokens", "revoke", "ci", "--reason", "lost", *on).returncode == 0
    assert records(arbiter("tokens", "--json", *on).stdout)[0]["state"] == "revoked"
    told = records(arbiter("audit", "--json", *on).stdout)
    assert [(each["kind"], each["reason"]) for each in told] == [("token.made", ""), ("token.revoked", "lost")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "--name", "ci", "--scope", "all"], "scope: 'all' was refused. Use any of runs:read,"),
        (["create", "--name", "ci", "--scope", "group:Red"], "scope: 'group:Red' was refused"),
        (["create", "--name", "c i", "--scope", "runs:read"], "name: 'c i' was refused"),
        (["create", "--name", "ci", "--scope", "runs:read", "--expires", "soon"], "--expires: 'soon' was refused"),
        (["revoke", "nothing"], "no token nothing on this board"),
    ],
)
def test_what_makes_no_sense_is_refused(on: list[str], words: list[str], said: str) -> None:
    done = arbiter("tokens", *words, *on)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_audit_is_read_by_terms_in_pages_and_followed(on: list[str]) -> None:
    assert "no such records" in arbiter("audit", *on).stderr
    for name in ("one", "two", "three"):
        assert arbiter("tokens", "create", "--name", name, "--scope", "runs:read", *on).returncode == 0
    page = arbiter("audit", "--limit", "2", *on)
    assert [line.split()[2] for line in page.stdout.splitlines()] == ["token.made", "token.made"]
    after = page.stderr.split()[-1]
    rest = arbiter("audit", "--after", after, "--json", *on)
    assert [each["detail"]["name"] for each in records(rest.stdout)] == ["one"]
    refused = arbiter("audit", "--where", "kind=tokens", *on)
    assert (refused.returncode, "where.kind" in refused.stderr) == (2, True)
    with Running("audit", "--follow", "--json", "--where", "kind=token.revoked", *on) as following:
        assert arbiter("tokens", "revoke", "one", *on).returncode == 0
        until(lambda: following.printed, "the record to come")
    (entry,) = records("\n".join(following.printed))
    assert entry["detail"]["name"] == "one"


def test_refusing_what_does_not_wait_is_refused(on: list[str]) -> None:
    done = arbiter("capabilities", "refuse", "nothing", *on)
    assert done.returncode == 2
    assert "no capability 'nothing'" in done.stderr
