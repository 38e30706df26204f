"""What does a daemon that has nothing to do use?

``arbiter serve`` with every role and a scripted model, some seconds after its start. Processor time is that of the daemon
and its children over a window, as a share of one core; commands are those the server counted, without the counting's own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread
from benchmarks.report import Row
from blackboard.testing import RedisServer

SETTLE_SECONDS, WINDOW_SECONDS = 8.0, 30.0
TARGET = "one hundredth of a core"
_SCRIPT = '{"scenes": [{"turns": [{"text": "Done."}]}]}'


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await idle(4.0, 6.0, say) if quick else await idle(SETTLE_SECONDS, WINDOW_SECONDS, say)


async def idle(settle: float, window: float, say: Callable[[str], None]) -> list[Row]:
    """The rows: a window of so many seconds, so many seconds after the start."""
    with RedisServer() as server, tempfile.TemporaryDirectory(prefix="arb-b-") as folder:
        script = Path(folder) / "script.json"
        script.write_text(_SCRIPT, "utf-8")
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "arbiter", "serve", "--url", server.url, "--model", f"scripted:{script}"),
            env=os.environ | {"ARBITER_DATA_DIR": folder}, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            say(f"settling for {settle:g} s")
            await asyncio.sleep(settle)
            assert daemon.returncode is None, f"the daemon ended with {daemon.returncode}"
            with server.client() as untyped:
                client: Any = untyped
                began, used, counted = time.perf_counter(), _processor(daemon.pid), _commands(client)
                say(f"looking for {window:g} s")
                await asyncio.sleep(window)
                share = (_processor(daemon.pid) - used) / (time.perf_counter() - began)
                now = _commands(client)
                seconds = time.perf_counter() - began
        finally:
            if daemon.returncode is None:
                os.killpg(daemon.pid, signal.SIGTERM)
            await daemon.wait()
    made = {name: now[name] - counted.get(name, 0) for name in now if name not in ("info", "auth", "hello")}
    each = sum(made.values()) / seconds
    most = ", ".join(
        f"{name} {count / seconds:.2g}" for name, count in sorted(made.items(), key=lambda o: -o[1]) if count
    )
    percent = 100 * share
    return [
        Row(
            benchmark="idle", what="an idle daemon, all roles: share of one core", value=Spread(percent, percent, percent),
            unit="%", against=TARGET, theirs=Spread(1.0, 1.0, 1.0), ratio=Spread(percent, percent, percent),
        ),
        Row("idle", f"commands a second, those inside scripts included ({most})", Spread(each, each, each), ""),
    ]  # fmt: skip


def _commands(client: Any) -> dict[str, int]:
    stats: dict[str, Any] = client.info("commandstats")
    return {name.removeprefix("cmdstat_").partition("|")[0]: int(row["calls"]) for name, row in stats.items()}


def _processor(pid: int) -> float:
    """Processor seconds used so far by a process and its descendants that are alive."""
    total, waiting = 0.0, [pid]
    ticks = os.sysconf("SC_CLK_TCK")
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            children = [task.read_text() for task in process.glob("task/*/children")]
        except OSError:  # it ended meanwhile
            continue
        total += (int(fields[11]) + int(fields[12])) / ticks
        waiting += [int(child) for listed in children for child in listed.split()]
    return total
