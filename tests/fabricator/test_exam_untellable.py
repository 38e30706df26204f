"""G10: code has nothing to tell an exam from a task by, so it cannot behave in the one and not in the other.

The same code looks at everything it can see (its task, its process, the frames above it, what its calls are answered) in an
exam and in a task, and what it saw is compared. What is made up for an exam has the form of what is real.
"""

from __future__ import annotations

import re
import time
from typing import Any, cast

import pytest
from arbiter_support import arbiter
from pydantic import JsonValue

from arbiter import Call, Grants, Manifest, ScriptedModel
from blackboard.board import Board
from blackboard.testing import RedisServer
from fabricator.exam import Bench
from fabricator.sitting import Sittings
from fabricator.specification import Case
from registry.matching import passages
from wrapper.isolation import ProcessIsolation
from wrapper.preparing import made_up_task

LOOKS = '''
import gc, json, linecache, os, re, resource, signal, stat, sys, threading
from wrapper import sdk

def said(value):
    """Without what differs between any two runs: numbers that are addresses, ids and times."""
    return re.sub(r"0x[0-9a-f]+|\\br?[0-9a-f]{12,}\\b|[0-9]+", "#", str(value)[:300])

def frames():
    found, frame = [], sys._getframe(1)
    while frame is not None:
        names = {}
        for name, value in frame.f_locals.items():
            names[name] = type(value).__name__
            if isinstance(value, dict) and name == "run":
                names["keys of run"] = sorted(value)
                names["run"] = {k: v for k, v in value.items() if k not in ("task", "source")}
                names["task"] = sorted(value.get("task") or ())
        found.append([frame.f_code.co_name, names])
        frame = frame.f_back
    return found

def asked(function, *args, **named):
    try:
        return said(function(*args, **named))
    except sdk.CallError as error:
        return [error.type, said(error.message)]

def status():
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
    return {k: v for k, v in lines.items() if not k.startswith(("Vm", "Rss", "voluntary", "nonvoluntary", "Cpus", "Mems"))}

def descriptors():
    found = {}
    for number in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            kind = stat.S_IFMT(os.fstat(int(number)).st_mode)
            found[number] = [kind, said(os.readlink(f"/proc/self/fd/{number}"))]
        except OSError:
            pass
    return found

def listing(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return type(error).__name__

def handler(**given):
    task = sdk.current_task()
    seen = {
        "given": given,
        "task": {name: [type(value).__name__, said(value)] for name, value in (
            (each, getattr(task, each)) for each in sorted(task.__dataclass_fields__))},
        "attempt": task.attempt,
        "same": [task.idempotency_key == task.task_id, task.task_id.startswith(task.run_id + "/")],
        "run": re.sub("[0-9a-f]", "x", task.run_id),
        "place": re.sub("/[0-9]+[.]", "/#.", task.task_id.removeprefix(task.run_id)),
        "digits": len(str(task.fence)),
        "modules": sorted(sys.modules), "environ": dict(os.environ), "argv": sys.argv, "path": sys.path,
        "flags": str(sys.flags), "frames": frames(), "globals": sorted(globals()), "file": __file__, "name": __name__,
        "lines": sorted(linecache.cache),
        "types": sorted({type(each).__name__ for each in gc.get_objects()} - {"cell", "_Child"}),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
                   if name.startswith("RLIMIT") and name != "RLIMIT_AS"},
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0] >> 26,
        "status": status(), "descriptors": descriptors(), "here": [os.getcwd(), listing("."), listing("/"), listing("/tmp")],
        "ids": [os.getpid(), os.getppid(), os.getsid(0), os.getuid(), os.getgid(), os.uname().nodename],
        "threads": [each.name for each in threading.enumerate()],
        "signals": {each.name: said(signal.getsignal(each)) for each in signal.Signals},
        "streams": [said(sys.stdout), said(sys.stderr), os.fstat(1).st_size, os.fstat(2).st_size],
    }
    seen["asked"] = [
        asked(sdk.fetch, "https://no-such-host.invalid/x", headers={"x": "{{secret:KEY}}"}),
        asked(sdk.open_input, "rates"),
        asked(sdk.write_output, "note", b"content"),
        asked(sdk.call, "model.invoke", {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}),
        asked(sdk.call, "model.invoke", {"messages": []}),
        asked(sdk.call, "model.invoke", 1),
    ]
    return json.loads(json.dumps(seen))
'''
MANIFEST = Manifest(
    name="looks_around", description="look", input_schema={"type": "object"},
    grants=Grants(
        model=True, http_hosts=("no-such-host.invalid",), files=("rates=/no/such/file",), secrets=("KEY@no-such-host.invalid",)
    ),
)  # fmt: skip
GIVEN: dict[str, JsonValue] = {"a": 1, "b": ["text"]}


