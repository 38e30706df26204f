"""The demo, killed with SIGKILL at chosen moments on a real server and started again, ends in the same answer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from blackboard.testing import KEEPING, RedisServer

ANSWER = "134 of 543 invoices have exceptions; 1,100,026.06 EUR are at risk."
LINES = 40
"""About how many progress lines the demo prints."""
# A longer run: ARBITER_CHAOS_ROUNDS=50; another one: ARBITER_CHAOS_SEED=12; a failure names both in its parameters.
SEED = int(os.environ.get("ARBITER_CHAOS_SEED", "11"))
ROUNDS = int(os.environ.get("ARBITER_CHAOS_ROUNDS", "4"))


def _start(url: str, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "arbiter", "demo", "invoices", "--json", "--url", url, "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _read(process: subprocess.Popen[str], lines: int) -> None:
    assert process.stderr is not None
    for _ in range(lines):
        if not process.stderr.readline():
            return


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.timeout(120)
def test_g3_whatever_is_killed_the_answer_is_the_same(number: int, tmp_path: Path) -> None:
    chance = random.Random(SEED * 1000 + number)
    with RedisServer(options=KEEPING) as server:
        process = _start(server.url, tmp_path)
        for _ in range(2):
            _read(process, chance.randrange(1, LINES))
            match chance.choice(["process", "process", "server", "zygote"]):
                case "process":
                    process.kill()
                    process.wait()
                    process = _start(server.url, tmp_path)
                case "server":
                    server.kill9()
                    server.restart()
                case _:
                    for child in psutil.Process(process.pid).children() if process.poll() is None else ():
                        child.kill()
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, f"{out}\n{err[-3000:]}"
        told = json.loads(out.splitlines()[-1])
        assert told["status"] == "succeeded"
        assert told["answer"].startswith(ANSWER)
