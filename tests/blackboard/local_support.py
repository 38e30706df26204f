"""What the tests of the supervised local server share; a module names its fixtures: ``data_dir = local_support.data_dir``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackboard import _binary
from blackboard._binary import Binary
from blackboard._datadir import DataDir
from blackboard.engine import open_engine, stop_local
from blackboard.errors import EngineUnavailable
from blackboard.testing import RedisServer


@pytest.fixture(autouse=True)
def no_given_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARBITER_REDIS_URL", raising=False)
    monkeypatch.delenv("ARBITER_REDIS_SERVER", raising=False)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "board"
    for folder in tmp_path.glob("*/redis"):
        with contextlib.suppress(EngineUnavailable):
            stop_local(folder.parent)


@pytest.fixture(scope="session")
def real() -> Binary:
    """A server program of this machine."""
    server = RedisServer()
    server.stop()
    found = _binary.examine(server.binary)
    assert found is not None
    return found


def pid_of(data_dir: Path) -> int:
    return DataDir(data_dir).pid()


def kill(data_dir: Path) -> None:
    """SIGKILL the directory's server and wait until the kernel has given up its lock."""
    os.kill(pid_of(data_dir), signal.SIGKILL)
    while DataDir(data_dir).server_lives():
        time.sleep(0.001)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wrapper(folder: Path, real: Binary, *, name: str = "server", version: str = "", extra: str = "") -> Path:
    """A server program that claims another version, or runs the real one with other options."""
    path = folder / name
    said = f"Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0" if version else ""
    path.write_text(
        "#!/bin/sh\n"
        + (f'if [ "$1" = --version ]; then echo "{said}"; exit 0; fi\n' if said else "")
        + f'if [ "$1" = --version ]; then exec {real.path} --version; fi\n'
        + f'env > {folder}/environment\nexec {real.path} "$@" {extra}\n'
    )
    path.chmod(0o755)
    return path


def run_python(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def count(data_dir: Path, key: str = "n") -> int:
    """Count on, and wait until the server has written it: while its disk is busy it answers first."""
    engine = await open_engine(data_dir=data_dir)
    try:
        counted = int(await engine.client().incr(key))
        while (await engine.client().info("persistence"))["aof_buffer_length"]:
            await asyncio.sleep(0.01)
        return counted
    finally:
        await engine.close()
