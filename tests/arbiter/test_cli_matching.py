"""The commands that ask the matcher: what fits a need, and what is there twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from arbiter_support import arbiter, call
from cli_process import arbiter as command
from cli_process import records

from arbiter import capability
from blackboard.testing import RedisServer
from registry import Manifest

CODE = "def handler():\n    return 1\n"


@capability
def polish_lamp(text: str) -> str:
    """Polish the brass lamp."""
    return text


def made(name: str, description: str, tenant: str = "*") -> Manifest:
    return Manifest(name=name, description=description, tenant=tenant, input_schema={"type": "object"})


async def test_a_search_says_what_fits_for_whom_how_it_did_and_what_would_be_done(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with arbiter(redis_server.url, [call("polish_lamp", text="x"), "Done."], capabilities=[polish_lamp]) as (
        a,
        _,
    ):
        await a.run("Polish it.", timeout=60)
        for manifest in (made("polish_brass", "Polish brass."), made("polish_ours", "Polish a lamp.", "acme")):
            await a.registry.register(manifest, source=CODE)

        async def search(*words: str) -> Any:
            given = ("capabilities", "search", "polish the brass lamp", *words, "--board", a._options["board"])
            environment = {"ARBITER_REDIS_URL": redis_server.url}
            return await asyncio.to_thread(command, *given, cwd=tmp_path, env=environment)

        [everything] = records((await search("--json")).stdout)
        assert {each["name"] for each in everything["found"]} == {"polish_lamp", "polish_brass", "polish_ours"}
        [rival] = records((await search("--json", "--tenant", "rival")).stdout)
        assert {each["name"] for each in rival["found"]} == {"polish_lamp", "polish_brass"}
        assert {each["name"] for each in rival["decision"]["candidates"]} == {"polish_lamp", "polish_brass"}
        [one] = records((await search("--json", "--limit", "1")).stdout)
        assert one["found"] == everything["found"][:1]
        reasons = {each["name"]: each["reasons"] for each in everything["found"]}
        assert "succeeded 1 of 1" in reasons["polish_lamp"][-1]
        shown = await search()
        assert "SCORE" in shown.stdout
        assert "Polish the brass lamp." in shown.stdout
        [beside] = records((await search("--json", "--goal", "Nothing but brass.")).stdout)
        assert "the request ×" in str(beside["found"])
        blank = ("capabilities", "search", " ", "--board", a._options["board"])
        refused = await asyncio.to_thread(command, *blank, cwd=tmp_path, env={"ARBITER_REDIS_URL": redis_server.url})
        assert (refused.returncode, "in words what is to be done" in refused.stderr) == (2, True)
        assert f"the matcher would {everything['decision']['outcome']}" in shown.stderr


async def test_what_is_nearly_the_same_and_what_contradicts_itself_is_listed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=[polish_lamp]) as (a, _):

        async def duplicates(*words: str) -> Any:
            given = ("capabilities", "duplicates", *words, "--board", a._options["board"])
            environment = {"ARBITER_REDIS_URL": redis_server.url}
            return await asyncio.to_thread(command, *given, cwd=tmp_path, env=environment)

        none = await duplicates()
        assert (none.returncode, none.stdout) == (0, "")
        assert "no two capabilities are nearly the same, and none contradicts itself" in none.stderr
        await a.registry.register(made("lamp_polish", "Polish the brass lamp."), source=CODE)
        await a.registry.register(made("delete_lamp", "Take a light away."), source=CODE)
        shown = await duplicates()
        same, odd = shown.stdout.splitlines()
        assert same.endswith("the same: lamp_polish, polish_lamp")
        assert odd.startswith("delete_lamp: it is called delete_lamp and its effects are 'pure'")
        assert "no two" not in shown.stderr
        group, told = records((await duplicates("--json")).stdout)
        assert (group["names"], 0.7 <= group["likeness"] < 1) == (["lamp_polish", "polish_lamp"], True)
        assert told["name"] == "delete_lamp"
        assert len(records((await duplicates("--json", "--least", "1")).stdout)) == 1
