"""Generated histories against a model: whatever is called in whatever order, twice or late, the board does what it says.

Proves G2-G7 and G9 together. ``ARBITER_FUZZ=2000`` tries that many histories instead of the few that fit a test run;
``ARBITER_SEED`` is the first of their seeds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from dataclasses import dataclass, field

import pytest
from strict import TERMINAL, Clock, Play, broken, done, faults, spec, watch_scripts

from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import ScriptRefused
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.plan import Early
from blackboard.types import Completion, Failure, Limits, RetryPolicy, Status

LEASE, GRACE, PAUSE = 1000, 3000, 30_000
GRACE_OF_A_DECISION = 15_000


@dataclass
class Task:
    id: str
    run: str
    step: bool
    max: int
    deadline: int
    deps: list[str]
    state: str
    attempts: int = 0
    fence: str = "0"
    lease: int = 0
    wake: int = 0
    told: bool = False
    alone: bool = False
    """Told by a cancellation of its own, whose grace is its deadline from then on."""
    was: str = ""
    rests: int = 0
    left: int = 0
    claims: int = 0
    tell: bool = False
    """Its failure brings the run's next step."""


@dataclass
class Run:
    id: str
    deadline: int
    due: int
    state: str = "queued"
    want: str = ""
    round: int = 0
    rests: int | None = None
    """Since when it is paused."""
    call: bool = False
    again: int | None = None
    """After how many ms its model is asked though work goes on."""
    ask: int | None = None
    """When that is."""
    mark: bool = False
    """Something happened that its next step is to see."""


