"""The invariants of agendas: the log alone tells what there is, every index holds exactly that, and somebody will pick.

For tests and for fault injection, like :mod:`blackboard.invariants`, which calls it; nobody may write meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from blackboard import _keys, events
from blackboard.activation import FACTS, Activation, AgendaFold, parse
from blackboard.board import Board
from blackboard.types import Status

SUBJECT = "/agenda"
"""How the subject of the events about an agenda ends."""
_TERMINAL = frozenset(status.value for status in Status)


async def versions(board: Board, shard: _keys.Shard, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The subject of each run's agenda and its version; a run that came from another board has only its log."""
    client, found = cast(Any, board.client), dict[str, int]()
    for run, header in runs.items():
        raw: str | None = await client.hget(shard.agenda(run)[0], "")
        if raw is not None and json.loads(raw)["ver"] and "imported" not in header:
            found[run + SUBJECT] = int(json.loads(raw)["ver"])
    return found


async def faults(
    board: Board, shard: _keys.Shard, run: str, header: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What does not hold on the agenda of one run.

    Args:
        tasks: headers of all tasks of the shard.
    """
    client = cast(Any, board.client)
    agenda, waiting, more = shard.agenda(run)
    fields: dict[str, str] = await client.hgetall(agenda)
    bad: list[str] = []

    def check(good: object, *words: object) -> None:
        if not good:
            bad.append(" ".join(map(str, (*words, "on the agenda of", run))))

    a: dict[str, Any] = json.loads(fields.pop("", "{}"))
    mine = {k: t for k, t in tasks.items() if t["run"] == run}
    if not a:
        check(not fields and not any("act" in t for t in mine.values()), "G9 activations without an agenda", fields)
        return bad
    log: list[tuple[str, dict[str, str]]] = await client.xrange(shard.log(run))
    facts = [events.parse(at, each, run, board.source) for at, each in log if each["type"].startswith(FACTS)]
    fold = AgendaFold(run).apply(facts)
    stored = {int(k): parse(run, raw) for k, raw in fields.items() if k.isdigit()}
    wrong = [n for n in stored.keys() | fold.activations.keys() if stored.get(n) != fold.activations.get(n)]
    check(not wrong, "G9 activations", [(stored.get(n), fold.activations.get(n)) for n in wrong[:2]])
    check(int(a["ver"]) == fold.version == len(facts), "G9 version", a["ver"], fold.version)
    check(sorted(stored) == list(range(1, int(a["q"]) + 1)), "G2 numbers", sorted(stored), a["q"])
    made = Counter((one.entry, one.entry_version, one.trigger) for one in stored.values())
    check(all(count == 1 for count in made.values()), "G2 made twice", [one for one, n in made.items() if n > 1])
    serials = Counter(one.capability for one in stored.values())
    counted = {k[2:]: int(v) for k, v in fields.items() if k.startswith("k:")}
    check(counted == dict(serials), "G2 counted", counted, dict(serials))
    _indexes(stored, dict(await client.zrange(waiting, 0, -1, withscores=True)), a, check)
    _tasks(stored, mine, a, check)
    active = header["state"] in ("queued", "running")
    step = any(t["kind"] == "step" and t["state"] not in _TERMINAL for t in mine.values())
    ready = a["w"] > 0 or (a["p"] > 0 and a["f"] > a["seen"])
    if active and ("pr" in a or (ready and a["busy"] - a.get("bids", 0) < header["ag"]["c"])):
        check(step or "ctl" in a, "G6 something waits and nobody will look at it", a)
    check(not active or not await client.llen(more) or a["w"] > 0 or "ctl" in a or step, "G6 triggers left to be made")
    return bad


def _indexes(stored: Mapping[int, Activation], index: Mapping[str, float], a: Mapping[str, Any], check: Any) -> None:
    wanted: dict[str, float] = {}
    for number, one in stored.items():
        if one.state == "parked":
            wanted[f"{number:010d}"] = float("inf")
        elif one.state == "waiting":
            rated = -one.rating if one.rating is not None else float("-inf")
            wanted[f"{number:010d}"] = one.pin if one.pin is not None else rated
    check(dict(index) == wanted, "G2 what waits", index, wanted)
    states = Counter(one.state for one in stored.values())
    check((a["w"], a["p"]) == (states["waiting"], states["parked"]), "G2 counts", a, states)


def _tasks(
    stored: Mapping[int, Activation], mine: Mapping[str, Mapping[str, Any]], a: Mapping[str, Any], check: Any
) -> None:
    carried = {int(t["act"]): k for k, t in mine.items() if "act" in t}
    picked = {number: one.task for number, one in stored.items() if one.state == "picked"}
    check(carried == picked, "G4 picked and posted", carried, picked)
    busy = sum("act" in t and t["state"] not in _TERMINAL for t in mine.values())
    check(a["busy"] == busy, "G12 picked and not over", a["busy"], busy)
    bids = sum("bid" in t and t["state"] not in _TERMINAL for t in mine.values())
    check(a.get("bids", 0) == bids, "G12 asked to bid and not over", a.get("bids", 0), bids)
    open_ = [k for k, t in mine.items() if t["kind"] == "control" and t["state"] not in _TERMINAL]
    check(open_ == ([a["ctl"]] if "ctl" in a else []), "G5 control tasks", open_, a.get("ctl"))
