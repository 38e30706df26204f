"""The command ``arbiter`` as a real process, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import warm_cli

TIMEOUT_SECONDS = 90.0

_REMOVED = ("ARBITER_", "AWS_", "ANTHROPIC_", "OPENAI_", "OLLAMA_", "OTEL_")
_KEPT = ("ARBITER_SIGNING_KEY",)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change the command's behaviour."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_REMOVED)}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", **(more or {})}


def arbiter(
    *words: str, env: Mapping[str, str] | None = None, text: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return warm_cli.run(words, environment(env), cwd, text, TIMEOUT_SECONDS)


def records(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Running:
    """A command that is running, with what it has said so far. Killed when the block ends."""

    def __init__(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "arbiter", *words],
            env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []
        self.printed: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stderr, self.said), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stdout, self.printed), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: Any, into: list[str]) -> None:
        for line in pipe:
            into.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(5)

    def wait_for(self, words: str, *, seconds: float = 60.0) -> None:
        """Until a line on standard error holds these words."""

        def seen() -> bool:
            if any(words in line for line in list(self.said)):
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            return False

        until(seen, f"{words!r} in {self.said}", seconds)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 60.0) -> int:
        """Its exit code, when everything it said has been read."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code
