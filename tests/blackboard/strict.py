"""Boards under observation: what the tests of the protocol share.

* :func:`watch_scripts` puts a prelude in front of every board script that refuses keys which were not declared, and
  refusals after the first write, and reads the time from a clock the test turns. It can also change a script's text,
  to show that a test notices.
* :func:`faults` reads a whole board back and names every invariant that does not hold.
* :class:`Play` takes the part of the roles: submits, claims, commits decisions.

Test modules that use the fixture say ``play = watched_play``.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from blackboard import _keys, _script
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.types import Completion, Failure, Limits, RetryPolicy, Status, TaskSpec

TERMINAL = {status.value for status in Status}

PRELUDE = r"""
local R, DECLARED, WROTE = redis, {}, nil
for _, k in ipairs(KEYS) do DECLARED[k] = true end
local READS = {GET = 1, HGET = 1, HEXISTS = 1, SCARD = 1, ZCARD = 1, SMEMBERS = 1, ZSCORE = 1, ZRANGE = 1, ZRANGEBYSCORE = 1,
  ZRANGEBYLEX = 1}
local WRITES = {SET = 1, HSET = 1, HDEL = 1, HINCRBY = 1, SADD = 1, SREM = 1, ZADD = 1, ZREM = 1, DEL = 1, XADD = 1,
  LPUSH = 1, LTRIM = 1}
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
    made: dict[tuple[str, str], _script.Script] = {}

    def load(name: str, prelude: str = "_board") -> _script.Script:
        if prelude != "_board":
            return _load(name, prelude)
        if (name, prelude) not in made:
            text = _load(name, prelude).text
            for file, old, new in mutations:
                if file in (name, prelude):
                    assert old in text, f"{file}.lua has no {old!r} any more: the mutation tests nothing"
                    text = text.replace(old, new)
            made[name, prelude] = _script.Script(name, PRELUDE + text)
        return made[name, prelude]

    monkeypatch.setattr(_script, "load", load)


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
        client, prefix = self.board.client, self.shard.prefix
        for key in await self.snapshot():
            await client.delete(prefix + key)

    async def sound(self) -> None:
        """Every invariant holds, or the test fails with those that do not."""
        assert await faults(self.board) == []


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


async def faults(board: Board, *, lanes: Iterable[str] = ()) -> list[str]:
    """Every invariant of the protocol that the board, as it is stored now, does not keep."""
    found: list[str] = []
    for shard in board.shards:
        found += await _Reading(board, shard).faults()
    return found