@dataclass
class Model:
    """What DESIGN says a shard does, in plain Python."""

    now: int
    runs: dict[str, Run] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    letters: set[str] = field(default_factory=set)

    def open(self, run: str) -> list[Task]:
        return [t for t in self.tasks.values() if t.run == run and t.state not in TERMINAL]

    def step(self, run: Run) -> None:
        task = f"{run.id}/s{run.round + 1}"
        self.tasks[task] = Task(task, run.id, True, 5, self.deadline(run), [], "ready")
        self.lie_down(self.tasks[task])

    def deadline(self, run: Run) -> int:
        return run.deadline + (0 if run.rests is None else self.now - run.rests)

    def lie_down(self, t: Task, left: int = 0) -> None:
        """What waits in a paused run rests."""
        if self.runs[t.run].rests is not None and t.state in ("ready", "blocked", "delayed"):
            t.was, t.state, t.rests, t.left = t.state, "paused", self.now, left

    def pause(self, run: Run) -> None:
        if run.state in ("queued", "running") and run.rests is None:
            run.rests, run.due = self.now, self.now + PAUSE
            run.ask = None if run.again is not None else run.ask
            for t in self.open(run.id):
                self.lie_down(t, max(0, t.wake - self.now) if t.state == "delayed" else 0)

    def resume(self, run: Run) -> None:
        if run.rests is None or run.state in TERMINAL:
            return
        run.deadline = run.due = self.deadline(run)
        run.rests = None
        run.ask = None if run.again is None else self.now + run.again
        for t in self.open(run.id):
            if t.state == "paused":
                t.state, t.deadline = t.was, t.deadline + self.now - t.rests
                t.wake = self.now + t.left

    def cancel_task(self, t: Task) -> None:
        if t.state in TERMINAL or t.step or t.told:
            return
        if t.state == "claimed":
            t.told = t.alone = True
            t.deadline = min(t.deadline, self.now + GRACE)
        else:
            self.finish(t, "cancelled")

    def submit(self, run: str, ms: int) -> None:
        self.runs[run] = Run(run, self.now + ms, self.now + ms)
        self.step(self.runs[run])

    def call(self, run: str, ms: int, maximum: int, deadline: int) -> None:
        self.runs[run] = Run(run, self.now + ms, self.now + ms, "running", call=True)
        self.tasks[f"{run}/0.call"] = Task(f"{run}/0.call", run, False, maximum, deadline, [], "ready")

    def holds(self, claim: Claim) -> Task | None:
        t = self.tasks[claim.task_id]
        return t if t.state == "claimed" and t.fence == claim.fence else None

    def plan(self, t: Task, tasks: list[Task], answer: bool, again: int | None, stop: list[str], unread: bool) -> None:
        run = self.runs[t.run]
        t.state = "succeeded"
        run.round, run.state = int(t.id.rpartition("s")[2]), "running"
        if answer:
            self.give_up(run, "succeeded")
            return
        for new in tasks:
            self.tasks[new.id] = new
            self.lie_down(new)
        for one in stop:
            self.forsake(self.tasks[one])
        run.again = again
        run.ask = None if again is None or run.rests is not None else self.now + again
        run.mark = run.mark and unread
        if run.mark or not self.open(run.id):
            self.step(run)

    def forsake(self, t: Task) -> None:
        """A decision stops a task."""
        if t.state in TERMINAL or t.told:
            return
        t.told = t.alone = True
        if t.state != "paused":
            t.deadline = min(t.deadline, self.now + GRACE_OF_A_DECISION) if t.state == "claimed" else self.now

    def give_up(self, run: Run, status: str) -> None:
        """A decision ends a run; what goes on is stopped before."""
        if not self.open(run.id):
            self.end(run, status)
            return
        run.due = min(self.deadline(run), self.now + GRACE_OF_A_DECISION)
        run.state, run.want, run.rests = "cancelling", status, None
        self.stop(run, force=False)

    def decided_on(self, run: Run) -> bool:
        return any(t.step for t in self.open(run.id))

    def finish(self, t: Task, status: str) -> None:
        t.state = status
        ended = [t]
        for one in ended:
            for x in self.open(t.run):
                if one.id in x.deps and "blocked" in (x.state, x.state == "paused" and x.was):
                    if one.state != "succeeded":
                        x.state = "cancelled"
                        ended.append(x)
                    elif all(self.tasks[d].state == "succeeded" for d in x.deps):
                        if x.state == "paused":
                            x.was = "ready"
                        else:
                            x.state = "ready"
        run = self.runs[t.run]
        if status in ("failed", "timed_out") and not (t.step or t.told or run.call):
            self.letters.add(t.id)
        if t.tell and status in ("failed", "timed_out"):
            run.mark = True
            if run.state in ("queued", "running") and not self.decided_on(run):
                self.step(run)
        if t.step and run.state in ("queued", "running"):
            self.give_up(run, "failed" if status == "succeeded" else status)
            return
        if self.open(t.run):
            return
        if run.state == "cancelling":
            self.end(run, run.want)
        elif run.call:
            self.end(run, status)
        else:
            self.step(run)

    def end(self, run: Run, status: str) -> None:
        run.state = status
        if status in ("failed", "timed_out"):
            self.letters.add(run.id)

    def again(self, t: Task, delay: int) -> bool:
        if t.told or t.attempts >= t.max or self.now + delay > t.deadline:
            return False
        t.state, t.wake = "delayed", self.now + delay
        self.lie_down(t, delay)
        return True

    def stop(self, run: Run, *, force: bool) -> None:
        for t in self.open(run.id):
            if t.state == "claimed" and not t.step and not force:
                t.told = True
            else:
                t.state = run.want if run.want == "timed_out" else "cancelled"
        if not self.open(run.id):
            self.end(run, run.want)

    def cancel(self, run: Run) -> None:
        if run.state in ("queued", "running"):
            run.state, run.want = "cancelling", "cancelled"
            run.due = min(self.deadline(run), self.now + GRACE)
            run.rests = None
            self.stop(run, force=False)

    def release(self, t: Task) -> None:
        if t.told:
            self.finish(t, "cancelled")
        elif t.claims >= max(10, 3 * t.max):
            self.finish(t, "failed")
        else:
            t.state = "ready"
            t.attempts -= 1
            self.lie_down(t)

    def sweep(self) -> None:
        late = [(r.due, "r:" + r.id) for r in self.runs.values() if r.state not in TERMINAL]
        late += [
            (t.deadline, "t:" + t.id) for t in self.tasks.values() if t.state not in TERMINAL and t.state != "paused"
        ]
        late += [(r.ask, "s:" + r.id) for r in self.runs.values() if r.ask is not None and r.state not in TERMINAL]
        waiting = sorted((t.wake, t.id) for t in self.tasks.values() if t.state == "delayed")
        held = sorted((t.lease, t.id) for t in self.tasks.values() if t.state == "claimed")
        for at, name in sorted(late):
            if at > self.now:
                continue
            if name[0] == "s" and self.runs[name[2:]].due > self.now:
                run = self.runs[name[2:]]
                if run.ask is None or run.ask > self.now:
                    continue
                run.ask = None
                if run.state in ("queued", "running") and not self.decided_on(run):
                    run.mark = True
                    self.step(run)
            elif name[0] in "rs":
                run = self.runs[name[2:]]
                if run.rests is not None:
                    self.resume(run)
                    continue
                if run.state in ("queued", "running"):
                    run.want = "timed_out"
                if run.state not in TERMINAL:
                    self.stop(run, force=True)
            elif self.tasks[name[2:]].state not in TERMINAL:
                t = self.tasks[name[2:]]
                self.finish(t, "cancelled" if t.alone else "timed_out")
        for at, name in waiting:
            if at <= self.now and self.tasks[name].state == "delayed":
                self.tasks[name].state = "ready"
        for at, name in held:
            t = self.tasks[name]
            if at <= self.now and t.state == "claimed":
                if t.told:
                    self.finish(t, "cancelled")
                elif not self.again(t, min(60_000, 100 * 2 ** (t.attempts - 1))):
                    self.finish(t, "failed")


