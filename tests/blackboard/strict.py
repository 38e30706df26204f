"""Boards under observation: what the tests of the protocol share.

* :func:`watch_scripts` puts a prelude in front of every board script that refuses keys which were not declared, and
  refusals after the first write, and reads the time from a clock the test turns. It can also change a script's text,
  to show that a test notices.
* :func:`blackboard.invariants.faults` reads a whole board back and names every invariant that does not hold.
* :func:`verdict` plays a check on scripts as they are or changed.
* :class:`Play` takes the part of the roles: submits, claims, commits decisions.

Test modules that use the fixture say ``play = watched_play``.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from blackboard import _keys, _script
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.errors import Fenced
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.invariants import TERMINAL as TERMINAL
from blackboard.invariants import faults as faults
from blackboard.types import Completion, Failure, Limits, RetryPolicy, Status, TaskSpec

PRELUDE = r"""
local R, DECLARED, WROTE = redis, {}, nil
for _, k in ipairs(KEYS) do DECLARED[k] = true end
local READS = {GET = 1, HGET = 1, HMGET = 1, HLEN = 1, HEXISTS = 1, SCARD = 1, ZCARD = 1, SMEMBERS = 1, ZSCORE = 1, ZRANGE = 1,
  ZRANGEBYSCORE = 1, ZRANGEBYLEX = 1, XRANGE = 1, XREVRANGE = 1, LINDEX = 1}
local WRITES = {SET = 1, HSET = 1, HDEL = 1, HINCRBY = 1, SADD = 1, SREM = 1, ZADD = 1, ZREM = 1, DEL = 1, XADD = 1, XDEL = 1,
  LPUSH = 1, LTRIM = 1, RPUSH = 1, LSET = 1, LPOP = 1, UNLINK = 1, RENAME = 1}
local redis = {
  error_reply = function(text)
    if WROTE then return R.error_reply('STRICT refused after ' .. WROTE .. ': ' .. text) end
    return R.error_reply(text)
  end,
  call = function(command, key, ...)
    if command == 'TIME' then
      local now = R.call('GET', KEYS[1] .. '@clock')
      if not now then return R.call('TIME') end
      return {string.sub(now, 1, -7), string.sub(now, -6)}
    end
    if not DECLARED[key] then error('STRICT undeclared key ' .. tostring(key) .. ' in ' .. command) end
    if WRITES[command] then WROTE = command
    elseif not READS[command] then error('STRICT command ' .. command) end
    return R.call(command, key, ...)
  end}
"""

Mutation = tuple[str, str, str]
"""File (without ``.lua``), text, and what to put in its place."""

_load = _script.load


def watch_scripts(monkeypatch: pytest.MonkeyPatch, *mutations: Mutation) -> None:
    """From here on every board script runs behind :data:`PRELUDE`, changed by ``mutations``."""
    for file, old, _ in mutations:  # here, where nothing takes the complaint for a broken scene
        assert old in _script.source(file), f"{file}.lua has no {old!r} any more: the mutation tests nothing"

    def load(name: str, prelude: str = "_board") -> _script.Script:
        if prelude not in (
            "",
            "_board",
            "_entries",
            "_results",
            "_noticing",
            "_agenda",
            "_taking_over",
            "_agenda_taking_over",
        ):
            return _load(name, prelude)
        files = _script.parts(name, prelude)
        return _watched(name, files, tuple(mutation for mutation in mutations if mutation[0] in files))

    monkeypatch.setattr(_script, "load", load)


@cache
def _watched(name: str, files: tuple[str, ...], mutations: tuple[Mutation, ...]) -> _script.Script:
    texts = {file: _script.source(file) for file in files}
    for file, old, new in mutations:
        texts[file] = texts[file].replace(old, new)
    return _script.Script(name, PRELUDE + _script.assembled(list(texts.values())))


@contextlib.contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, names: Sequence[str], at: int, replied: bool) -> Iterator[None]:
    """Here a process dies, as a ``RuntimeError``, at its ``at``-th call of these scripts, counted from 0.

    Args:
        replied: whether the server has carried the call out by then.
    """
    run, calls = _script.run, 0

    async def dying(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        nonlocal calls
        if script.name in names:
            calls += 1
            if calls == at + 1:
                if replied:
                    await run(client, script, *args, **more)
                raise RuntimeError("killed")
        return await run(client, script, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", dying)
        yield


class Clock:
    """The server's clock as the scripts see it. It stands still until it is turned."""

    def __init__(self, board: Board, micros: int = 1_800_000_000_000_000) -> None:
        self._board, self.micros = board, micros

    async def advance(self, seconds: float = 0.0) -> None:
        self.micros += round(seconds * 1_000_000)
        for shard in self._board.shards:
            await self._board.client.set(shard.tasks + "@clock", str(self.micros))

    @property
    def seconds(self) -> float:
        return self.micros / 1_000_000


def spec(key: str, after: Sequence[str] = (), *, lane: str = "work", **more: Any) -> TaskSpec:
    more.setdefault("tool_use_id", f"tu-{key}")
    more.setdefault("capability", "count")
    more.setdefault("input", {"key": key})
    more.setdefault("retry", RetryPolicy(max_attempts=3, interval_seconds=1.0, rate=2.0, cap_seconds=10.0))
    return TaskSpec(key=key, after=tuple(after), lane=lane, **more)


def broken(claim: Claim, *, retryable: bool = True, status: Status = Status.FAILED) -> Completion:
    return claim.completion(status, error=Failure(type="handler_error", message="broke", retryable=retryable))


def done(claim: Claim, data: Any = None) -> Completion:
    return claim.completion(Status.SUCCEEDED, data={"by": claim.key} if data is None else data)


