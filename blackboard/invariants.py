"""The protocol's invariants, checked mechanically: read a whole board back and name every one that does not hold.

For tests and for fault injection; it reads everything there is, and nobody may write meanwhile. Every line it returns
begins with the guarantee that is broken, numbered as in ``docs/guarantees.md``.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, cast

from blackboard import _keys, agenda_invariants, entry_invariants
from blackboard.board import Board
from blackboard.types import Status

TERMINAL = frozenset(status.value for status in Status)
_GIVEN_UP = ("failed", "timed_out")
_CORRECTED = ("bad_input", "input_schema", "unresolved_reference")
"""Errors that are mistakes of the caller, who is told: no letter is written for them."""


async def faults(board: Board, *, discarded: Collection[str] = ()) -> list[str]:
    """Every invariant of G2 to G6, G8, G9 and G12 that the board, as it is stored now, does not keep; empty when all hold.

    Args:
        discarded: ids of dead letters that were discarded, so that nobody looks for them.
    """
    found: list[str] = []
    for shard in board.shards:
        found += await _Reading(board, shard, discarded).faults()
    return found + await _budgets(board) + await _schedules(board)


async def held(board: Board) -> list[str]:
    """G8: what budgets still hold. Nothing, once all work has ended, every lease is over and budgets were swept."""
    client, names = cast(Any, board.client), _keys.budgets(board.namespace, board.name)
    holds = {id: json.loads(raw) for id, raw in (await client.hgetall(names + "holds")).items()}
    return [f"G8 still held: {id}" for id, hold in holds.items() if hold["s"] == "held"]


async def _budgets(board: Board) -> list[str]:
    """G8: each pot holds, and counts as lapsed, what the reservations say; each reservation has a time at which it ends."""
    client, names = cast(Any, board.client), _keys.budgets(board.namespace, board.name)
    holds = {id: json.loads(raw) for id, raw in (await client.hgetall(names + "holds")).items()}
    due = set(await client.zrange(names + "due", 0, -1))
    bad = [f"G8 reservation without an end, or the other way round: {id}" for id in sorted(due ^ set(holds))]
    expected: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for hold in holds.values():
        for level in hold["l"] if hold["s"] == "held" else ():
            for unit, amount in zip(_UNITS, hold["a"], strict=True):
                expected[level["n"]][f"{level['w']}r:{unit}"] += int(amount) if amount.isdigit() else 0
            expected[level["n"]]["calls"] += level.get("p", 0)
    async for key in client.scan_iter(match=names + "pot:*", count=1000):
        level = key.removeprefix(names + "pot:")
        pot = {field: int(value) for field, value in (await client.hgetall(key)).items() if _HELD.search(field)}
        there = {field: value for field, value in pot.items() if value}
        wanted = {field: value for field, value in expected[level].items() if value}
        if there != wanted:
            bad.append(f"G8 pot of {level} holds {there}, its reservations {wanted}")
    return bad


_UNITS = ("tokens", "money", "milliseconds", "fabrications")
_HELD = re.compile(r"^(?:calls|(?:\d+:)?r:\w+)$")


async def _schedules(board: Board) -> list[str]:
    """G6: each schedule that will occur, or has an occurrence half done, is among those a sweep looks at, and no other."""
    client = cast(Any, board.client)
    defs, state, due = _keys.schedules(board.shards[0])
    states = {name: json.loads(raw) for name, raw in (await client.hgetall(state)).items()}
    listed, named = set(await client.zrange(due, 0, -1)), set(await client.hkeys(defs))
    awake = {name for name, one in states.items() if one["firing"] or (one["enabled"] and one["next"] is not None)}
    bad = [f"G2 schedule without a definition, or without a state: {name}" for name in sorted(named ^ set(states))]
    return bad + [f"G6 schedule nobody will look at, or one that is over: {name}" for name in sorted(awake ^ listed)]


_ENDS = ("task.completed", "run.completed")
_DECIDING = ("step", "control")
"""Kinds of the tasks that are the arbiter's own."""


def _lasting(subject: str) -> bool:
    """Whether it is something that has no end of its own: an entry, an agenda."""
    return entry_invariants.MARK in subject or subject.endswith((agenda_invariants.SUBJECT, entry_invariants.COMPACTED))