def no_success(claim: Claim) -> Completion:
    """A failure; that of a decision, with which its run ends, has words of its own."""
    if claim.kind != "step":
        return broken(claim)
    return claim.completion(
        Status.FAILED, error=Failure(type="handler_error", message="nothing was decided", retryable=True)
    )


class History:
    """Applies each generated call to the board and to the model and compares what became of every task and run."""

    def __init__(self, play: Play) -> None:
        self.play, self.board = play, play.board
        self.model = Model(play.clock.micros // 1000)
        self.claims: list[Claim] = []
        self.number = 0

    async def go(self, op: str, pick: int) -> None:
        times = 1 + (pick % 7 == 0) + (pick % 11 == 0)
        await getattr(self, op)(pick, times)
        await self.compare(op, pick)

    async def compare(self, *why: object) -> None:
        client, shard = self.board.client, self.play.shard
        tasks, stored_runs = await client.hgetall(shard.tasks), await client.hgetall(shard.runs)
        stored = {task: json.loads(raw)["state"] for task, raw in tasks.items()}
        assert stored == {t.id: t.state for t in self.model.tasks.values()}, why
        runs = {run: json.loads(raw)["state"] for run, raw in stored_runs.items()}
        assert runs == {run.id: run.state for run in self.model.runs.values()}, why
        assert set(await client.hkeys(shard.dead)) == self.model.letters, why

    async def send(self, times: int, call: object) -> None:
        """The same call several times at once; a refusal must have no effect, which the comparison shows."""
        for result in await asyncio.gather(*(call() for _ in range(times)), return_exceptions=True):  # type: ignore[operator]
            if isinstance(result, BaseException) and not isinstance(result, ScriptRefused):
                raise result

    def some(self, pick: int) -> Claim | None:
        """Mostly a claim that holds, sometimes one long gone."""
        held = [claim for claim in self.claims if self.model.holds(claim)]
        among = held if held and pick % 5 else self.claims
        return among[pick % len(among)] if among else None

    async def submit(self, pick: int, times: int) -> None:
        if sum(not run.call for run in self.model.runs.values()) >= 5:
            return
        seconds = (8, 300, 300)[pick % 3]
        key = f"k{len(self.model.runs)}"
        got = await asyncio.gather(
            *(self.board.submit("go", idempotency_key=key, limits=Limits(seconds=seconds)) for _ in range(times))
        )
        assert len(set(got)) == 1
        self.model.submit(got[0], seconds * 1000)

    async def call(self, pick: int, times: int) -> None:
        if sum(run.call for run in self.model.runs.values()) >= 4:
            return
        seconds, most, maximum = (8, 300)[pick % 2], (2, 20)[pick % 3 == 0], 1 + pick % 3
        key, limits = f"c{len(self.model.runs)}", Limits(seconds=seconds, task_seconds=most)
        retry = RetryPolicy(max_attempts=maximum, interval_seconds=0.3, cap_seconds=1)
        got = await asyncio.gather(
            *(
                self.board.submit_call("count", pick, lane="work", idempotency_key=key, limits=limits, retry=retry)
                for _ in range(times)
            )
        )
        assert len(set(got)) == 1
        deadline = self.model.now + 1000 * min(seconds, most)
        self.model.call(got[0], seconds * 1000, maximum, deadline)

    async def claim(self, pick: int, times: int) -> None:
        self.number += 1
        lanes, n = (("arbiter", "work", "other"), ("work",), ("arbiter",))[pick % 3], 1 + pick % 4
        first, *rest = await asyncio.gather(
            *(self.board.claim("w", lanes, n=n, nonce=f"n{self.number}") for _ in range(times))
        )
        assert all(again == first for again in rest)
        ready = [t for t in self.model.tasks.values() if t.state == "ready" and not t.told and self.lane(t) in lanes]
        assert len(first) == min(n, len(ready))
        for claim in first:
            t = self.model.tasks[claim.task_id]
            assert t in ready
            assert int(claim.fence) > int(t.fence)
            t.state, t.fence, t.lease = "claimed", claim.fence, self.model.now + LEASE
            t.attempts, t.claims = t.attempts + 1, t.claims + 1
            assert claim.attempt == t.attempts
            self.claims.append(claim)

    @staticmethod
    def lane(t: Task) -> str:
        return "arbiter" if t.step else ("other" if t.id.endswith("3") else "work")

    async def plan(self, pick: int, times: int) -> None:
        steps = [c for c in self.claims if c.kind == "step"]
        step = next((c for c in steps if self.model.holds(c)), steps[-1] if steps else None)
        if step is None:
            return
        alone = len(self.model.open(step.run_id)) <= 1
        shape, answer = pick % 6, pick % 13 == 12 and (alone or pick % 3 > 0)
        edges: list[list[int]] = [
            [[], [], [0, 1], [0]],
            [[]],
            [[], [0], [1], [0, 2]],
            [],
            [[], [], [], []],
            [[], [0], [0], [1, 2]],
        ][shape]
        maximum, seconds = 1 + pick % 3, (2, 20)[pick % 2]
        specs = [
            spec(f"t{i}", [f"t{d}" for d in deps], lane="other" if i == 3 else "work", seconds=seconds,
                 retry=RetryPolicy(max_attempts=maximum, interval_seconds=0.3, cap_seconds=1))
            for i, deps in enumerate(edges)
        ]  # fmt: skip
        if answer:
            specs = []
        early, stop, unread, again = None, list[str](), pick % 5 == 1, None
        if pick % 3:  # the model may be asked though work goes on
            again = (None, 500, 5000)[pick % 4 % 3]
            stop = [t.id for t in self.model.open(step.run_id) if not t.step][: pick % 2]
            early = Early(again, dict.fromkeys(stop, "it has lost its point"), "it was answered")
        position = "" if unread else (await self.board.history(step.run_id))[-1].sequence
        planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
        outcome = RunCompletedData(status="succeeded", answer="a", rounds=step.round) if answer else None
        await self.send(
            times, lambda: self.board.commit_step(step, planned, specs, Limits(), outcome, seen=position, early=early)
        )
        held = self.model.holds(step)
        if held is None:
            return
        deadline = min(self.model.deadline(self.model.runs[step.run_id]), self.model.now + seconds * 1000)
        name = f"{step.run_id}/{step.round}.t"
        tasks = [
            Task(
                f"{name}{i}",
                step.run_id,
                False,
                maximum,
                deadline,
                [f"{name}{d}" for d in deps],
                "blocked" if deps else "ready",
                tell=early is not None,
            )
            for i, deps in enumerate(edges)
        ]
        self.model.plan(held, [] if answer else tasks, answer, again, stop, unread)

    async def complete(self, pick: int, times: int) -> None:
        claim = self.some(pick)
        if claim is None or (claim.kind == "step" and pick % 5):
            return
        bad = pick % 4 == 0
        await self.send(times, lambda: self.board.complete(claim, no_success(claim) if bad else done(claim)))
        held = self.model.holds(claim)
        if held:
            self.model.finish(held, "failed" if bad else "succeeded")

    async def fail(self, pick: int, times: int) -> None:
        claim = self.some(pick)
        if claim is None:
            return
        await self.send(times, lambda: self.board.fail(claim, no_success(claim)))
        held = self.model.holds(claim)
        policy = claim.retry
        delay = int(min(policy.cap_seconds, policy.interval_seconds * policy.rate ** (claim.attempt - 1)) * 1000)
        if held and not self.model.again(held, delay):
            self.model.finish(held, "failed")

    async def release(self, pick: int, times: int) -> None:
        claim = self.some(pick)
        if claim is None:
            return
        await self.send(times, lambda: self.board.release(claim))
        held = self.model.holds(claim)
        if held:
            self.model.release(held)

    async def progress(self, pick: int, times: int) -> None:
        claim = self.some(pick)
        if claim is not None:
            await self.send(
                times, lambda: self.board.progress(claim, 1 + pick % 3, "task.progressed", pick, {"mark": pick})
            )

    async def beat(self, pick: int, times: int) -> None:
        claim = self.some(pick)
        if claim is None:
            return
        word = await self.play.hold(claim, LEASE / 1000)
        held = self.model.holds(claim)
        assert word == ("lost" if held is None else "cancel" if held.told else "")
        if held:
            held.lease = self.model.now + LEASE

    async def cancel(self, pick: int, times: int) -> None:
        if self.model.runs:
            run = list(self.model.runs.values())[pick % len(self.model.runs)]
            await self.send(times, lambda: self.board.cancel_run(run.id))
            self.model.cancel(run)

    async def cancel_task(self, pick: int, times: int) -> None:
        waiting = [t for t in self.model.tasks.values() if not t.step]
        if waiting:
            t = waiting[pick % len(waiting)]
            await self.send(times, lambda: self.board.cancel_task(t.id))
            self.model.cancel_task(t)

    async def pause(self, pick: int, times: int) -> None:
        if self.model.runs:
            run = list(self.model.runs.values())[pick % len(self.model.runs)]
            await self.send(times, lambda: self.board.pause_run(run.id, seconds=PAUSE / 1000))
            self.model.pause(run)

    async def resume(self, pick: int, times: int) -> None:
        if self.model.runs:
            run = list(self.model.runs.values())[pick % len(self.model.runs)]
            await self.send(times, lambda: self.board.resume_run(run.id))
            self.model.resume(run)

    async def wait(self, pick: int, times: int) -> None:
        ms = (1, 200, 300, 400, 500, 999, 1001, 20_000 if pick % 5 == 0 else 100)[pick % 8]
        await self.play.clock.advance(ms / 1000)
        self.model.now += ms
        if pick % 3:
            await self.send(times, self.board.sweep)
            self.model.sweep()

    async def to_the_end(self) -> None:
        """G6: with nobody working any more, every run ends by its deadline."""
        for _ in range(400):
            if all(run.state in TERMINAL for run in self.model.runs.values()):
                break
            await self.wait(55, 1)  # 20 s and a sweep
        await self.compare("end")
        assert all(run.state in TERMINAL for run in self.model.runs.values())


OPS = {
    "claim": 6,
    "plan": 4,
    "complete": 7,
    "fail": 2,
    "release": 2,
    "progress": 1,
    "beat": 2,
    "cancel": 0.5,
    "cancel_task": 0.7,
    "pause": 1,
    "resume": 1,
    "wait": 4,
    "submit": 2,
    "call": 1,
}
CALLS = 120
HISTORIES = int(os.environ.get("ARBITER_FUZZ", "16"))
FIRST = int(os.environ.get("ARBITER_SEED", "0"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + HISTORIES))
@pytest.mark.parametrize("engine", ["redis", "memory"])
async def test_g2_to_g9_any_history_ends_where_the_model_says(
    seed: int, engine: str, redis_server: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    calls = [(op, chance.randrange(10_000)) for op in chance.choices(list(OPS), weights=list(OPS.values()), k=CALLS)]
    name = "m" + uuid.uuid4().hex[:12]
    url = redis_server.url if engine == "redis" else f"memory://{name}"  # type: ignore[attr-defined]
    async with await Board.open(
        url, board=name, lease_seconds=LEASE / 1000, cancel_grace_seconds=GRACE / 1000
    ) as board:
        with monkeypatch.context() as patch:
            watch_scripts(patch)
            board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
            play = Play(board, Clock(board))
            await play.clock.advance()
            history = History(play)
            await history.go("submit", 1)
            for op, pick in calls:
                await history.go(op, pick)
            assert await faults(board) == []
            await history.to_the_end()
            assert await faults(board) == []
            await board.claim("tidy", ["arbiter", "work", "other"], n=1)
            left = {key.partition(":")[0] for key in await play.snapshot()}
            assert left <= {
                "tasks",
                "runs",
                "index",
                "ev",
                "vt",
                "outcomes",
                "run",
                "w",
                "b",
                "dead",
                "deadx",
                "audit",
                "e",
            }
            assert not [key for key in await play.snapshot() if key.endswith(":open")]


def test_the_statuses_of_the_model_are_those_of_the_board() -> None:
    assert {s.value for s in Status} == TERMINAL