@dataclass
class Play:
    """The roles around a board, one call each."""

    board: Board
    clock: Clock
    calls: int = field(default=0)
    home: int = 0
    """The shard everything happens on."""
    discarded: list[str] = field(default_factory=list[str])
    """Dead letters the test discarded."""

    @property
    def shard(self) -> _keys.Shard:
        return self.board.shards[self.home]

    async def run(self, *tasks: TaskSpec, limits: Limits | None = None, **more: Any) -> str:
        """A run whose first decision posted these tasks."""
        run = await self.board.submit("go", limits=limits, **more)
        if tasks:
            await self.plan(await self.step(run), *tasks)
        return run

    async def take(self, *lanes: str, n: int = 1, worker: str = "w", nonce: str | None = None) -> list[Claim]:
        return await self.board.claim(worker, lanes or ("work",), n=n, nonce=nonce, shard=self.home)

    async def one(self, *lanes: str, worker: str = "w") -> Claim:
        (claim,) = await self.take(*lanes, worker=worker)
        return claim

    async def step(self, run: str) -> Claim:
        claim = await self.one(STEP_LANE, worker="planner")
        assert claim.run_id == run
        assert claim.kind == "step"
        return claim

    async def decide(self, step: Claim, *tasks: TaskSpec, seen: str = "") -> None:
        """A decision that had read the log up to a position."""
        planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
        await self.board.commit_step(step, planned, tasks, Limits(), seen=seen)

    async def plan(self, step: Claim, *tasks: TaskSpec, answer: str | None = None) -> None:
        planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
        outcome = None
        if answer is not None:
            outcome = RunCompletedData(status="succeeded", answer=answer, rounds=step.round)
        await self.board.commit_step(step, planned, tasks, Limits(), outcome)

    async def header(self, task_id: str) -> dict[str, Any]:
        raw = await self.board.client.hget(self.shard.tasks, task_id)
        assert raw is not None, f"no task {task_id}"
        return json.loads(raw)

    async def state(self, task_id: str) -> str:
        return (await self.header(task_id))["state"]

    async def status(self, run: str) -> str:
        return (await self.board.summary(run)).status

    async def kinds(self, run: str, *only: str) -> list[str]:
        """``type subject`` of each event of the run's log."""
        found = [
            (event.type[len("dev.arbiter.") : -len(".v1")], event.subject) for event in await self.board.history(run)
        ]
        return [f"{kind} {subject.removeprefix(run)}" for kind, subject in found if not only or kind in only]

    async def hold(self, claim: Claim, lease_seconds: float = 1.0) -> str:
        """One heartbeat for one claim, as the thread sends it; the word for it, if there was one."""
        words = await _script.run(
            self.board.client, _script.load("beat"), self.shard.declare(()),
            [0, int(lease_seconds * 1000), claim.task_id, claim.fence],
        )  # fmt: skip
        return words[-1] if words else ""

    async def snapshot(self) -> dict[str, Any]:
        """Everything the board stores, by key, to compare before and after."""
        found: dict[str, Any] = {}
        client, prefix = self.board.client, self.shard.prefix
        async for key in client.scan_iter(match=prefix.replace("{", "[{]").replace("}", "[}]") + "*", count=1000):
            if key.endswith("@clock"):
                continue
            found[key.removeprefix(prefix)] = await _read(client, key)
        return found

    async def wipe(self) -> None:
        """Forget everything, after a test that broke the records on purpose."""
        client = self.board.client
        for key in [key async for key in client.scan_iter(match=f"*{self.board.name}*", count=1000)]:
            await client.delete(key)

    async def sound(self) -> None:
        """Every invariant holds, or the test fails with those that do not."""
        found = await faults(self.board, discarded=self.discarded)
        assert not found, "\n".join(found)


async def _read(client: Any, key: str) -> Any:
    match await client.type(key):
        case "hash":
            return await client.hgetall(key)
        case "zset":
            return dict(await client.zrange(key, 0, -1, withscores=True))
        case "stream":
            return await client.xrange(key)
        case "list":
            return await client.lrange(key, 0, -1)
        case "set":
            return set(await client.smembers(key))
        case _:
            return await client.get(key)


@pytest.fixture(name="play")
async def watched_play(board: Board, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    """Watched scripts and a clock that stands still, on each engine; at the end every invariant must hold.

    Where there are several shards, every run is on the last: order and fairness are promised within a shard.
    """
    watch_scripts(monkeypatch)
    play = Play(board, Clock(board), home=len(board.shards) - 1)
    if play.home:
        monkeypatch.setattr(_keys, "shard_number", lambda run_id, shards: play.home)  # pyright: ignore
    await play.clock.advance()
    yield play
    await play.sound()


Check = Callable[[Play], Awaitable[object]]
"""Uses the board and returns something false when a guarantee does not hold; an error says the same."""


async def refused(call: Awaitable[object], error: type[Exception] = Fenced) -> bool:
    """Whether a call raises this."""
    try:
        await call
    except error:
        return True
    return False


async def verdict(check: Check, monkeypatch: pytest.MonkeyPatch, *mutations: Mutation) -> bool:
    """Whether a check holds on a board of its own, whose scripts are changed so."""
    for file, old, _ in mutations:  # here, because what stops the scene below counts as noticed
        assert old in _script.source(file), f"{file}.lua has no {old!r} any more: the mutation tests nothing"
    name = "x" + uuid.uuid4().hex[:12]
    with monkeypatch.context() as patched:
        watch_scripts(patched, *mutations)
        async with await Board.open(f"memory://{name}", board=name, lease_seconds=1.0) as board:
            play = Play(board, Clock(board))
            await play.clock.advance()
            try:
                return bool(await check(play))
            except Exception:  # a broken script may also stop the scene itself
                return False
