"""Daemons: what they say when they start, and that a stopping one finishes its work or hands it over at once."""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_process import Running, until

from arbiter import AgendaTerms, Arbiter, Call, Inquiry, Posting, RunResult
from arbiter.cli import main
from arbiter.fold import fold
from blackboard.board import Board
from blackboard.testing import RedisServer

LEASE_SECONDS = 300.0
"""Longer than any of these tests may take: work that changes hands was given back, not taken after a silence."""

CAPABILITIES = '''
import asyncio
import os
import threading
from pathlib import Path

from arbiter import CapabilityLimits, Trigger, capability

HERE, WHO = Path(__file__).parent, os.environ["WHO"]


@capability
async def patient(number: int) -> dict[str, str]:
    """Wait until this process may go on."""
    (HERE / f"{WHO}-started-{number}").touch()
    while not (HERE / f"{WHO}-may-go").exists():
        await asyncio.sleep(0.01)
    return {"by": WHO}


@capability(triggers=[Trigger(topic="mark")])
def look(entry: dict) -> None:
    """Look at a mark."""


@capability(limits=CapabilityLimits(attempt_seconds=0.05), effects="irreversible")
def hang() -> None:
    """Never return."""
    threading.Event().wait()


CAPABILITIES = [patient, look, hang]
'''


class Stage:
    """A board, a script and capabilities for any number of daemons."""

    def __init__(self, folder: Path, url: str, board: str) -> None:
        self.folder, self.url, self.board = folder, url, board
        self.on = ["--url", url, "--board", board]
        turns = [{"tool": "patient", "input": {"number": 1}}, "done by {{ results.patient.by }}"]
        (folder / "model.json").write_text(json.dumps({"label": "patience", "scenes": [{"turns": turns}]}))
        (folder / "abilities.py").write_text(CAPABILITIES)

    def daemon(self, who: str, *words: str, env: Mapping[str, str] | None = None) -> Running:
        return Running(
            "serve", "--roles", "arbiter,wrapper", "--model", f"scripted:{self.folder / 'model.json'}",
            "--capabilities", str(self.folder / "abilities.py"), "--lease", str(LEASE_SECONDS), *self.on, *words,
            env={"WHO": who, **(env or {})},
        )  # fmt: skip

    def submit(self) -> str:
        async def submitted() -> str:
            async with await Board.open(self.url, board=self.board) as board:
                return await board.submit("be patient")

        return asyncio.run(submitted())

    async def rated_by(self, strategy: str) -> str:
        async with Arbiter(self.url, board=self.board, roles=()) as a:
            run = await a.submit(Inquiry([Posting("mark", 1)], AgendaTerms(strategy=strategy)))
            await a.result(run, timeout=60)
            return str(await a.agenda(run).explain(f"{run}/a/1"))

    def go(self, who: str) -> None:
        (self.folder / f"{who}-may-go").touch()

    def started(self, who: str) -> None:
        until(lambda: (self.folder / f"{who}-started-1").exists(), f"the task to start at {who}")

    def result(self, run_id: str) -> RunResult:
        async def read() -> RunResult:
            async with await Board.open(self.url, board=self.board) as board:
                return RunResult(fold(run_id, await board.history(run_id)))

        return asyncio.run(read())

    def ended(self, run_id: str) -> RunResult:
        until(lambda: self.result(run_id).state.done, f"the end of {run_id}")
        return self.result(run_id)


@pytest.fixture
def stage(tmp_path: Path, redis_server: RedisServer, board_name: str) -> Iterator[Stage]:
    return Stage(tmp_path, redis_server.url, board_name)


def test_a_daemon_says_what_it_is_before_it_is_ready(stage: Stage) -> None:
    with stage.daemon("a") as daemon:
        daemon.wait_for("ready")
        said = "\n".join(daemon.said)
        for part in (
            stage.board,
            str(daemon.process.pid),
            "engine",
            f"at {stage.url}",
            "durability",
            "arbiter, wrapper",
            "patience",
            "isolation",
        ):
            assert part in said
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
    assert daemon.printed == []
    assert daemon.said[-1] == "drained"