class _Reading:
    """One shard, read whole. Nobody may write while it is read."""

    def __init__(self, board: Board, shard: _keys.Shard, discarded: Collection[str]) -> None:
        self.board, self.shard, self.discarded = board, shard, discarded
        self.bad: list[str] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.open: dict[str, dict[str, Any]] = {}
        self.feed: list[tuple[str, dict[str, str]]] = []
        self.logs: dict[str, list[tuple[str, dict[str, str]]]] = {}
        self.entries: dict[str, int] = {}
        self.agendas: dict[str, int] = {}

    def check(self, good: object, *words: object) -> None:
        if not good:
            self.bad.append(" ".join(map(str, words)))

    async def faults(self) -> list[str]:
        names, client = self.shard.prefix, cast(Any, self.board.client)
        self.tasks = {k: json.loads(v) for k, v in (await client.hgetall(names + "tasks")).items()}
        self.runs = {k: json.loads(v) for k, v in (await client.hgetall(names + "runs")).items()}
        self.open = {k: t for k, t in self.tasks.items() if t["state"] not in TERMINAL}
        self.feed = await client.xrange(self.shard.feed)
        self.logs = {run: await client.xrange(self.shard.log(run)) for run in self.runs}
        scopes = self.runs.keys() | {event["run"] for _, event in self.feed if ":" in event["run"]}
        self.entries = await entry_invariants.heads(self.board, self.shard, scopes)
        for scope in scopes:
            self.bad += await entry_invariants.faults(self.board, self.shard, scope, self.logs.get(scope))
        self.bad += entry_invariants.results(self.tasks, self.entries)
        self.agendas = await agenda_invariants.versions(self.board, self.shard, self.runs)
        for run, header in self.runs.items():
            if run + agenda_invariants.SUBJECT in self.agendas or "ag" in header:
                self.bad += await agenda_invariants.faults(self.board, self.shard, run, header, self.tasks)
        self._versions()
        self._claims()
        for run, header in self.runs.items():
            self._ends(run, header)
            turns = await client.hgetall(self.shard.turns(run))
            self._barrier(run, header, set(await client.smembers(self.shard.open(run))), turns)
            self._fold(run, header)
        await self._indexes()
        return self.bad

    def _versions(self) -> None:
        """G2: versions of every subject are 1..n in the feed, and n is its record's.

        A run that was removed leaves its events in the feed. One of the same idempotency key begins anew.
        """
        seen: dict[str, list[int]] = defaultdict(list)
        ended: dict[str, bool] = {}
        for _, event in self.feed:
            subject, _, number = event["id"].rpartition(":")
            if int(number) == 1 and (ended.get(subject) or _lasting(subject)):
                seen[subject].clear()
            seen[subject].append(int(number))
            ended[subject] = event["type"] in _ENDS
        for subject, header in {**self.tasks, **self.runs}.items():
            self.check(
                seen[subject] == list(range(1, int(header["ver"]) + 1)),
                "G2 versions",
                subject,
                seen[subject],
                header["ver"],
            )
        for subject, version in (self.entries | self.agendas).items():
            self.check(seen[subject] == list(range(1, version + 1)), "G2 versions", subject, seen[subject], version)
        for subject in seen.keys() - self.tasks.keys() - self.runs.keys() - self.entries.keys() - self.agendas.keys():
            removed = (ended[subject] or _lasting(subject)) and subject.partition("/")[0] not in self.runs
            self.check(removed, "G2 event without a record", subject)

    def _claims(self) -> None:
        """G4: fences rise strictly, the record has the last one, and attempts are what was claimed."""
        fences: dict[str, list[int]] = defaultdict(list)
        for _, event in self.feed:
            if event["type"] == "task.posted":
                fences[event["subject"]].clear()  # of the same id in a run that was removed
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
            if event["type"] in _ENDS:
                ends[event["subject"]] += 1
        for task, t in self.tasks.items():
            if t["run"] == run:
                self.check(ends[task] == (t["state"] in TERMINAL), "G3 ends", task, t["state"], ends[task])
        over = header["state"] in TERMINAL
        self.check(ends[run] == over, "G3 run ends", run, header["state"], ends[run])
        if header.get("call"):
            mine = [t for t in self.tasks.values() if t["run"] == run]
            named = [t["key"] for t in mine if t["kind"] != "step"]
            self.check(len(mine) == len(named) == 1, "G5 tasks of a call", run, [t["key"] for t in mine])
            ends_as = [str(t["state"]) for t in mine] + [str(header.get("want"))]
            self.check(not over or header["state"] in ends_as, "G3 end of a call", run, header["state"], ends_as)
        if over:
            self.check(self.logs[run][-1][1]["type"] == "run.completed", "G3 event after the end of", run)

    def _barrier(self, run: str, header: Mapping[str, Any], listed: set[str], turns: Mapping[str, str]) -> None:
        """G5: open tasks are listed; a run that goes on has some; each round has one step, which is alone unless something
        ended that is waited for; and what is waited for is counted."""
        mine = {k: t for k, t in self.open.items() if t["run"] == run}
        self.check(listed == set(mine), "G5 open set", run, listed, set(mine))
        self.check(
            bool(mine) == (header["state"] not in TERMINAL), "G5 stuck or not over", run, header["state"], list(mine)
        )
        steps = [k for k, t in mine.items() if t["kind"] == "step"]
        self.check(len(steps) <= 1, "G5 steps beside each other", run, steps)
        self.check(not steps or len(mine) == 1 or "#" in turns, "G5 step beside open tasks", run, list(mine))
        looked_at = steps or header["state"] == "cancelling"
        self.check("#" not in turns or looked_at, "G5 something ended that is waited for, and nobody looks", run)
        marks = Counter(name for t in mine.values() for name in t.get("wk", ()))
        for name, count in turns.items():
            if name[0] == "#" and name != "#":
                self.check(int(count) == marks[name[1:]] > 0, "G5 waited for", run, name, count, marks[name[1:]])
        rounds = sorted(int(t["round"]) for t in self.tasks.values() if t["run"] == run and t["kind"] == "step")
        self.check(rounds == list(range(1, len(rounds) + 1)), "G5 rounds", run, rounds)

    def _fold(self, run: str, header: Mapping[str, Any]) -> None:
        """G9: the log alone tells the state of the run and of its tasks."""
        told: dict[str, dict[str, Any]] = {}
        state: dict[str, Any] = {"state": "none", "round": 0, "n": 0}
        moved: set[str] = set()
        for _, event in self.logs[run]:
            data, subject = json.loads(event["data"]), event["subject"]
            match event["type"]:
                case "run.accepted":
                    state |= {"state": "running" if data.get("call") else "queued", "tenant": data["tenant"]}
                case "round.planned":
                    state |= {"state": "running", "round": data["round"]}
                case "task.posted":
                    told[subject] = data
                    state["n"] += data["kind"] not in _DECIDING
                case "task.retried":
                    told[subject] |= {"state": "open"}
                case "task.completed":
                    told[subject] |= {"state": data["status"]}
                case "run.resumed":
                    moved |= told.keys()
                case "approval.asked" | "callback.waiting":
                    behind = {subject}
                    while more := {t for t in told if not behind.isdisjoint(told[t].get("after") or ())} - behind:
                        behind |= more
                    moved |= behind
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
            actual = t.get("was", t["state"])
            actual = actual if actual in TERMINAL | {"blocked"} else "open"
            self.check(actual == expected, "G9 task", task, t["state"], expected)
            same = {"cap": "capability", "lane": "lane", "tuid": "tool_use_id", "key": "key", "kind": "kind"}
            for short, name in same.items():
                self.check(t[short] == data[name], "G9 task", task, name, t[short], data[name])
            later = task in moved and t["dl"] > data["deadline_ms"]  # a pause and a wait for a person move deadlines on
            self.check(
                t["dl"] == data["deadline_ms"] or later, "G9 task", task, "deadline", t["dl"], data["deadline_ms"]
            )

    async def _indexes(self) -> None:
        """G2, G6: each index holds exactly what the records say, so nothing is lost and nothing is left over."""
        names, client = self.shard.prefix, cast(Any, self.board.client)
        state: dict[str, set[str]] = defaultdict(set)
        for task, t in self.tasks.items():
            state[t["state"]].add(task)
        lease, wait, due = [set(await client.zrange(names + k, 0, -1)) for k in ("lease", "wait", "due")]
        self.check(lease == state["claimed"], "G6 leases", lease ^ state["claimed"])
        asked = {task for task in state["paused"] if "ask" in self.tasks[task]}
        timed = state["delayed"] | state["waiting"] | asked
        self.check(wait == timed, "G6 timers", wait ^ timed)
        awake = {t for t in self.open if self.open[t]["state"] != "paused"}
        live = {"t:" + t for t in awake} | {"r:" + r for r, h in self.runs.items() if h["state"] not in TERMINAL}
        again = {"s:" + r for r, h in self.runs.items() if h["state"] not in TERMINAL and "again" in h}
        self.check(due - again == live, "G6 deadlines", due ^ live)
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
                self.check(
                    re.split("[\0\1]", member, maxsplit=1)[0] in tenants,
                    "G6 agenda of a tenant nobody will ask",
                    lane,
                    member,
                )
        begin = {t for t in state["ready"] if "cxl" not in self.tasks[t]}
        self.check(begin <= agenda, "G6 ready and on no agenda", begin - agenda)
        for task in state["paused"]:
            t = self.tasks[task]
            self.check("pz" in self.runs[t["run"]], "G6 task rests in a run that does not", task)
            self.check(t["was"] in ("ready", "delayed", "blocked"), "G6 rests and was", task, t["was"])
        await self._quotas()
        await self._letters()
        for task in state["blocked"] | {t for t in state["paused"] if self.tasks[t]["was"] == "blocked"}:
            t = self.tasks[task]
            waits = [d for d in t["deps"] if self.tasks[d]["state"] != "succeeded"]
            self.check(t["need"] == len(waits) > 0, "G5 need", task, t["need"], waits)

    async def _letters(self) -> None:
        """G3: each task and run that was given up has a dead letter, nothing else has, and it is where its time says."""
        client = cast(Any, self.board.client)
        letters: dict[str, str] = await client.hgetall(self.shard.dead)
        dropped = int(letters.pop("", 0))
        times = dict(await client.zrange(self.shard.deadx, 0, -1, withscores=True))
        self.check(set(letters) == set(times), "G3 dead letters", set(letters) ^ set(times))
        for subject, raw in letters.items():
            letter, about = json.loads(raw), (self.tasks | self.runs).get(subject, {})
            self.check(letter["at"] == times.get(subject), "G3 time of a dead letter", subject, letter["at"])
            ends = (about.get("state"), letter["status"])
            self.check(ends in (("failed", "failed"), ("timed_out", "timed_out")), "G3 dead letter", subject, ends)
            same = letter["run"] == about.get("run", subject) and letter["tenant"] == about.get("tenant")
            self.check(same, "G3 whose dead letter", subject, letter["run"], letter["tenant"])
        wanted = self._given_up()
        missing = wanted - set(letters) - set(self.discarded)
        self.check(len(missing) <= dropped, "G3 given up without a dead letter", missing)
        self.check(set(letters) <= wanted, "G3 dead letter of what was not given up", set(letters) - wanted)

    def _given_up(self) -> set[str]:
        """What must have a letter, as the logs tell it."""
        found: set[str] = set()
        for run, header in self.runs.items():
            ends: dict[str, Any] = {
                event["subject"]: json.loads(event["data"]) for _, event in self.logs[run] if event["type"] in _ENDS
            }
            told = [event["type"] for _, event in self.logs[run]]
            since = told.index("run.cancelling") if "run.cancelling" in told else 0
            stopped = {event["subject"] for _, event in self.logs[run][since:]} if "want" in header else set[str]()
            over: dict[str, Any] = ends.pop(run, {})
            error: dict[str, Any] = over.get("error") or {}
            if over.get("status") in _GIVEN_UP and not (header.get("call") and error.get("type") in _CORRECTED):
                found.add(run)
            ended: dict[str, Any]
            for task, ended in () if header.get("call") else ends.items():
                own: dict[str, Any] = ended.get("error") or {}
                t = self.tasks.get(task, {})
                counted = ended["status"] in _GIVEN_UP and t.get("kind") not in _DECIDING and "cxl" not in t
                with_its_run = task in stopped and bool(error) and own.get("message") == error.get("message")
                if counted and not with_its_run and own.get("type") not in _CORRECTED:
                    found.add(task)
        return found

    async def _quotas(self) -> None:
        """G12: what quotas count is what is claimed and open, and no count is above its quota."""
        names, client = self.shard.prefix, cast(Any, self.board.client)
        quotas = {k: json.loads(v) for k, v in (await client.hgetall(names + "quotas")).items()}
        use: dict[str, str] = await client.hgetall(names + "use")
        counted: dict[str, int] = defaultdict(int)
        for kind, records in (("n:", self.tasks), ("o:", self.runs)):
            for header in records.values():
                for subject in header.get("held", ()):
                    counted[kind + subject] += 1
        kept = {k: int(v) for k, v in use.items() if k[:2] in ("n:", "o:") and int(v)}
        self.check(kept == dict(counted), "G12 counts", kept, dict(counted))
        for task, t in self.tasks.items():
            self.check("held" not in t or t["state"] == "claimed", "G12 counted and not claimed", task)
        for subject, quota in quotas.items():
            for kind, most in (("n:", quota.get("c")), ("o:", quota.get("o"))):
                self.check(most is None or counted[kind + subject] <= most, "G12 quota", kind, subject, most)