async def _in_an_exam(board: Board, isolation: ProcessIsolation) -> dict[str, Any]:
    model = ScriptedModel(["Good morning."] * 9)
    sittings = Sittings(MANIFEST, LOOKS, board, model=lambda: model, meaning=passages.meaning())
    bench = Bench(isolation, MANIFEST, LOOKS, case_seconds=7.0, sitting=sittings.open)
    result = await bench.examine([Case(name="a case", input=GIVEN, expected=None)])
    assert result.results[0].kind == "wrong_result", result
    return cast("dict[str, Any]", result.results[0].value)


async def _in_a_task(redis_server: RedisServer, isolation: ProcessIsolation) -> dict[str, Any]:
    async with arbiter(redis_server.url, ["Good morning."] * 9, isolation=isolation) as (a, _):
        await a.registry.register(MANIFEST, source=LOOKS)
        done = await a.run(Call(MANIFEST.name, GIVEN), timeout=60)
    assert done.status == "succeeded", done.error
    return cast("dict[str, Any]", done.data)


async def test_g10_an_exam_and_a_task_look_the_same_from_inside(
    redis_server: RedisServer, redis_board: Board, isolation: ProcessIsolation
) -> None:
    examined = await _in_an_exam(redis_board, isolation)
    at_work = await _in_a_task(redis_server, isolation)
    # A task that is called directly has no planner's round in its id.
    assert re.fullmatch(r"/#\.[a-z_]+", examined.pop("place"))
    assert re.fullmatch(r"/#\.[a-z_]+", at_work.pop("place"))
    for seen in (examined, at_work):
        seen["task"]["task_id"] = seen["task"]["idempotency_key"] = None
    assert set(examined) == set(at_work)
    for what in examined:
        assert examined[what] == at_work[what], what
    assert examined["asked"][0] == ["http", "There is no host no-such-host.invalid."]
    assert examined["limits"]["RLIMIT_CPU"][0] == 60, "not the seconds that the exam waits"


async def test_each_run_of_an_exam_has_a_task_of_its_own(isolation: ProcessIsolation) -> None:
    tasks = [made_up_task("looks_around") for _ in range(20)]
    assert len({task.run_id for task in tasks}) == 20
    assert all(re.fullmatch(r"r[0-9a-f]{23}/[1-9]\.looks_around", task.task_id) for task in tasks)


async def test_the_numbers_of_an_exam_are_as_old_as_those_of_a_task() -> None:
    """A run's id says when it was accepted and a fence when it was claimed; in a task both are a while ago."""
    before = time.time()
    tasks = [made_up_task("looks_around") for _ in range(50)]
    after = time.time()
    accepted = [int(task.run_id[1:12], 16) / 1000 for task in tasks]
    claimed = [task.fence / 1e6 for task in tasks]
    assert all(before - 101 <= at < after - 0.19 for at in accepted)
    assert all(before - 0.03 <= at < after - 0.0019 for at in claimed)
    assert len({round(after - at, 1) for at in accepted}) > 10, "an age of its own is as telling as none"


@pytest.mark.parametrize("what", ["model", "file", "host", "secret", "topic"])
async def test_what_is_not_granted_is_noticed_in_an_exam_too(
    redis_board: Board, isolation: ProcessIsolation, what: str
) -> None:
    """Where nothing outside is reached, what was asked for is judged all the same."""
    asks = {
        "model": "sdk.call('model.invoke', {'messages': []})",
        "file": "sdk.open_input('other')",
        "host": "sdk.fetch('https://elsewhere.invalid/')",
        "topic": "sdk.query('other.>')",
        "secret": "sdk.fetch('https://no-such-host.invalid/', headers={'x': '{{secret:ROOT}}'})",
    }[what]
    manifest = MANIFEST.model_copy(update={"grants": MANIFEST.grants.model_copy(update={"model": what != "model"})})
    source = f"from wrapper import sdk\n\ndef handler(**given):\n    return {asks}\n"
    sittings = Sittings(manifest, source, redis_board, model=None, meaning=passages.meaning())
    bench = Bench(isolation, manifest, source, case_seconds=20.0, sitting=sittings.open)
    result = await bench.examine([Case(name="a case", input={}, expected=None)])
    assert not result.passed
    assert sittings.excess, result


async def test_a_candidate_that_is_no_text_fails_its_exam(isolation: ProcessIsolation) -> None:
    bench = Bench(isolation, MANIFEST, "def handler():\n    return '\ud800'\n", case_seconds=5.0)
    result = await bench.examine([Case(name="a case", input={}, expected=None)])
    assert result.results[0].kind == "syntax_error"