class _Reading:
    """One shard, read whole. Nobody may write while it is read."""

    def __init__(self, board: Board, shard: _keys.Shard) -> None:
        self.board, self.shard, self.bad = board, shard, []  # type: ignore[var-annotated]

    def check(self, good: object, *words: object) -> None:
        if not good:
            self.bad.append(" ".join(map(str, words)))

    async def faults(self) -> list[str]:
        client, names = self.board.client, self.shard.prefix
        self.tasks = {k: json.loads(v) for k, v in (await client.hgetall(names + "tasks")).items()}
        self.runs = {k: json.loads(v) for k, v in (await client.hgetall(names + "runs")).items()}
        self.open = {k: t for k, t in self.tasks.items() if t["state"] not in TERMINAL}
        self.feed = await client.xrange(self.shard.feed)
        self.logs = {run: await client.xrange(self.shard.log(run)) for run in self.runs}
        self._versions()
        self._claims()
        for run, header in self.runs.items():
            self._ends(run, header)
            self._barrier(run, header, set(await client.smembers(self.shard.open(run))))
            self._fold(run, header)
        await self._indexes()
        return self.bad

    def _versions(self) -> None:
        """G2: versions of every subject are 1..n in the feed, and n is its record's."""
        seen: dict[str, list[int]] = defaultdict(list)
        for _, event in self.feed:
            subject, _, version = event["id"].rpartition(":")
            seen[subject].append(int(version))
        for subject, header in {**self.tasks, **self.runs}.items():
            self.check(
                seen[subject] == list(range(1, int(header["ver"]) + 1)),
                "G2 versions",
                subject,
                seen[subject],
                header["ver"],
            )
        for subject in seen.keys() - self.tasks.keys() - self.runs.keys():
            self.check(False, "G2 event without a record", subject)

    def _claims(self) -> None:
        """G4: fences rise strictly, the record has the last one, and attempts are what was claimed."""
        fences: dict[str, list[int]] = defaultdict(list)
        for _, event in self.feed:
            if event["type"] == "task.claimed":
                fences[event["subject"]].append(int(json.loads(event["data"])["fence"]))
        for task, header in self.tasks.items():
            mine = fences[task]
            self.check(all(a < b for a, b in itertools.pairwise(mine)), "G4 fences", task, mine)
            self.check(int(header["fence"]) == (mine[-1] if mine else 0), "G4 last fence", task, header["fence"], mine)
            self.check(header["att"] <= header["max"], "G4 attempts", task, header["att"], header["max"])

    def _ends(self, run: str, header: Mapping[str, Any]) -> None:
        """G3: each task has one end in the log, each run one, and nothing follows it."""
        ends: dict[str, int] = defaultdict(int)
        for _, event in self.logs[run]:
            if event["type"] in ("task.completed", "run.completed"):
                ends[event["subject"]] += 1
        for task, t in self.tasks.items():
            if t["run"] == run:
                self.check(ends[task] == (t["state"] in TERMINAL), "G3 ends", task, t["state"], ends[task])
        over = header["state"] in TERMINAL
        self.check(ends[run] == over, "G3 run ends", run, header["state"], ends[run])
        if over:
            self.check(self.logs[run][-1][1]["type"] == "run.completed", "G3 event after the end of", run)

    def _barrier(self, run: str, header: Mapping[str, Any], listed: set[str]) -> None:
        """G5: open tasks are listed; a run that goes on has some; a step is alone and each round has one."""
        mine = {k: t for k, t in self.open.items() if t["run"] == run}
        self.check(listed == set(mine), "G5 open set", run, listed, set(mine))
        self.check(
            bool(mine) == (header["state"] not in TERMINAL), "G5 stuck or not over", run, header["state"], list(mine)
        )
        if any(t["kind"] == "step" for t in mine.values()):
            self.check(len(mine) == 1, "G5 step beside open tasks", run, list(mine))
        rounds = sorted(int(t["round"]) for t in self.tasks.values() if t["run"] == run and t["kind"] == "step")
        self.check(rounds == list(range(1, len(rounds) + 1)), "G5 rounds", run, rounds)

    def _fold(self, run: str, header: Mapping[str, Any]) -> None:
        """G9: the log alone tells the state of the run and of its tasks."""
        told: dict[str, dict[str, Any]] = {}
        state: dict[str, Any] = {"state": "none", "round": 0, "n": 0}
        for _, event in self.logs[run]:
            data, subject = json.loads(event["data"]), event["subject"]
            match event["type"]:
                case "run.accepted":
                    state |= {"state": "queued", "tenant": data["tenant"]}
                case "round.planned":
                    state |= {"state": "running", "round": data["round"]}
                case "task.posted":
                    told[subject] = data
                    state["n"] += data["kind"] != "step"
                case "task.retried":
                    told[subject] |= {"state": "open"}
                case "task.completed":
                    told[subject] |= {"state": data["status"]}
                case "run.cancelling":
                    state["state"] = "cancelling"
                case "run.completed":
                    state["state"] = data["status"]
                case _:
                    pass
        for name, value in state.items():
            self.check(header[name] == value, "G9 run", run, name, header[name], value)
        mine = {k: t for k, t in self.tasks.items() if t["run"] == run}
        self.check(set(told) == set(mine), "G9 tasks", run, set(told) ^ set(mine))
        for task, data in told.items():
            t, expected = mine.get(task), data["state"]
            if t is None:
                continue
            if expected not in TERMINAL:
                waits = any(told[d]["state"] != "succeeded" for d in data.get("after") or ())
                expected = "blocked" if waits else "open"
            actual = t["state"] if t["state"] in TERMINAL | {"blocked"} else "open"
            self.check(actual == expected, "G9 task", task, t["state"], expected)
            same = {
                "cap": "capability",
                "lane": "lane",
                "tuid": "tool_use_id",
                "key": "key",
                "kind": "kind",
                "dl": "deadline_ms",
            }
            for short, name in same.items():
                self.check(t[short] == data[name], "G9 task", task, name, t[short], data[name])

    async def _indexes(self) -> None:
        """G2, G6: each index holds exactly what the records say, so nothing is lost and nothing is left over."""
        client, names = self.board.client, self.shard.prefix
        state: dict[str, set[str]] = defaultdict(set)
        for task, t in self.tasks.items():
            state[t["state"]].add(task)
        lease, wait, due = [set(await client.zrange(names + k, 0, -1)) for k in ("lease", "wait", "due")]
        self.check(lease == state["claimed"], "G6 leases", lease ^ state["claimed"])
        self.check(wait == state["delayed"], "G6 timers", wait ^ state["delayed"])
        live = {"t:" + t for t in self.open} | {"r:" + r for r, h in self.runs.items() if h["state"] not in TERMINAL}
        self.check(due == live, "G6 deadlines", due ^ live)
        inputs = set(await client.hkeys(names + "data"))
        self.check(inputs == set(self.open), "G2 inputs", inputs ^ set(self.open))
        marks = set(await client.hkeys(names + "ckpt"))
        self.check(marks <= set(self.open), "G2 checkpoints left", marks - set(self.open))
        kept = set(await client.hkeys(names + "out"))
        wanted = {
            t for t in self.tasks if t not in self.open and any(o in self.open for o in self.tasks[t].get("outs", ()))
        }
        self.check(kept == wanted, "G2 results kept", kept ^ wanted)
        agenda: set[str] = set()
        for lane in {t["lane"] for t in self.tasks.values()}:
            members = await client.zrange(f"{names}r:{lane}", 0, -1)
            tenants = set(await client.zrange(f"{names}q:{lane}", 0, -1))
            for member in members:
                agenda.add(member.rsplit("\0", 1)[1])
                self.check(member.split("\0", 1)[0] in tenants, "G6 agenda of a tenant nobody will ask", lane, member)
        self.check(state["ready"] <= agenda, "G6 ready and on no agenda", state["ready"] - agenda)
        for task in state["blocked"]:
            t = self.tasks[task]
            waits = [d for d in t["deps"] if self.tasks[d]["state"] != "succeeded"]
            self.check(t["need"] == len(waits) > 0, "G5 need", task, t["need"], waits)


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
