"""The demonstrations: examples with their data, a scripted model for each, and shows that survive being killed.

A **show** is one call of ``arbiter demo``: a board of its own and one run for each example. Which show is going on is kept
in a small file in the data folder, written before the first run is submitted; the runs' idempotency keys are made of the
show's name. So a show that was killed at any moment is found again, its runs are the same, and they continue.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from arbiter import loading
from arbiter.sdk import Arbiter
from blackboard.errors import BadInput
from blackboard.types import Limits

NAMES = ("orders", "invoices")
TITLES = {
    "orders": "Order 12345: the kitchen can make large fries and has to learn cheesecake",
    "invoices": "Invoice exceptions: more than 500 invoices against purchase orders and goods receipts",
}
LABEL = "scripted model — its words come from a file, the data and the computation are real"
LEASE_SECONDS = 5.0
"""Short, so that a show whose process was killed goes on soon."""
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Example:
    """One shipped example: what is asked, which capabilities exist, what the scripted model says."""

    name: str
    folder: Path
    request: dict[str, JsonValue]

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)

    @property
    def model(self) -> str:
        """The model string of its script."""
        return f"scripted:{self.folder / 'script' / 'model.json'}"


def examples_folder() -> Path:
    """Where the examples are: in the installed package, or beside it in a source tree.

    Raises:
        BadInput: in neither.
    """
    package = Path(str(files("arbiter")))
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / "orders" / "event.json").is_file():
            return folder
    raise BadInput("examples", str(package / "_examples"), "The examples are not installed; install the package again.")


def example(name: str) -> Example:
    """One of :data:`NAMES`.

    Raises:
        BadInput: no such example, or it is not installed.
    """
    if name not in NAMES:
        raise BadInput("example", name, f"Use one of {', '.join(NAMES)}.")
    folder = examples_folder() / name
    request = cast("dict[str, JsonValue]", json.loads((folder / "event.json").read_text(encoding="utf-8")))
    return Example(name, folder, request)


@dataclass(slots=True)
class Show:
    """One call of the demonstration."""

    key: str
    board: str
    names: tuple[str, ...]
    started_at: float
    url: str | None
    data_dir: str | None
    namespace: str
    continued: bool = False
    _file: Path = field(default_factory=Path)

    @property
    def where(self) -> list[str]:
        """The options that name this show's board on the command line."""
        words = ["--board", self.board]
        if self.namespace != "arbiter":
            words += ["--namespace", self.namespace]
        if self.data_dir is not None:
            words += ["--data-dir", shlex.quote(self.data_dir)]
        if self.url is not None:
            words += ["--url", "…"]
        return words

    @property
    def lasting(self) -> bool:
        """Whether its board can be looked at when this process is gone."""
        return not _server(self.url).startswith("memory:")

    def finish(self) -> None:
        """The answers were shown: the next call starts a new show."""
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()


def open_show(
    names: Sequence[str],
    *,
    url: str | None = None,
    data_dir: str | None = None,
    namespace: str = "arbiter",
    board: str | None = None,
    fresh: bool = False,
) -> Show:
    """The show that is going on, when it has just these examples and may still end in time; else a new one.

    Args:
        names: which examples.
        url, data_dir, namespace: as for ``Board.open``.
        board: use this board. Default: one that is made for the show.
        fresh: a new show in any case.
    """
    folder = Path(data_dir or os.environ.get("ARBITER_DATA_DIR") or Path.home() / ".arbiter").expanduser()
    server = _server(url)
    identity = hashlib.sha256("\0".join([server, namespace, board or ""]).encode()).hexdigest()[:12]
    file = folder / f"demo-{identity}.json"
    going = None if fresh else _read(file)
    if going is not None and set(names) == set(going["names"]):
        found, since, key = str(going["board"]), float(going["started_at"]), str(going["key"])
        return Show(key, found, tuple(going["names"]), since, url, data_dir, namespace, True, file)
    key = f"{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    show = Show(key, board or f"demo-{key}", tuple(names), time.time(), url, data_dir, namespace, False, file)
    if show.lasting:
        _write(file, {"key": key, "board": show.board, "names": list(names), "started_at": show.started_at})
    return show


@dataclass(frozen=True, slots=True)
class Played:
    """An example whose run was submitted and is being worked on."""

    example: Example
    arbiter: Arbiter
    run_id: str


@contextlib.asynccontextmanager
async def play(show: Show, name: str) -> AsyncGenerator[Played, None]:
    """Serve everything one example needs and submit its run, or find the one that was submitted before."""
    played = example(name)
    functions = loading.capabilities([str(played.folder / "capabilities.py")])
    async with Arbiter(
        show.url, played.model, data_dir=show.data_dir, namespace=show.namespace, board=show.board,
        capabilities=functions, lease_seconds=LEASE_SECONDS, grace_seconds=2.0,
    ) as served:  # fmt: skip
        run_id = await served.submit(played.request, idempotency_key=f"demo-{show.key}-{name}", limits=_LIMITS)
        yield Played(played, served, run_id)


def _server(url: str | None) -> str:
    return url or os.environ.get("ARBITER_REDIS_URL") or ""


def _read(file: Path) -> dict[str, Any] | None:
    """The unfinished show, unless its runs' time is over or the file is not one of ours."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        usable = time.time() - float(kept["started_at"]) < _LIMITS.seconds and {"key", "board", "names"} <= set(kept)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cast("dict[str, Any]", kept) if usable else None


def _write(file: Path, kept: dict[str, Any]) -> None:
    """Replace the file as a whole: a reader sees the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".demo-")
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(kept, out)
    Path(name).replace(file)