def test_a_daemon_says_that_it_uses_no_sandbox_and_rates_by_the_strategies_of_a_file(stage: Stage) -> None:
    (stage.folder / "rates.py").write_text("STRATEGIES = {'odd': lambda candidate: 0.75}")
    strategies = ["--strategies", str(stage.folder / "rates.py")]
    with stage.daemon("a", "--isolation", "process", *strategies) as daemon:
        daemon.wait_for("ready")
        assert any("isolation" in line and "no sandbox" in line for line in daemon.said)
        assert "rated 0.75 by odd (terms)" in asyncio.run(stage.rated_by("odd"))
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0


def test_a_function_that_hangs_keeps_no_daemon_from_ending(stage: Stage) -> None:
    async def hung() -> RunResult:
        async with Arbiter(stage.url, board=stage.board, roles=()) as a:
            return await a.result(await a.submit(Call("hang", {})), timeout=60)

    with stage.daemon("a") as daemon:
        daemon.wait_for("ready")
        assert asyncio.run(hung()).status == "timed_out"
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0


def test_work_that_does_not_end_within_the_grace_time_goes_to_another_daemon_at_once(stage: Stage) -> None:
    with stage.daemon("a", "--grace", "0.2") as first:
        first.wait_for("ready")
        run_id = stage.submit()
        stage.started("a")
        with stage.daemon("b") as second:
            second.wait_for("ready")
            stage.go("b")
            first.signal(signal.SIGTERM)
            before = time.monotonic()
            assert first.end() == 0
            result = stage.ended(run_id)
            took = time.monotonic() - before
    assert result.answer == "done by b"
    assert took < LEASE_SECONDS / 5
    [task] = result.state.work
    assert task.completion is not None
    assert f":{second.process.pid}:" in (task.completion.worker or "")


def test_running_work_may_finish_and_nothing_new_is_claimed_while_draining(stage: Stage) -> None:
    with stage.daemon("a", "--grace", "100") as daemon:
        daemon.wait_for("ready")
        first = stage.submit()
        stage.started("a")
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("draining")
        second = stage.submit()
        stage.go("a")
        assert daemon.end() == 0
    done, untouched = stage.result(first).state, stage.result(second).state
    assert [task.state for task in done.work] == ["succeeded"]
    assert done.work[0].attempts == 1
    assert (untouched.status, untouched.rounds) == ("queued", [])


def test_a_second_signal_gives_everything_back_without_waiting(stage: Stage) -> None:
    with stage.daemon("a", "--grace", "300") as first:
        first.wait_for("ready")
        run_id = stage.submit()
        stage.started("a")
        first.signal(signal.SIGTERM)
        first.wait_for("draining")
        before = time.monotonic()
        first.signal(signal.SIGTERM)
        assert first.end() == 143
        assert time.monotonic() - before < 60
    with stage.daemon("b") as second:
        second.wait_for("ready")
        stage.go("b")
        assert stage.ended(run_id).answer == "done by b"


def test_a_worker_needs_no_model_and_serves_only_its_role(stage: Stage) -> None:
    words = ["worker", "--capabilities", str(stage.folder / "abilities.py"), *stage.on]
    with Running(*words, env={"WHO": "w"}) as worker:
        worker.wait_for("ready")
        assert any(line.split() == ["roles", "wrapper"] for line in worker.said)
        run_id = stage.submit()
        thinking = ["serve", "--roles", "arbiter", "--model", f"scripted:{stage.folder / 'model.json'}", *stage.on]
        with Running(*thinking) as planner:
            planner.wait_for("ready")
            stage.go("w")
            assert stage.ended(run_id).answer == "done by w"


def test_a_daemon_sends_webhooks_to_the_private_addresses_it_is_given(
    stage: Stage,
) -> None:
    taken: queue.Queue[str] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.put(json.loads(self.rfile.read(int(self.headers["content-length"])))["type"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        assert main(["webhooks", "set", "h", url, "--secret", "hook", "--kinds", "run.accepted", *stage.on]) == 0
        stage.submit()
        secret = {"ARBITER_SECRET_HOOK": "whsec_" + base64.b64encode(bytes(32)).decode()}
        with stage.daemon("a", "--private", "127.0.0.1", env=secret) as daemon:
            assert taken.get(timeout=60) == "dev.arbiter.run.accepted.v1", daemon.said
    finally:
        server.shutdown()
        server.server_close()
