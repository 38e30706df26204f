"""The process of a crash case: it plays a story with faults, and tells its parent how it ended if it lives to."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

from pydantic import JsonValue
from redis.exceptions import OutOfMemoryError

from arbiter.testing import clock
from arbiter.testing.injection import Called, Fault, Life, begin_process
from arbiter.testing.story import Scene, Story
from blackboard import _script
from blackboard.board import Board
from blackboard.errors import BoardFull
from wrapper.isolation import detection

_SETTINGS = (
    "quota_write", "budget_write", "budget_pace", "catalog_peer_said", "subscribe", "subscription_next", "subscription_remove",
)  # fmt: skip
_MIDWAY_SECONDS = 0.01
"""How long after a call its children are killed; parking, handing over and executing take some milliseconds each."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process is to do."""

    url: str
    board: str
    story: str
    """``module:function``."""
    faults: tuple[str, ...] = ()
    skew_seconds: float = 0.0
    """How wrong this process's own clock is."""
    resend: int | None = None
    """Seed for the order in which, after the end, every call of the process is delivered once more."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a process ended that was not killed."""

    answer: JsonValue = None
    calls: list[Called] = field(default_factory=list[Called])
    fired: int = 0
    changed: list[str] = field(default_factory=list[str])
    """Keys that a call delivered once more has changed; there must be none."""
    error: str = ""
    refused: bool = False
    """The program ended because a full server refused new work, as it must; it is to be started again."""


def play(parent: Connection, job: Job) -> None:
    """The target of the process."""
    logging.disable(logging.CRITICAL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  what dies says much; the parent judges by the board
    # What is isolated imports Strands when it needs it: half a second that nearly no story has any use for.
    detection.find = partial(detection.find, preload_strands=False)
    parent.send(asyncio.run(_play(parent, job)))
    parent.close()


def story(named: str) -> Story:
    """The story called ``module:function``."""
    module, _, name = named.partition(":")
    return cast(Story, getattr(importlib.import_module(module), name))


async def _play(parent: Connection, job: Job) -> Told:
    clock.install()
    if job.skew_seconds:
        right = time.time
        time.time = lambda: right() + job.skew_seconds
    asking = threading.Lock()

    def ask(what: str) -> None:
        if what == "children":
            _kill_children()
            return
        if what == "midway":
            threading.Timer(_MIDWAY_SECONDS, _kill_children).start()
            return
        with asking:
            parent.send(what)
            parent.recv()

    life = Life([Fault.parse(one) for one in job.faults], kill=True, ask=ask, keep=job.resend is not None)
    begin_process(life)
    try:
        answer = await story(job.story)(Scene(job.url, job.board))
    except Exception as error:
        full = isinstance(error, BoardFull | OutOfMemoryError) or "maxmemory" in str(error)  # where a board is opened
        return Told(None, life.calls, len(life.fired), error=f"{type(error).__name__}: {error}", refused=full)
    changed = await _resend(job, life) if job.resend is not None else []
    return Told(answer, life.calls, len(life.fired), changed)


def _kill_children() -> None:
    """SIGKILL for every process this one started, isolated code and what forks it alike."""
    me = os.getpid()
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/stat") as stat:
                parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
        except (ValueError, OSError):
            continue
    for pid in parents:
        above = pid
        while above in parents and above != me:
            above = parents[above]
        if above == me and pid != me:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


async def _resend(job: Job, life: Life) -> list[str]:
    """Deliver every call of the life once more, backwards or in another order: no key may change.

    Not those about a run that was removed, whose idempotency key the board has forgotten with it, nor about a scope that was
    compacted, which has forgotten operations with their facts; not the reservation
    that lapsed, which takes its amounts anew; not settings, of which the one that comes last counts; and not what is about a
    subscription, which may have been removed.
    """
    gone = [str(args[1]) for script, _, args in life.kept if script.name == "retire_run"]
    gone += [str(args[0]) for script, _, args in life.kept if script.name in ("budget_lapse", "entry_compact")]
    sent = [
        (script, keys, args)
        for script, keys, args in reversed(life.kept)
        if script.name not in _SETTINGS and not any(one in str(arg) for one in gone for arg in args)
    ]
    if job.resend:
        random.Random(job.resend).shuffle(sent)
    async with await Board.open(job.url, board=job.board) as board:
        before = await _dump(board)
        for script, keys, args in sent:
            try:
                await board.client.eval(script.text, len(keys), *keys, *map(str, args))
            except _script.ResponseError as error:
                if _script.refusal(error) is None:
                    raise
        after = await _dump(board)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


async def _dump(board: Board) -> dict[str, Any]:
    found: dict[str, Any] = {}
    client: Any = board.client
    async for key in client.scan_iter(match=f"*{board.name}#*", count=1000):
        what = key.partition("}:")[2].partition(":")[0]
        if what in ("b", "w"):  # doorbells and the replies of claims: volatile by design
            continue
        match await client.type(key):
            case "hash":
                found[key] = await client.hgetall(key)
            case "zset":
                found[key] = await client.zrange(key, 0, -1, withscores=True)
            case "stream":
                found[key] = await client.xrange(key)
            case "list":
                found[key] = await client.lrange(key, 0, -1)
            case "set":
                found[key] = await client.smembers(key)
            case _:
                found[key] = await client.get(key)
    return found
