"""Faults from the environment, and the command of the crash matrix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blackboard.board import Board
from blackboard.testing import RedisServer

PROGRAM = """
import asyncio, sys
from arbiter.testing import injection
from blackboard.board import Board

async def main():
    injection.install_from_environment()
    async with await Board.open(sys.argv[1], board=sys.argv[2]) as board:
        await board.submit("go", idempotency_key="one")
        await board.submit("go on", idempotency_key="two")

asyncio.run(main())
"""

STORIES = """
import pathlib

async def steady(scene):
    async with scene.arbiter(roles=()) as a:
        return await a.cancel(await a.submit("go", idempotency_key="one"))

async def fickle(scene):
    await steady(scene)
    played = pathlib.Path(__file__).with_suffix(".played")
    with played.open("a") as file:
        file.write("x")
    return played.stat().st_size
"""


@pytest.mark.parametrize(("fault", "ends", "runs"), [
    ("client:submit:2:before", -signal.SIGKILL, 1),
    ("client:submit:2:after", -signal.SIGKILL, 2),
    ("client:submit:1:torn", 0, 2),
    ("", 0, 2),
])  # fmt: skip
async def test_a_program_dies_where_the_environment_says(
    redis_server: RedisServer, board_name: str, fault: str, ends: int, runs: int
) -> None:
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", PROGRAM, redis_server.url, board_name],
        env={**os.environ, "ARBITER_TEST_FAULT": fault}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == ends
    async with await Board.open(redis_server.url, board=board_name) as board:
        assert len(await board.runs()) == runs


def test_a_case_that_is_none_is_refused_with_the_form_of_one() -> None:
    command = [sys.executable, "-m", "arbiter.testing", "matrix", "--only", "wrapper:complete"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "role:script:number:boundary" in done.stderr


@pytest.mark.parametrize(("story", "only", "code", "told"), [
    ("steady", "client:submit:9:lost", 1, "1 whose call never came"),
    ("fickle", "client:submit:1:lost", 1,
     "again: python -m arbiter.testing matrix --story played:fickle --only 'client:submit:1:lost'"),
])  # fmt: skip
def test_a_matrix_in_which_nothing_passed_is_no_success_and_says_what_to_do(
    tmp_path: Path, story: str, only: str, code: int, told: str
) -> None:
    (tmp_path / "played.py").write_text(STORIES)
    done = subprocess.run(
        [sys.executable, "-m", "arbiter.testing", "matrix", "--story", f"played:{story}", "--only", only],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
