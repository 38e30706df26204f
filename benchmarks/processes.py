"""Programs that take part in a benchmark: children that say JSON lines and end when told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 10.0


class Child:
    """``python -m <module> <arguments>``, as an asynchronous context manager that ends it.

    Args:
        python: the interpreter. Default: this one.
        env: set besides this process's environment.
    """

    def __init__(self, module: str, *arguments: str, python: str = sys.executable, env: Mapping[str, str] = {}) -> None:
        self._command = (python, "-m", module, *arguments)
        self._environment = os.environ | dict(env)
        self._process: asyncio.subprocess.Process | None = None
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self._complaints: list[str] = []
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, env=self._environment, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        self._readers = [asyncio.create_task(self._listen(process)), asyncio.create_task(self._note(process))]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self.kill()
        await self._process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def says(self, seconds: float) -> Any:
        """The next JSON line it says.

        Raises:
            AssertionError: it ended, or said nothing for so long; with the end of what it complained of.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                found = await self._said.get()
                if found is not None:
                    return found[0]
        told = "".join(self._complaints)[-2000:]
        raise AssertionError(f"{' '.join(self._command[1:])} said nothing for {seconds:g} s or ended.\n{told}")

    def tell(self, line: str = "") -> None:
        """Give it a line to read."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                self._said.put_nowait((json.loads(line),))
            except ValueError:  # a library's greeting
                continue
        self._said.put_nowait(None)

    async def _note(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._complaints.append(line.decode("utf-8", "replace"))
            del self._complaints[:-50]
